// A connection without a socket: a FakeStream for the code under test, and the FakePeer at its
// other end for the test.
//
//   FakePeer peer;
//   ServerConnection connection(context, owner, peer.Connect());
//   peer.Send("GET / HTTP/1.1\r\n\r\n");
//   peer.Run();
//   CHECK(peer.received() == "HTTP/1.1 ...");
//
// Run() does what the loop does: as long as the stream waits for something that is there, its
// listener is told. A listener that is told the same thing again and again and does nothing about
// it spins; Run() gives up on it, and spun() is true.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "agent/base/check.h"
#include "agent/event/pipe.h"
#include "agent/event/stream.h"

namespace modal::test {

class FakePeer {
 public:
  // The other end. The FakePeer outlives it; one at a time.
  std::unique_ptr<event::Stream> Connect();

  // What this end does.
  void Send(std::string_view data) { to_read_ += data; }
  void ShutdownWrite() { end_ = true; }
  void Break(int error = ECONNRESET) { error_ = error; }
  // Writing to it fails from now on; what it has sent can still be read.
  void StopListening() { deaf_ = true; }
  // Pipes do not work with it from now on.
  void RefusePipes() { refuses_pipes_ = true; }
  // From now on takes this many bytes more. At first it takes all.
  void TakeOnly(size_t bytes) { room_ = bytes; }
  // At most so many bytes a read.
  void ReadInPiecesOf(size_t bytes) { piece_ = bytes; }

  void Run();

  // What it sees.
  const std::string& received() const { return received_; }
  std::string TakeReceived() { return std::exchange(received_, {}); }
  bool at_end() const { return shut_ || closed_; }  // the stream will send no more
  bool closed() const { return closed_; }           // not only shut on one side
  bool reset() const { return reset_; }
  bool spun() const { return spun_; }
  size_t unread() const { return to_read_.size(); }
  size_t calls() const { return calls_; }  // of the stream, so far
  bool waits_to_read() const { return wait_.readable; }
  bool waits_to_write() const { return wait_.writable; }

 private:
  class Stream;

  event::Poller::Ready ReadyNow() const {
    return {wait_.readable && (!to_read_.empty() || end_ || error_ != 0),
            wait_.writable && (room_ > 0 || error_ != 0 || deaf_)};
  }

  event::StreamListener* listener_ = nullptr;
  event::Poller::Ready wait_{false, false};
  std::string to_read_;
  std::string received_;
  bool end_ = false;
  int error_ = 0;
  bool deaf_ = false;
  bool refuses_pipes_ = false;
  size_t room_ = std::numeric_limits<size_t>::max();
  size_t piece_ = std::numeric_limits<size_t>::max();
  bool shut_ = false;
  bool closed_ = false;
  bool reset_ = false;
  bool spun_ = false;
  size_t calls_ = 0;  // of the stream, by the code under test
};

class FakePeer::Stream : public event::Stream {
 public:
  explicit Stream(FakePeer& peer) : peer_(peer) {}
  ~Stream() override { Close(); }

  void Listen(event::StreamListener& listener) override { peer_.listener_ = &listener; }
  void WaitFor(bool readable, bool writable) override {
    if (peer_.closed_) return;
    if (readable != peer_.wait_.readable || writable != peer_.wait_.writable) ++peer_.calls_;
    peer_.wait_ = {readable, writable};
  }

  event::IoResult Read(std::span<char> buffer) override {
    using Kind = event::IoResult::Kind;
    ++peer_.calls_;
    if (peer_.closed_) return {Kind::kError, 0, EBADF};
    if (peer_.error_ != 0) return {Kind::kError, 0, peer_.error_};
    if (peer_.to_read_.empty()) return {peer_.end_ ? Kind::kEnd : Kind::kAgain};
    const size_t size = std::min({buffer.size(), peer_.to_read_.size(), peer_.piece_});
    std::copy_n(peer_.to_read_.begin(), size, buffer.begin());
    peer_.to_read_.erase(0, size);
    return {Kind::kDone, size};
  }

  event::IoResult Write(std::string_view data) override {
    using Kind = event::IoResult::Kind;
    ++peer_.calls_;
    if (peer_.closed_) return {Kind::kError, 0, EBADF};
    if (peer_.error_ != 0 || peer_.deaf_ || peer_.shut_) return {Kind::kError, 0, EPIPE};
    const size_t size = std::min(data.size(), peer_.room_);
    if (size == 0) return {Kind::kAgain};
    peer_.received_ += data.substr(0, size);
    peer_.room_ -= size;
    return {Kind::kDone, size};
  }

  event::IoResult Write(std::span<const std::string_view> pieces) override {
    std::string all;
    for (const std::string_view piece : pieces) all += piece;
    return Write(all);
  }

  event::IoResult ReadInto(event::Pipe& pipe, size_t most) override {
    ++peer_.calls_;
    if (peer_.refuses_pipes_) return {event::IoResult::Kind::kError, 0, EINVAL};
    std::string text(std::min<size_t>(most, 4096), '\0');
    // As splice(2) does it.
    if (text.empty()) return {event::IoResult::Kind::kEnd};
    const event::IoResult result = Read(text);
    if (result.kind != event::IoResult::Kind::kDone) return result;
    MODAL_CHECK(::write(pipe.write_end(), text.data(), result.size) ==
                static_cast<ssize_t>(result.size));
    pipe.Count(static_cast<ptrdiff_t>(result.size));
    return result;
  }
  event::IoResult WriteFrom(event::Pipe& pipe) override {
    std::string text(std::min(pipe.size(), peer_.room_), '\0');
    if (peer_.closed_ || peer_.error_ != 0 || peer_.deaf_ || peer_.shut_ || text.empty()) {
      return Write(text);
    }
    MODAL_CHECK(::read(pipe.read_end(), text.data(), text.size()) ==
                static_cast<ssize_t>(text.size()));
    pipe.Count(-static_cast<ptrdiff_t>(text.size()));
    return Write(text);
  }

  void ShutdownWrite() override {
    ++peer_.calls_;
    peer_.shut_ = true;
  }
  void Close() override {
    ++peer_.calls_;
    peer_.wait_ = {false, false};
    peer_.listener_ = nullptr;
    peer_.closed_ = true;
  }
  void Reset() override {
    if (!peer_.closed_) peer_.reset_ = true;
    Close();
  }

 private:
  FakePeer& peer_;
};

inline std::unique_ptr<event::Stream> FakePeer::Connect() {
  return std::make_unique<Stream>(*this);
}

inline void FakePeer::Run() {
  for (int idle = 0; idle < 3;) {
    const event::Poller::Ready ready = ReadyNow();
    if (listener_ == nullptr || (!ready.readable && !ready.writable)) return;
    const size_t calls = calls_;
    listener_->OnReady(ready);
    idle = calls_ == calls ? idle + 1 : 0;
  }
  spun_ = true;
}

}  // namespace modal::test

// A non-blocking byte stream: one connection, seen from this end.
//
// The stream never buffers: Read() and Write() are the system calls, and what a Write() does not
// take is the caller's to keep. The listener hears of readiness that it waits for, level-triggered;
// it may close or destroy the stream from there. A closed or destroyed stream is silent. Errors of
// the connection come out of the next Read() or Write().
//
// SocketStream is the real one. FakeStream (tests/support/fake_stream.h) is a test's other end.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/event/loop.h"
#include "agent/event/poller.h"

namespace modal::event {

// How a Read() or a Write() went.
struct IoResult {
  enum class Kind {
    kDone,   // `size` bytes were moved (at least one)
    kAgain,  // not now; wait for readiness
    kEnd,    // Read() only: the other end has sent all it will
    kError,  // the connection is broken, `error` is the errno
  };
  Kind kind;
  size_t size = 0;
  int error = 0;
};

class StreamListener {
 public:
  virtual ~StreamListener() = default;
  virtual void OnReady(Poller::Ready ready) = 0;
};

class Pipe;

class Stream {
 public:
  virtual ~Stream() = default;

  // Who hears of readiness, and of which. Nothing is waited for at first.
  virtual void Listen(StreamListener& listener) = 0;
  virtual void WaitFor(bool readable, bool writable) = 0;

  virtual IoResult Read(std::span<char> buffer) = 0;
  virtual IoResult Write(std::string_view data) = 0;
  // The same for several pieces one after the other, at most kMostPieces, not all empty; `size` is
  // what was taken of all.
  static constexpr size_t kMostPieces = 4;
  virtual IoResult Write(std::span<const std::string_view> pieces) = 0;

  // As Read() and Write(), by way of a pipe; at most `most` bytes into it, all that is in it out of
  // it. kError with EINVAL: not with this stream.
  virtual IoResult ReadInto(Pipe& pipe, size_t most) = 0;
  virtual IoResult WriteFrom(Pipe& pipe) = 0;

  // Tells the other end now that what it sent has come, and not with the next bytes or after a
  // while: it may be waiting for that before it sends the rest (Nagle's algorithm, RFC 896).
  virtual void AcknowledgeNow() {}

  // What stands between this stream and its connection, in words, where no errno can tell ("the
  // name 'db' has no address: …"). Empty: nothing, or nothing but the other end.
  virtual std::string Trouble() const { return {}; }

  // Nothing more will be written; the other end sees the end, and may still send.
  virtual void ShutdownWrite() = 0;
  // Closes now. What was written still goes out, unless the other end sent something unread.
  virtual void Close() = 0;
  // Closes and forgets what was not delivered: the other end sees a reset, not an end.
  virtual void Reset() = 0;
};

class SocketStream : public Stream {
 public:
  // `fd` is a connected (or connecting) non-blocking socket.
  static Result<std::unique_ptr<SocketStream>> Open(Loop& loop, UniqueFd fd);

  void Listen(StreamListener& listener) override { listener_ = &listener; }
  void WaitFor(bool readable, bool writable) override;
  IoResult Read(std::span<char> buffer) override;
  IoResult Write(std::string_view data) override;
  IoResult Write(std::span<const std::string_view> pieces) override;
  IoResult ReadInto(Pipe& pipe, size_t most) override;
  IoResult WriteFrom(Pipe& pipe) override;
  void AcknowledgeNow() override;
  void ShutdownWrite() override;
  void Close() override;
  void Reset() override;

  int fd() const { return fd_.get(); }

 private:
  explicit SocketStream(UniqueFd fd) : fd_(std::move(fd)) {}
  void OnReady(Poller::Ready ready);

  UniqueFd fd_;
  StreamListener* listener_ = nullptr;
  // What is wanted, and what the kernel has been told. Telling it less is put off until it reports
  // what nobody wants: between two requests that saves two system calls.
  Poller::Ready wanted_{false, false};
  Poller::Ready told_{false, false};
  std::unique_ptr<Poller> poller_;
};

}  // namespace modal::event

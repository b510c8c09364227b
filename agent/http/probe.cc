#include "agent/http/probe.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "agent/base/strings.h"
#include "agent/event/connect.h"
#include "agent/event/stream.h"
#include "agent/http/status_reader.h"

namespace modal::http {
namespace {

bool IsSendable(std::string_view path) {
  return path.starts_with('/') && std::none_of(path.begin(), path.end(), [](char c) {
           return static_cast<unsigned char>(c) <= ' ' || c == '\x7f';
         });
}

std::string RequestText(std::string_view path, uint16_t port) {
  return Concat("GET ", path, " HTTP/1.1\r\nHost: localhost:", port,
                "\r\nUser-Agent: modal-agent-health\r\nAccept: */*\r\nConnection: close\r\n\r\n");
}

std::string ErrnoText(std::string_view what, int code) {
  return Error::FromErrno(what, code).message();
}

Result<std::unique_ptr<event::Stream>> Connect(event::Loop& loop,
                                               const Result<SocketAddress>& address) {
  if (!address) return Error(address.error().message());
  Result<UniqueFd> fd = event::StartConnect(*address);
  if (!fd) return std::move(fd.error());
  Result<std::unique_ptr<event::SocketStream>> stream =
      event::SocketStream::Open(loop, *std::move(fd));
  if (!stream) return std::move(stream.error());
  return std::unique_ptr<event::Stream>(*std::move(stream));
}

}  // namespace

class Probe::Impl final : private event::StreamListener {
 public:
  Impl(Clock& clock, Result<std::unique_ptr<event::Stream>> stream, uint16_t port,
       std::string_view path, Milliseconds timeout, std::function<void(const ProbeResult&)> on_done)
      : clock_(clock), timeout_(timeout), on_done_(std::move(on_done)) {
    Result<void> started = Start(std::move(stream), port, path);
    if (started) {
      timer_ = clock_.After(timeout_, [this] { OnTimeout(); });
    } else {
      result_.error = started.error().message();
      timer_ = clock_.After(Milliseconds(0), [this] { Done(); });
    }
  }

 private:
  enum class State { kConnecting, kSending, kReading };

  Result<void> Start(Result<std::unique_ptr<event::Stream>> stream, uint16_t port,
                     std::string_view path) {
    if (!stream) return std::move(stream.error());
    if (!IsSendable(path)) {
      return Error("the path must start with '/' and have no space or control character in it");
    }
    request_ = RequestText(path, port);
    stream_ = *std::move(stream);
    stream_->Listen(*this);
    stream_->WaitFor(false, true);
    return {};
  }

  void OnReady(event::Poller::Ready) override {
    const std::optional<std::string> error = Advance();
    if (error) result_.error = *error;
    if (error || result_.status != 0) Done();
  }

  // An error, or nothing; it is over once there is a status.
  std::optional<std::string> Advance() {
    if (state_ != State::kReading) {
      const event::IoResult sent = stream_->Write(std::string_view(request_).substr(sent_));
      if (sent.kind == event::IoResult::Kind::kError) return WhyNotSent(sent.error);
      if (sent.kind == event::IoResult::Kind::kDone) state_ = State::kSending;
      sent_ += sent.size;
      if (sent_ < request_.size()) return std::nullopt;
      state_ = State::kReading;
      stream_->WaitFor(true, false);
      return std::nullopt;
    }
    return ReadAnswer();
  }

  // The first write tells how connecting went.
  std::string WhyNotSent(int code) const {
    if (std::string trouble = stream_->Trouble(); !trouble.empty()) return trouble;
    return ErrnoText(state_ == State::kConnecting ? "connect" : "send", code);
  }

  std::optional<std::string> ReadAnswer() {
    std::array<char, 4096> buffer;
    const event::IoResult got = stream_->Read(buffer);
    StatusReader::State state = StatusReader::State::kMore;
    switch (got.kind) {
      case event::IoResult::Kind::kAgain:
        return std::nullopt;
      case event::IoResult::Kind::kError:
        return ErrnoText("read the answer", got.error);
      case event::IoResult::Kind::kEnd:
        state = reader_.Finish();
        break;
      case event::IoResult::Kind::kDone:
        state = reader_.Feed({buffer.data(), got.size});
        break;
    }
    if (state == StatusReader::State::kFailed) return std::string(reader_.error());
    if (state == StatusReader::State::kDone) result_.status = reader_.status();
    return std::nullopt;
  }

  void OnTimeout() {
    const char* const missing = state_ == State::kConnecting ? "no connection" : "no answer";
    const std::string trouble = stream_ ? stream_->Trouble() : std::string();
    result_.error =
        Concat(missing, " within ", timeout_.count(), " ms", trouble.empty() ? "" : ": ", trouble);
    Done();
  }

  // The callback may destroy this, and with it the function that is running.
  void Done() {
    if (stream_) stream_->Close();
    timer_.reset();
    const ProbeResult result = std::move(result_);
    const std::function<void(const ProbeResult&)> on_done = std::move(on_done_);
    on_done(result);
  }

  Clock& clock_;
  const Milliseconds timeout_;
  std::function<void(const ProbeResult&)> on_done_;
  ProbeResult result_;
  State state_ = State::kConnecting;
  std::string request_;
  size_t sent_ = 0;
  StatusReader reader_;
  std::unique_ptr<event::Stream> stream_;
  std::unique_ptr<Timer> timer_;
};

Probe::Probe(event::Loop& loop, Clock& clock, const SocketAddress& address, std::string_view path,
             Milliseconds timeout, std::function<void(const ProbeResult&)> on_done)
    : Probe(clock, Connect(loop, address), address.port(), path, timeout, std::move(on_done)) {}

Probe::Probe(Clock& clock, Result<std::unique_ptr<event::Stream>> stream, uint16_t port,
             std::string_view path, Milliseconds timeout,
             std::function<void(const ProbeResult&)> on_done)
    : impl_(std::make_unique<Impl>(clock, std::move(stream), port, path, timeout,
                                   std::move(on_done))) {}

Probe::Probe(event::Loop& loop, Clock& clock, std::string_view address, uint16_t port,
             std::string_view path, Milliseconds timeout,
             std::function<void(const ProbeResult&)> on_done)
    : Probe(clock, Connect(loop, SocketAddress::Parse(address, port)), port, path, timeout,
            std::move(on_done)) {}

Probe::~Probe() = default;

}  // namespace modal::http

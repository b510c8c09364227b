#include "agent/event/named_stream.h"

#include <cerrno>
#include <utility>

#include "agent/base/strings.h"

namespace modal::event {

Result<std::unique_ptr<Stream>> NamedStream::Open(Loop& loop, Clock& clock, Resolver& resolver,
                                                  const Destination& server,
                                                  Milliseconds patience) {
  std::unique_ptr<NamedStream> stream(new NamedStream(loop, clock, resolver, server, patience));
  if (const Resolver::Answer* answer = resolver.Find(server.name(), *stream)) {
    stream->Take(*answer);
  }
  if (stream->state_ != State::kFailed) return std::unique_ptr<Stream>(std::move(stream));
  if (!stream->trouble_.empty()) return Error(stream->trouble_);
  return Error::FromErrno("connect", stream->error_);
}

NamedStream::NamedStream(Loop& loop, Clock& clock, Resolver& resolver, const Destination& server,
                         Milliseconds patience)
    : loop_(loop), clock_(clock), resolver_(resolver), server_(server), patience_(patience) {}

NamedStream::~NamedStream() { resolver_.Forgo(*this); }

// ---- Until there is a connection ----

void NamedStream::OnResolved(const Resolver::Answer& answer) {
  Take(answer);
  if (state_ == State::kFailed) Tell();
}

void NamedStream::Take(const Resolver::Answer& answer) {
  addresses_ = answer.addresses;
  trouble_ = answer.trouble;
  TryNext();
}

// The next address with which it does not fail at once.
void NamedStream::TryNext() {
  state_ = State::kConnecting;
  share_.reset();
  stream_.reset();
  while (next_ < addresses_.size()) {
    const SocketAddress& address = addresses_[next_++];
    const Result<void> tried = Try(address);
    if (!tried) {
      error_ = tried.error().code();
      continue;
    }
    // The last one has all the time that is left.
    if (next_ < addresses_.size()) {
      const Milliseconds share = patience_ / static_cast<int64_t>(addresses_.size());
      share_ = clock_.After(share, [this] { OnSilent(); });
    }
    return;
  }
  state_ = State::kFailed;
  if (!addresses_.empty()) resolver_.NoteNoneWorks(server_.name());
}

Result<void> NamedStream::Try(const SocketAddress& address) {
  Result<UniqueFd> fd = StartConnect(*SocketAddress::Parse(address.host(), server_.port()));
  if (!fd) return std::move(fd.error());
  Result<std::unique_ptr<SocketStream>> stream = SocketStream::Open(loop_, *std::move(fd));
  if (!stream) return std::move(stream.error());
  stream_ = *std::move(stream);
  stream_->Listen(*this);
  stream_->WaitFor(false, true);
  return {};
}

void NamedStream::OnSilent() {
  error_ = ETIMEDOUT;
  TryNext();
  if (state_ == State::kFailed) Tell();
}

void NamedStream::OnReady(Poller::Ready) {
  error_ = ConnectOutcome(stream_->fd());
  if (error_ != 0) {
    TryNext();
    if (state_ == State::kFailed) Tell();
    return;
  }
  state_ = State::kConnected;
  share_.reset();
  resolver_.NoteWorks(server_.name(), addresses_[next_ - 1]);
  if (listener_ != nullptr) stream_->Listen(*listener_);
  stream_->WaitFor(wanted_.readable, wanted_.writable);
}

// That it has failed; never from inside a call of the listener's.
void NamedStream::Tell() {
  if (listener_ == nullptr || (!wanted_.readable && !wanted_.writable)) return;
  tell_ = clock_.After(Milliseconds(0), [this] {
    tell_.reset();
    if (state_ == State::kFailed) listener_->OnReady(wanted_);  // last: we may be gone after it
  });
}

IoResult NamedStream::NotConnected() const {
  if (state_ != State::kFailed) return {IoResult::Kind::kAgain};
  return {IoResult::Kind::kError, 0, error_ != 0 ? error_ : EHOSTUNREACH};
}

std::string NamedStream::Trouble() const {
  if (state_ != State::kFinding) return trouble_;
  return Concat("the name '", server_.name(), "' has no address yet: no name server has answered");
}

// ---- The stream ----

void NamedStream::Listen(StreamListener& listener) {
  listener_ = &listener;
  if (state_ == State::kConnected) stream_->Listen(listener);
}

void NamedStream::WaitFor(bool readable, bool writable) {
  wanted_ = {readable, writable};
  if (state_ == State::kConnected) {
    stream_->WaitFor(readable, writable);
  } else if (state_ == State::kFailed) {
    Tell();
  }
}

IoResult NamedStream::Read(std::span<char> buffer) {
  return state_ == State::kConnected ? stream_->Read(buffer) : NotConnected();
}

IoResult NamedStream::Write(std::string_view data) {
  return state_ == State::kConnected ? stream_->Write(data) : NotConnected();
}

IoResult NamedStream::Write(std::span<const std::string_view> pieces) {
  return state_ == State::kConnected ? stream_->Write(pieces) : NotConnected();
}

IoResult NamedStream::ReadInto(Pipe& pipe, size_t most) {
  return state_ == State::kConnected ? stream_->ReadInto(pipe, most) : NotConnected();
}

IoResult NamedStream::WriteFrom(Pipe& pipe) {
  return state_ == State::kConnected ? stream_->WriteFrom(pipe) : NotConnected();
}

void NamedStream::AcknowledgeNow() {
  if (state_ == State::kConnected) stream_->AcknowledgeNow();
}

void NamedStream::ShutdownWrite() {
  if (state_ == State::kConnected) stream_->ShutdownWrite();
}

void NamedStream::Close() {
  if (stream_) stream_->Close();
  state_ = State::kClosed;
  share_.reset();
  tell_.reset();
  resolver_.Forgo(*this);
}

void NamedStream::Reset() {
  if (stream_) stream_->Reset();
  Close();
}

}  // namespace modal::event

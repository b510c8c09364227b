#include "agent/http/client_connection.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "agent/base/check.h"

namespace modal::http {
namespace {

constexpr size_t kReadSize = size_t{64} * 1024;
constexpr size_t kHighWater = size_t{64} * 1024;
constexpr size_t kLowWater = size_t{16} * 1024;
constexpr int kMostInterims = 100;
// On loopback.
constexpr uint64_t kFullSegment = uint64_t{64} * 1024;
// Servers that say they keep idle connections for at least this long are believed.
constexpr uint32_t kLongSeconds = 5;
constexpr Milliseconds kLonger{4'000};

}  // namespace

ClientContext::ClientContext(Clock& clock, const ClientOptions& client_options)
    : options(client_options),
      deadlines(clock, {options.connect_timeout, options.first_byte_timeout, options.idle_timeout,
                        options.pool_timeout, kLonger}),
      read_buffer(kReadSize) {}

void ClientContext::Configure(const ClientOptions& fresh) {
  options = fresh;
  deadlines.SetDuration(kForConnection, options.connect_timeout);
  deadlines.SetDuration(kForFirstByte, options.first_byte_timeout);
  deadlines.SetDuration(kForProgress, options.idle_timeout);
  deadlines.SetDuration(kInPool, options.pool_timeout);
}

ClientConnection::ClientConnection(ClientContext& context, Owner& owner,
                                   std::unique_ptr<event::Stream> stream)
    : context_(context),
      owner_(owner),
      stream_(std::move(stream)),
      parser_(ParserLimits{context.options.max_head, 256}),
      out_(context.buffers, sent_) {
  stream_->Listen(*this);
}

ClientConnection::~ClientConnection() { context_.deadlines.Clear(*this); }

// ---- The request ----

void ClientConnection::Begin(ClientUser& user, Method method, BodyFraming framing) {
  MODAL_CHECK(state_ == State::kIdle);
  out_.text() += "\r\n";
  user_ = &user;
  state_ = State::kBusy;
  framing_ = framing;
  ended_ = answered_ = paused_ = blocked_ = silence_ = splices_ = body_due_ = false;
  restart_wait_ = true;
  interims_ = 0;
  sent_before_ = sent_;
  parser_.Reset();
  parser_.ExpectAnswerTo(method);
  // With a body, head and first piece are likely to follow each other at once.
  if (framing != BodyFraming::kNone) return FlushSoon();
  ended_ = true;
  Flush();
  UpdateWaits();
}

bool ClientConnection::Write(std::string_view data) {
  if (state_ != State::kBusy || broken_ || data.empty()) return true;
  bool works = true;
  if (framing_ == BodyFraming::kChunked) {
    std::string line;  // short: no memory of its own
    AppendChunkLine(line, data.size());
    works = out_.Put(*stream_, line, data, "\r\n");
  } else {
    works = out_.Put(*stream_, {}, data, {});
  }
  if (!works) OnBroken();
  Flush();
  UpdateWaits();
  if (out_.size() < kHighWater) return true;
  blocked_ = true;
  return false;
}

void ClientConnection::End(std::span<const Header> trailers) {
  if (state_ != State::kBusy || ended_) return;
  ended_ = true;
  if (framing_ == BodyFraming::kChunked && !broken_) AppendLastChunk(out_.text(), trailers);
  restart_wait_ = true;
  Flush();
  UpdateWaits();
}

void ClientConnection::FlushSoon() {
  if (scheduled) return;
  owner_.Schedule(*this);
}

bool ClientConnection::Flush() {
  if (broken_ || state_ == State::kClosed) return false;
  if (!out_.Flush(*stream_)) {
    OnBroken();
    return false;
  }
  if (out_.TakeProgress()) {
    connected_ = true;
    restart_wait_ = true;
  }
  return true;
}

// Nothing can be sent any more. The server may have answered before it closed; reading tells, and
// tells the reason too.
void ClientConnection::OnBroken() {
  broken_ = true;
  (void)out_.TakeAll();
  FlushSoon();
}

void ClientConnection::OnTurn() {
  if (state_ != State::kBusy) return;
  if (broken_) return Read();
  Flush();
  EndIfWhole();
  UpdateWaits();
}

// ---- From the loop ----

void ClientConnection::OnReady(event::Poller::Ready ready) {
  if (state_ == State::kClosed) return;
  if (ready.writable) {
    out_.OnWritable();
    Flush();
    if (blocked_ && out_.size() <= kLowWater && state_ == State::kBusy) {
      blocked_ = false;
      user_->OnRequestDrained();
    }
  }
  if (ready.readable || broken_) Read();
  UpdateWaits();
}

void ClientConnection::OnDeadline(size_t wait) {
  switch (wait) {
    case ClientContext::kForConnection:
      // There may be nobody yet to accept it.
      if (const std::string trouble = stream_->Trouble(); !trouble.empty()) {
        return Fail(ClientFailure::kConnect, trouble);
      }
      return Fail(ClientFailure::kConnectTimeout, "the server did not accept the connection");
    case ClientContext::kForFirstByte:
      return Fail(ClientFailure::kFirstByteTimeout, "the server did not begin to answer");
    case ClientContext::kForProgress:
      return Fail(ClientFailure::kIdleTimeout,
                  answered_ ? "the server stopped answering" : "the server stopped reading");
    default:  // in the pool
      return CloseIdle();
  }
}

void ClientConnection::Read() {
  if (state_ == State::kClosed || (paused_ && !broken_)) return;
  if (splices_ && state_ == State::kBusy) {
    // Else what can be read, or the end, comes after this answer.
    if (parser_.body_left() > 0) user_->OnAnswerReadable();
    return EndIfWhole();
  }
  const event::IoResult result = stream_->Read(context_.read_buffer);
  switch (result.kind) {
    case event::IoResult::Kind::kAgain:
      if (broken_) Fail(ClientFailure::kClosed, "the connection to the server broke");
      return;
    case event::IoResult::Kind::kEnd:
      return OnEndOfInput();
    case event::IoResult::Kind::kError:
      if (state_ == State::kIdle) return Close();
      if (const std::string trouble = stream_->Trouble(); !trouble.empty()) {
        return Fail(ClientFailure::kConnect, trouble);
      }
      return Fail(connected_ ? ClientFailure::kClosed : ClientFailure::kConnect,
                  ::strerror(out_.error() != 0 ? out_.error() : result.error));
    case event::IoResult::Kind::kDone:
      break;
  }
  // Nobody has asked for anything.
  if (state_ == State::kIdle) return Close();
  connected_ = true;
  answered_ = true;
  restart_wait_ = true;
  filled_ = result.size == context_.read_buffer.size();
  Consume({context_.read_buffer.data(), result.size});
  // What a server sent before it broke is all there is to come.
  if (broken_ && state_ == State::kBusy) FlushSoon();
}

// With SpliceAnswer(): all of the body has been read, and has gone on (or we were told to wait).
void ClientConnection::EndIfWhole() {
  if (state_ == State::kBusy && splices_ && !paused_ && parser_.body_left() == 0) Consume({});
}

bool ClientConnection::SpliceAnswer() {
  splices_ = state_ == State::kBusy && answer_left() > 0;
  return splices_;
}

uint64_t ClientConnection::answer_left() const {
  const ReceivedResponse& response = parser_.response();
  return response.has_body && response.content_length ? parser_.body_left() : 0;
}

event::IoResult ClientConnection::ReadAnswerInto(event::Pipe& pipe) {
  const event::IoResult result =
      stream_->ReadInto(pipe, static_cast<size_t>(std::min<uint64_t>(
                                  parser_.body_left(), std::numeric_limits<int32_t>::max())));
  switch (result.kind) {
    case event::IoResult::Kind::kDone:
      parser_.SkipBody(result.size);
      restart_wait_ = true;
      break;
    case event::IoResult::Kind::kError:
    case event::IoResult::Kind::kEnd:
      // Reading in the usual way tells what it is.
      splices_ = false;
      FlushSoon();
      break;
    case event::IoResult::Kind::kAgain:
      break;
  }
  return result;
}

bool ClientConnection::CanSpliceRequest() const {
  return state_ == State::kBusy && framing_ == BodyFraming::kLength && out_.empty() && !broken_ &&
         connected_;
}

void ClientConnection::WriteFrom(event::Pipe& pipe) {
  if (state_ != State::kBusy || broken_) return;
  // On a new connection, for a second try, the head may be waiting yet.
  if (!Flush()) return;
  if (!out_.empty()) {
    blocked_ = true;
    return UpdateWaits();
  }
  const event::IoResult result = stream_->WriteFrom(pipe);
  if (result.kind == event::IoResult::Kind::kError) return OnBroken();
  sent_ += result.size;
  if (result.size > 0) restart_wait_ = true;
  blocked_ = !pipe.empty();
  UpdateWaits();
}

void ClientConnection::Consume(std::string_view input) {
  input_ = input;
  while (state_ == State::kBusy) {
    const ResponseParser::Step step = parser_.Next(input_);
    input_.remove_prefix(step.consumed);
    switch (step.event) {
      case ResponseParser::Event::kMore:
        // Many a server writes head and body apart. A large body does not wait: its first segment
        // is a full one.
        if (body_due_ && parser_.response().content_length.value_or(0) < kFullSegment) {
          stream_->AcknowledgeNow();
        }
        body_due_ = false;
        return user_->OnAnswerPause();
      case ResponseParser::Event::kHead:
        OnHead();
        break;
      case ResponseParser::Event::kBody:
        body_due_ = false;
        user_->OnAnswerBody(step.data);
        break;
      case ResponseParser::Event::kEnd:
        return OnEnd();
      case ResponseParser::Event::kError:
        return Fail(ClientFailure::kBadAnswer, parser_.error().message);
    }
  }
}

void ClientConnection::OnHead() {
  const ReceivedResponse& response = parser_.response();
  if (!response.interim) {
    body_due_ = response.has_body;
    return user_->OnAnswerHead(response);
  }
  if (++interims_ > kMostInterims) {
    return Fail(ClientFailure::kBadAnswer, "the server sends interim answers and no other");
  }
  // That one is for us: the body is on its way anyway.
  if (response.status != 100) user_->OnAnswerInterim(response);
}

void ClientConnection::OnEnd() {
  const bool reusable = parser_.response().keep_alive && ended_ && out_.empty() && !broken_ &&
                        input_.empty() && !parser_.response().switches && !HasMore();
  used_ = true;
  longer_ = parser_.response().keep_alive_seconds.value_or(0) >= kLongSeconds;
  ClientUser& user = *std::exchange(user_, nullptr);
  if (reusable) {
    Release();
  } else {
    Close();
  }
  user.OnAnswerEnd(parser_.trailers());
}

// Something waits behind the answer that nobody asked for: the next request must not take it for
// its own. Where the last read took less than it could there was nothing more.
bool ClientConnection::HasMore() { return (splices_ || filled_) && !LooksAlive(); }

bool ClientConnection::LooksAlive() {
  return stream_->Read(context_.read_buffer).kind == event::IoResult::Kind::kAgain;
}

void ClientConnection::Release() {
  state_ = State::kIdle;
  restart_wait_ = true;
  UpdateWaits();
  owner_.OnIdle(*this);
}

void ClientConnection::OnEndOfInput() {
  if (state_ == State::kIdle) return Close();
  // What writing has found out (and taken away from reading) is why there is nothing to read.
  if (broken_ && !connected_) return Fail(ClientFailure::kConnect, ::strerror(out_.error()));
  if (parser_.Finish()) return OnEnd();
  Fail(ClientFailure::kClosed, parser_.error().message);
}

// ---- Ending ----

void ClientConnection::Fail(ClientFailure failure, std::string_view message) {
  if (state_ != State::kBusy) return Close();
  ClientUser& user = *std::exchange(user_, nullptr);
  const ClientError error{failure, message, answered_, used_, sent_ == sent_before_};
  Close();
  user.OnAnswerFailed(error);
}

void ClientConnection::Abandon() {
  user_ = nullptr;
  Close();
}

void ClientConnection::CloseIdle() {
  MODAL_CHECK(state_ == State::kIdle);
  Close();
}

// A server that has not been told everything must see that it was cut off, not that we ended.
void ClientConnection::Close() {
  if (state_ == State::kClosed) return;
  const bool whole = state_ == State::kIdle || (ended_ && out_.empty());
  state_ = State::kClosed;
  input_ = {};
  context_.deadlines.Clear(*this);
  if (whole) {
    stream_->Close();
  } else {
    stream_->Reset();
  }
  owner_.OnClosed(*this);
}

DetachedConnection ClientConnection::TakeOver() {
  MODAL_CHECK(state_ == State::kBusy);
  DetachedConnection detached{std::move(stream_), std::string(input_), out_.TakeAll()};
  user_ = nullptr;
  state_ = State::kClosed;
  input_ = {};
  context_.deadlines.Clear(*this);
  owner_.OnClosed(*this);
  return detached;
}

void ClientConnection::PauseAnswer() {
  paused_ = true;
  UpdateWaits();
}

void ClientConnection::ResumeAnswer() {
  if (!paused_) return;
  paused_ = false;
  restart_wait_ = true;
  if (splices_) FlushSoon();
  UpdateWaits();
}

void ClientConnection::UpdateWaits() {
  if (state_ == State::kClosed) return;
  stream_->WaitFor(!paused_ && connected_, out_.full() || blocked_);
  std::optional<size_t> wait;
  if (state_ == State::kIdle) {
    wait = longer_ ? ClientContext::kInPoolLonger : ClientContext::kInPool;
  } else if (!connected_) {
    wait = ClientContext::kForConnection;
  } else if (out_.full() || blocked_) {
    wait = ClientContext::kForProgress;
  } else if (answered_) {
    if (!paused_ && !silence_) wait = ClientContext::kForProgress;
  } else if (ended_) {
    wait = ClientContext::kForFirstByte;
  }
  if (!wait) {
    context_.deadlines.Clear(*this);
  } else if (restart_wait_ || Deadlines::KindOf(*this) != wait) {
    context_.deadlines.Set(*this, *wait);
  }
  restart_wait_ = false;
}

}  // namespace modal::http

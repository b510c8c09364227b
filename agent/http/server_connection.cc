#include "agent/http/server_connection.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>

#include "agent/base/check.h"

namespace modal::http {
namespace {

constexpr size_t kReadSize = size_t{64} * 1024;
// While an answer is outstanding, what the client sends ahead is read up to this, so that its going
// away is noticed.
constexpr size_t kReadAhead = size_t{16} * 1024;
constexpr size_t kHighWater = size_t{64} * 1024;
constexpr size_t kLowWater = size_t{16} * 1024;
constexpr Milliseconds kLinger{2000};
constexpr Milliseconds kStalled{1000};

std::vector<Header> HeadersOf(const Response& response) {
  std::vector<Header> headers;
  headers.reserve(response.headers.size() + 1);
  if (!response.content_type.empty()) headers.push_back({"Content-Type", response.content_type});
  for (const auto& [name, value] : response.headers) headers.push_back({name, value});
  return headers;
}

// Stock: enough for what is busy at the same time, little enough to hold forever.
constexpr size_t kSpareActives = 16;

}  // namespace

ServerContext::ServerContext(Clock& clock, const ServerOptions& server_options,
                             ExchangeHandler& exchange_handler, std::time_t (*wall_time)())
    : options(server_options),
      handler(exchange_handler),
      deadlines(clock, {options.idle_timeout, options.header_timeout, options.body_timeout,
                        options.write_timeout, kLinger}),
      read_buffer(kReadSize),
      wall_time_(wall_time) {}

void ServerContext::Configure(const ServerOptions& fresh) {
  const size_t max_connections = options.max_connections;
  options = fresh;
  options.max_connections = max_connections;
  deadlines.SetDuration(kForRequest, options.idle_timeout);
  deadlines.SetDuration(kForHead, options.header_timeout);
  deadlines.SetDuration(kForBody, options.body_timeout);
  deadlines.SetDuration(kForWrite, options.write_timeout);
  spare_actives_.clear();  // they have the old limits
}

std::unique_ptr<ServerContext::Active> ServerContext::TakeActive() {
  if (spare_actives_.empty()) {
    return std::make_unique<Active>(ParserLimits{options.max_head, options.max_headers});
  }
  std::unique_ptr<Active> active = std::move(spare_actives_.back());
  spare_actives_.pop_back();
  return active;
}

void ServerContext::GiveBack(std::unique_ptr<Active> active) {
  if (spare_actives_.size() == kSpareActives) return;
  active->parser.Reset();
  spare_actives_.push_back(std::move(active));
}

std::string_view ServerContext::Date() {
  const std::time_t now = wall_time_();
  if (now != date_time_) {
    date_time_ = now;
    date_ = FormatDate(now);
  }
  return date_;
}

ServerConnection::ServerConnection(ServerContext& context, Owner& owner,
                                   std::unique_ptr<event::Stream> stream, const SocketAddress& peer)
    : context_(context),
      owner_(owner),
      stream_(std::move(stream)),
      peer_(peer),
      out_(context.buffers, context.stats.bytes_sent) {
  ++context_.stats.connections_open;
  stream_->Listen(*this);
  UpdateWaits();
}

ServerConnection::~ServerConnection() {
  if (state_ != State::kClosed) {
    stream_->Close();
    SetClosed();
  }
  TellGone();
}

// ---- From the loop ----

void ServerConnection::OnReady(event::Poller::Ready ready) {
  if (ready.writable) out_.OnWritable();
  if (ready.readable && !end_of_input_) Read();
  Settle();
}

void ServerConnection::OnTurn() {
  scheduled_ = false;
  if (state_ == State::kClosed) {
    TellGone();
  } else {
    Settle();
  }
}

void ServerConnection::OnDeadline(size_t wait) {
  restart_wait_ = true;
  switch (wait) {
    case ServerContext::kForHead:
      ++context_.stats.connections_timed_out;
      // Empty lines are no request; some clients end their last one with them.
      if (!active_->parser.started()) return CloseNow();
      Refuse({408, "request_timeout", "the request's head took too long"});
      break;
    case ServerContext::kForBody:
      ++context_.stats.connections_timed_out;
      Refuse({408, "request_timeout", "the request's body stopped coming"});
      break;
    case ServerContext::kForWrite:
      ++context_.stats.connections_timed_out;
      return Cut();
    default:  // kForRequest, kForEnd
      return CloseNow();
  }
  Settle();
}

// ---- Reading ----

void ServerConnection::Read() {
  if (splices_ && state_ == State::kBody && handler_has_it_) {
    // Else what can be read, or the end, comes after this body.
    if (!paused_ && active_->parser.body_left() > 0) {
      context_.handler.OnBodyReadable(active_->exchange);
    }
    return;
  }
  const bool ahead = state_ == State::kRead;
  const std::span<char> buffer(context_.read_buffer.data(), ahead ? kReadAhead : kReadSize);
  const event::IoResult result = stream_->Read(buffer);
  switch (result.kind) {
    case event::IoResult::Kind::kAgain:
      return;
    case event::IoResult::Kind::kEnd:
      end_of_input_ = true;
      return;
    case event::IoResult::Kind::kError:
      return Cut();
    case event::IoResult::Kind::kDone:
      break;
  }
  context_.stats.bytes_received += result.size;
  if (state_ == State::kLingering) return;  // thrown away
  if (state_ == State::kBody) restart_wait_ = true;
  const std::string_view data(buffer.data(), result.size);
  if (unread().empty()) {
    fresh_ = data;
  } else {
    pending_.erase(0, pending_taken_);
    pending_taken_ = 0;
    pending_.append(data);
  }
}

// Everything that follows from what has changed: input is consumed, output written, the end
// reached.
void ServerConnection::Settle() {
  if (state_ == State::kClosed) return;
  settling_ = true;
  do {
    Consume();
    Flush();
    CallOnDrained();
  } while (CanConsume() && !unread().empty());
  if (end_of_input_ && unread().empty()) OnEndOfInput();
  settling_ = false;
  CloseIfFlushed();
  KeepUnread();
  UpdateWaits();
}

bool ServerConnection::CanConsume() const {
  switch (state_) {
    case State::kIdle:
    case State::kHead:
      return out_.size() < kHighWater;
    case State::kBody:
      return !paused_;
    default:
      return false;
  }
}

void ServerConnection::Consume() {
  while (CanConsume()) {
    if (state_ == State::kIdle) {
      if (unread().empty()) return;
      active_ = context_.TakeActive();
      state_ = State::kHead;
      restart_wait_ = true;
    }
    const RequestParser::Step step = active_->parser.Next(unread());
    Advance(step.consumed);
    switch (step.event) {
      case RequestParser::Event::kMore:
        return;
      case RequestParser::Event::kHead:
        OnHead();
        break;
      case RequestParser::Event::kBody:
        OnBody(step.data);
        break;
      case RequestParser::Event::kEnd:
        OnRequestEnd();
        break;
      case RequestParser::Event::kError:
        Refuse(active_->parser.error());
        break;
    }
    CompleteIfOver();
  }
}

void ServerConnection::OnHead() {
  state_ = State::kBody;
  restart_wait_ = true;
  answer_ = Answer::kNone;
  paused_ = blocked_ = corked_ = splices_ = false;
  body_read_ = 0;
  ++context_.stats.requests;
  Exchange& exchange = active_->exchange;
  exchange.connection_ = this;
  exchange.request_ = active_->parser.request();
  const Request& request = exchange.request_;
  keep_alive_ = request.keep_alive;
  continue_due_ = request.expects_continue && request.has_body();
  if (request.content_length.value_or(0) > context_.options.max_body) {
    return Refuse({413, "body_too_large", "the request's body is too large"});
  }
  handler_has_it_ = true;
  context_.handler.OnHead(exchange);
  if (state_ == State::kBody && answer_ == Answer::kNone && !paused_) AppendContinue();
}

void ServerConnection::OnBody(std::string_view data) {
  continue_due_ = false;
  body_read_ += data.size();
  if (body_read_ > context_.options.max_body) {
    return Refuse({413, "body_too_large", "the request's body is too large"});
  }
  if (handler_has_it_) context_.handler.OnBody(active_->exchange, data);
}

void ServerConnection::OnRequestEnd() {
  state_ = State::kRead;
  active_->exchange.request_.trailers = active_->parser.trailers();
  if (handler_has_it_) context_.handler.OnRequestEnd(active_->exchange);
}

// The client has shut its side and everything it sent has been consumed.
void ServerConnection::OnEndOfInput() {
  switch (state_) {
    case State::kBody:
      if (paused_) return;
      TellGone();
      if (answer_ == Answer::kBegun) return Cut();
      [[fallthrough]];
    case State::kIdle:
    case State::kHead:
      LeaveExchange();
      return BeginClosing(false);
    case State::kLingering:
      return CloseNow();
    default:
      return;
  }
}

std::string_view ServerConnection::unread() const {
  if (!fresh_.empty()) return fresh_;
  return std::string_view(pending_).substr(pending_taken_);
}

void ServerConnection::Advance(size_t size) {
  if (!fresh_.empty()) {
    fresh_.remove_prefix(size);
  } else {
    pending_taken_ += size;
  }
}

void ServerConnection::KeepUnread() {
  if (!fresh_.empty()) {
    if (pending_.capacity() < BufferStock::kNewSize) pending_ = context_.buffers.Take();
    pending_.assign(fresh_);
    pending_taken_ = 0;
    fresh_ = {};
  } else if (!pending_.empty() && pending_taken_ == pending_.size()) {
    context_.buffers.GiveBack(std::move(pending_));
    pending_ = {};
    pending_taken_ = 0;
  }
}

// ---- Answering ----

bool ServerConnection::request_is_read() const {
  return state_ == State::kRead || !active_->exchange.request_.has_body();
}

void ServerConnection::AppendAnswerHead(const ResponseHead& head) {
  MODAL_CHECK(head.status >= 200 && head.status <= 999);
  const Request& request = active_->exchange.request_;
  framing_ = ChooseFraming(request, head.status, head.content_length.has_value());
  body_to_write_ = head.content_length.value_or(0);
  if (context_.closing || framing_ == BodyFraming::kUntilClose) keep_alive_ = false;
  // The body that was to follow "100 Continue" may come or not.
  if (continue_due_) keep_alive_ = false;
  AnswerHead answer;
  answer.status = head.status;
  answer.reason = head.reason;
  answer.headers = head.headers;
  answer.lines = head.lines;
  if (!head.has_date) answer.date = context_.Date();
  answer.framing = framing_;
  answer.length = head.content_length;
  answer.keep_alive = keep_alive_;
  answer.http_1_0 = request.http_1_0;
  AppendHead(out(), answer);
}

void ServerConnection::AppendContinue() {
  if (!continue_due_) return;
  continue_due_ = false;
  AppendInterimHead(out(), 100, {});
}

void ServerConnection::Send(const Response& response) {
  if (IsTooLate()) {
    handler_has_it_ = false;
    return;
  }
  MODAL_CHECK(answer_ == Answer::kNone);
  // Rather than to read a body that nobody wants.
  if (!request_is_read()) keep_alive_ = false;
  const std::vector<Header> headers = HeadersOf(response);
  ResponseHead head;
  head.status = response.status;
  head.headers = headers;
  head.content_length = response.body.size();
  AppendAnswerHead(head);
  if (framing_ == BodyFraming::kLength) out() += response.body;
  answer_ = Answer::kFinished;
  AfterCall();
}

void ServerConnection::Begin(const ResponseHead& head) {
  if (IsTooLate()) return;
  MODAL_CHECK(answer_ == Answer::kNone);
  AppendAnswerHead(head);
  answer_ = Answer::kBegun;
}

bool ServerConnection::Write(std::string_view data) {
  if (IsTooLate()) return true;
  MODAL_CHECK(answer_ == Answer::kBegun);
  switch (framing_) {
    case BodyFraming::kNone:
      break;
    case BodyFraming::kLength:
      if (data.size() > body_to_write_) {
        Cut();
        return true;
      }
      body_to_write_ -= data.size();
      Put({}, data, {});
      break;
    case BodyFraming::kChunked: {
      if (data.empty()) break;  // an empty chunk would be the last
      std::string line;         // short: no memory of its own
      AppendChunkLine(line, data.size());
      Put(line, data, "\r\n");
      break;
    }
    case BodyFraming::kUntilClose:
      Put({}, data, {});
      break;
  }
  AfterCall();
  if (out_.size() < kHighWater) return true;
  blocked_ = true;
  return false;
}

void ServerConnection::End(std::span<const Header> trailers) {
  if (IsTooLate()) {
    handler_has_it_ = false;
    return;
  }
  MODAL_CHECK(answer_ == Answer::kBegun);
  if (framing_ == BodyFraming::kLength && body_to_write_ > 0) return Abort();
  if (framing_ == BodyFraming::kChunked) AppendLastChunk(out(), trailers);
  answer_ = Answer::kFinished;
  AfterCall();
}

void ServerConnection::Put(std::string_view before, std::string_view data, std::string_view after) {
  if (!out_.Put(*stream_, before, data, after)) Cut();
}

void ServerConnection::Uncork() {
  corked_ = false;
  if (!IsTooLate()) AfterCall();
}

DetachedConnection ServerConnection::SwitchProtocols(std::string_view lines) {
  DetachedConnection detached;
  if (IsTooLate()) {
    handler_has_it_ = false;
    return detached;
  }
  MODAL_CHECK(answer_ == Answer::kNone && request_is_read());
  out().append("HTTP/1.1 101 Switching Protocols\r\n").append(lines).append("\r\n");
  detached.stream = std::move(stream_);
  detached.unread = unread();
  detached.unsent = out_.TakeAll();
  handler_has_it_ = false;
  SetClosed();
  Schedule();
  return detached;
}

void ServerConnection::Inform(int status, std::span<const Header> headers) {
  if (IsTooLate() || active_->exchange.request_.http_1_0) return;
  MODAL_CHECK(answer_ == Answer::kNone && status >= 100 && status < 200);
  AppendInterimHead(out(), status, headers);
  AfterCall();
}

void ServerConnection::Abort() {
  handler_has_it_ = false;
  if (state_ != State::kClosed) Cut();
}

// The client has gone, and the handler has not been told yet.
bool ServerConnection::IsTooLate() const { return !handler_has_it_ || state_ == State::kClosed; }

void ServerConnection::PauseBody() { paused_ = true; }

void ServerConnection::ResumeBody() {
  if (!paused_) return;
  paused_ = false;
  restart_wait_ = true;
  if (settling_ || state_ != State::kBody) return;
  if (answer_ == Answer::kNone) AppendContinue();
  Schedule();
  AfterCall();
}

bool ServerConnection::SpliceBody() {
  const bool possible = !IsTooLate() && state_ == State::kBody &&
                        !active_->exchange.request_.chunked && active_->parser.body_left() > 0 &&
                        unread().empty();
  splices_ = possible;
  return possible;
}

event::IoResult ServerConnection::ReadBodyInto(event::Pipe& pipe) {
  const uint64_t left = active_->parser.body_left();
  const event::IoResult result = stream_->ReadInto(
      pipe, static_cast<size_t>(std::min<uint64_t>(left, std::numeric_limits<int32_t>::max())));
  switch (result.kind) {
    case event::IoResult::Kind::kDone:
      active_->parser.SkipBody(result.size);
      body_read_ += result.size;
      context_.stats.bytes_received += result.size;
      restart_wait_ = true;
      break;
    case event::IoResult::Kind::kEnd:
      end_of_input_ = true;
      break;
    case event::IoResult::Kind::kError:
      if (result.error == EINVAL) {
        splices_ = false;
      } else {
        Cut();
      }
      break;
    case event::IoResult::Kind::kAgain:
      break;
  }
  return result;
}

uint64_t ServerConnection::room_to_splice() const {
  const bool possible = handler_has_it_ && state_ != State::kClosed && answer_ == Answer::kBegun &&
                        framing_ == BodyFraming::kLength && out_.empty();
  return possible ? body_to_write_ : 0;
}

void ServerConnection::WriteFrom(event::Pipe& pipe) {
  if (IsTooLate()) return;
  const event::IoResult result = stream_->WriteFrom(pipe);
  if (result.kind == event::IoResult::Kind::kError) return Cut();
  MODAL_CHECK(result.size <= body_to_write_);
  body_to_write_ -= result.size;
  context_.stats.bytes_sent += result.size;
  if (result.size > 0) restart_wait_ = true;
  blocked_ = !pipe.empty();
  if (!settling_) UpdateWaits();
}

// The end of every call to the Exchange.
void ServerConnection::AfterCall() {
  if (answer_ == Answer::kFinished) handler_has_it_ = false;
  if (settling_ || state_ == State::kClosed) return;
  Flush();
  if (state_ == State::kClosed) return;
  CompleteIfOver();
  CloseIfFlushed();
  if (state_ == State::kClosed) return;
  // Consuming may call the handler.
  if (CanConsume() && (!unread().empty() || end_of_input_ || answer_ == Answer::kFinished)) {
    Schedule();
  }
  UpdateWaits();
}

void ServerConnection::Flush() {
  if (corked_ && answer_ == Answer::kBegun && out_.size() < kHighWater) return;
  if (state_ != State::kClosed && !out_.Flush(*stream_)) return Cut();
  if (out_.TakeProgress()) restart_wait_ = true;
}

void ServerConnection::CallOnDrained() {
  if (!blocked_ || out_.size() > kLowWater || IsTooLate()) return;
  blocked_ = false;
  context_.handler.OnDrained(active_->exchange);
  CompleteIfOver();
  Flush();
}

// The exchange is done: on to the next request, or to the end.
void ServerConnection::CompleteIfOver() {
  if (answer_ != Answer::kFinished) return;
  if (state_ != State::kBody && state_ != State::kRead) return;
  const bool read = request_is_read();
  // What is left of the body comes first, if the client was promised that it can go on.
  if (state_ == State::kBody && (read || keep_alive_)) {
    paused_ = false;
    return;
  }
  LeaveExchange();
  answer_ = Answer::kNone;
  restart_wait_ = true;
  if (keep_alive_) {
    state_ = State::kIdle;
    return;
  }
  BeginClosing(!read || !unread().empty());
}

// ---- Ending ----

// The client has broken the rules.
void ServerConnection::Refuse(const ParseError& error) {
  ++context_.stats.bad_requests;
  keep_alive_ = false;
  if (handler_has_it_) {
    context_.handler.OnBadBody(active_->exchange, error);
    if (!handler_has_it_) return;
    TellGone();
  }
  if (answer_ == Answer::kBegun) return Cut();
  if (answer_ == Answer::kNone) {
    const bool to_head =
        state_ == State::kBody && active_->exchange.request_.method == Method::kHead;
    const Response response = context_.handler.OnRefused(
        {error, active_->parser.request_so_far(), active_->parser.version(), peer_, to_head});
    const std::vector<Header> headers = HeadersOf(response);
    AnswerHead head;
    head.status = response.status;
    head.headers = headers;
    head.date = context_.Date();
    head.framing = to_head ? BodyFraming::kNone : BodyFraming::kLength;
    head.length = response.body.size();
    head.keep_alive = false;
    AppendHead(out(), head);
    if (!to_head) out() += response.body;
  }
  LeaveExchange();
  BeginClosing(true);
}

void ServerConnection::TellGone() {
  if (!handler_has_it_) return;
  handler_has_it_ = false;
  Exchange& exchange = active_->exchange;
  exchange.DetachResponder();
  context_.handler.OnGone(exchange);
}

void ServerConnection::LeaveExchange() {
  if (!active_) return;
  active_->exchange.Clear();
  context_.GiveBack(std::move(active_));
}

// The connection is broken, or must look so.
void ServerConnection::Cut() {
  stream_->Reset();
  SetClosed();
  Schedule();
}

// Nothing is read any more; with `linger` more is likely to come.
void ServerConnection::BeginClosing(bool linger) {
  state_ = State::kClosing;
  linger_ = linger;
  Advance(unread().size());
}

void ServerConnection::CloseIfFlushed() {
  if (state_ != State::kClosing || out_.size() > 0) return;
  if (end_of_input_) return CloseNow();
  if (!linger_) {
    // Closing on bytes that were not read would reset the connection.
    const event::IoResult result = stream_->Read(context_.read_buffer);
    if (result.kind != event::IoResult::Kind::kDone) return CloseNow();
  }
  stream_->ShutdownWrite();
  state_ = State::kLingering;
  restart_wait_ = true;
}

void ServerConnection::CloseNow() {
  stream_->Close();
  SetClosed();
  Schedule();
}

void ServerConnection::SetClosed() {
  state_ = State::kClosed;
  Advance(unread().size());
  context_.deadlines.Clear(*this);
  CountAsBusy(false);
  --context_.stats.connections_open;
}

void ServerConnection::CountAsBusy(bool busy) {
  if (busy == busy_) return;
  busy_ = busy;
  context_.stats.connections_busy += busy ? 1 : -1;
}

void ServerConnection::Schedule() {
  if (scheduled_) return;
  scheduled_ = true;
  owner_.Schedule(*this);
}

ServerConnection* ServerConnection::Dispensable(ServerContext& context) {
  const Deadlines& deadlines = context.deadlines;
  for (const auto wait :
       {ServerContext::kForEnd, ServerContext::kForRequest, ServerContext::kForHead}) {
    if (Entry* entry = deadlines.Oldest(wait)) return static_cast<ServerConnection*>(entry);
  }
  Entry* entry = deadlines.Oldest(ServerContext::kForBody, kStalled);
  return entry != nullptr ? static_cast<ServerConnection*>(entry) : nullptr;
}

bool ServerConnection::TakeWaitingRequest() {
  if (state_ != State::kIdle || end_of_input_) return false;
  OnReady({true, false});
  return state_ != State::kIdle && state_ != State::kHead;
}

void ServerConnection::GiveWay() {
  if (state_ == State::kLingering) return CloseNow();
  Cut();
}

// Says what to wake us for: readiness, and time.
void ServerConnection::UpdateWaits() {
  if (state_ == State::kClosed) return;
  bool read = false;
  std::optional<size_t> wait;
  CountAsBusy(state_ == State::kBody || state_ == State::kRead || out_.size() > 0);
  switch (state_) {
    case State::kIdle:
      read = CanConsume();
      // The answer before may have promised to go on: while closing a request that is already on
      // its way still gets an answer, and nobody waits for one that is not.
      wait = context_.closing ? ServerContext::kForEnd : ServerContext::kForRequest;
      break;
    case State::kHead:
      read = CanConsume();
      wait = ServerContext::kForHead;
      break;
    case State::kBody:
      read = CanConsume() && unread().empty();
      if (!paused_) wait = ServerContext::kForBody;
      break;
    case State::kRead:
      read = unread().size() < kReadAhead;
      break;
    case State::kLingering:
      read = true;
      wait = ServerContext::kForEnd;
      break;
    case State::kClosing:
    case State::kClosed:
      break;
  }
  if (out_.full() || blocked_) wait = ServerContext::kForWrite;
  stream_->WaitFor(read && !end_of_input_, out_.full() || (blocked_ && handler_has_it_));
  if (!wait) {
    context_.deadlines.Clear(*this);
  } else if (restart_wait_ || Deadlines::KindOf(*this) != wait) {
    context_.deadlines.Set(*this, *wait);
  }
  restart_wait_ = false;
}

}  // namespace modal::http

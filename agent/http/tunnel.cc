#include "agent/http/tunnel.h"

#include <algorithm>
#include <utility>

#include "agent/base/check.h"

namespace modal::http {
namespace {

std::string_view ReasonFor(uint16_t code) {
  switch (code) {
    case kCloseGoingAway:
      return "going away";
    case kCloseProtocolError:
      return "protocol error";
    case kCloseTooBig:
      return "message too big";
    default:
      return "";
  }
}

MaskingKey KeyOf(uint32_t random) {
  return {static_cast<uint8_t>(random), static_cast<uint8_t>(random >> 8),
          static_cast<uint8_t>(random >> 16), static_cast<uint8_t>(random >> 24)};
}

}  // namespace

Tunnel::Tunnel(TunnelContext& context, TunnelObserver& observer, Protocol protocol,
               Connection client, Connection server)
    : context_(context),
      observer_(observer),
      protocol_(protocol),
      client_(*this, TunnelSide::kClient, std::move(client.stream)),
      server_(*this, TunnelSide::kServer, std::move(server.stream)),
      up_{TunnelSide::kClient},
      down_{TunnelSide::kServer} {
  MODAL_CHECK(context_.scratch.size() > 2 * WebSocketReader::kMaxHeld);
  if (protocol_ == Protocol::kWebSocket) {
    up_.reader.emplace(WebSocketSender::kClient, context_.max_message);
    down_.reader.emplace(WebSocketSender::kServer, context_.max_message);
  }
  // Start() takes them from here.
  up_.head = std::move(client.read);
  down_.head = std::move(server.read);
}

Tunnel::~Tunnel() {
  if (over_) return;
  client_.stream->Reset();
  server_.stream->Reset();
}

void Tunnel::Start() {
  client_.stream->Listen(client_);
  server_.stream->Listen(server_);
  for (Flow* flow : {&up_, &down_}) Follow(*flow, std::exchange(flow->head, {}));
  Settle();
}

void Tunnel::CloseGently(uint16_t code, Milliseconds at_most) {
  // After a violation the end is near anyway.
  if (over_ || end_ == TunnelEnd::kTooBig || end_ == TunnelEnd::kBadFrame) return;
  end_ = TunnelEnd::kClosed;
  limit_ = Limit::kTotal;
  SetTimer(at_most);
  if (protocol_ == Protocol::kWebSocket) BeginClosing(code);
  Settle();
}

size_t Tunnel::held() const {
  return up_.out.size() + up_.head.size() + down_.out.size() + down_.head.size();
}

// ---- From the loop ----

void Tunnel::OnReady(TunnelSide side, event::Poller::Ready ready) {
  if (over_) return;
  Flow& from = FlowFrom(side);
  if (ready.writable) Write(Opposite(from));
  if (ready.readable && Reads(from)) Read(from);
  Settle();
  if (over_) TellOver();
}

void Tunnel::OnTimer() {
  if (limit_ == Limit::kProgress && (up_.moved || down_.moved)) return SetTimer(context_.end_time);
  if (limit_ == Limit::kStall && !IsStalled(up_) && !IsStalled(down_)) {
    limit_ = Limit::kNone;
    return UpdateLimit();
  }
  Cut();
  TellOver();
}

void Tunnel::TellOver() {
  timer_.reset();
  observer_.OnOver(end_);  // last: we may be gone after it
}

// ---- Moving ----

void Tunnel::Read(Flow& flow) {
  // What was kept of a frame's head goes in front.
  const std::span<char> buffer =
      context_.scratch.first(std::min(context_.scratch.size(), kHighWater));
  const size_t before = flow.head.copy(buffer.data(), flow.head.size());
  const event::IoResult result = SourceOf(flow).stream->Read(buffer.subspan(before));
  switch (result.kind) {
    case event::IoResult::Kind::kAgain:
      return;
    case event::IoResult::Kind::kEnd:
      return OnEndOf(flow);
    case event::IoResult::Kind::kError:
      return OnErrorOf(flow);
    case event::IoResult::Kind::kDone:
      break;
  }
  flow.head.clear();
  Follow(flow, {buffer.data(), before + result.size});
}

void Tunnel::OnEndOf(Flow& flow) {
  // A connection that failed to write can report a reset as an end: the write has had the error.
  if (Opposite(flow).state == Flow::State::kBroken) return OnErrorOf(flow);
  flow.ended = true;
  if (flow.state == Flow::State::kOpen) Pass(flow, std::exchange(flow.head, {}));
}

void Tunnel::OnErrorOf(Flow& flow) {
  // After a close frame nothing was to come, and many just go away then; and to whom the tunnel has
  // sent one it is the same how the other ends. Anything else must not look like an end.
  const bool closed =
      HasClosed(flow) || flow.state == Flow::State::kClosed || flow.state == Flow::State::kShut;
  if (!closed) return Cut();
  flow.ended = true;
  Break(Opposite(flow));
}

// The receiver takes nothing more.
void Tunnel::Break(Flow& flow) {
  flow.state = Flow::State::kBroken;
  flow.head = {};
  flow.out = {};
  flow.out_sent = 0;
}

// What has come from the flow's sender, after the kept part of a head.
void Tunnel::Follow(Flow& flow, std::string_view data) {
  if (!flow.reader) return Pass(flow, data);
  WebSocketReader& reader = *flow.reader;
  if (flow.state == Flow::State::kFinishing) {
    const size_t rest = std::min<uint64_t>(reader.left(), data.size());
    reader.Next(data.substr(0, rest));
    Pass(flow, data.substr(0, rest));
    data.remove_prefix(rest);
    if (!reader.at_boundary()) return;
    PutClose(flow);
  }
  if (reader.verdict() != WebSocketReader::Verdict::kFine) return;
  const WebSocketReader::Step step = reader.Next(data);
  if (flow.state == Flow::State::kOpen) Pass(flow, data.substr(0, step.passed));
  switch (step.verdict) {
    case WebSocketReader::Verdict::kFine:
      flow.head = data.substr(step.passed);
      break;
    case WebSocketReader::Verdict::kClosed:
      if (flow.state == Flow::State::kOpen) flow.state = Flow::State::kClosed;
      break;
    case WebSocketReader::Verdict::kTooBig:
      if (flow.state == Flow::State::kOpen) Fail(TunnelEnd::kTooBig, kCloseTooBig);
      break;
    case WebSocketReader::Verdict::kBadFrame:
      if (flow.state == Flow::State::kOpen) Fail(TunnelEnd::kBadFrame, kCloseProtocolError);
      break;
  }
}

void Tunnel::Pass(Flow& flow, std::string_view data) {
  if (flow.state == Flow::State::kShut || flow.state == Flow::State::kBroken) return;
  if (flow.out.empty()) data.remove_prefix(WriteNow(flow, data));
  if (flow.state == Flow::State::kBroken || data.empty()) return;
  if (flow.out.empty()) flow.moved = true;
  flow.out += data;
}

void Tunnel::Write(Flow& flow) {
  flow.out_sent += WriteNow(flow, std::string_view(flow.out).substr(flow.out_sent));
  if (flow.out_sent < flow.out.size()) return;
  flow.out = {};
  flow.out_sent = 0;
}

// Returns how much is done with: all, or what the receiver had room for.
size_t Tunnel::WriteNow(Flow& flow, std::string_view data) {
  size_t written = 0;
  while (written < data.size()) {
    const event::IoResult result = TargetOf(flow).stream->Write(data.substr(written));
    if (result.kind == event::IoResult::Kind::kAgain) break;
    if (result.kind != event::IoResult::Kind::kDone) {
      // What the receiver has sent before is still to be read, and then its error.
      flow.state = Flow::State::kBroken;
      if (end_ == TunnelEnd::kEnded && !HasClosed(Opposite(flow))) end_ = TunnelEnd::kBroken;
      return data.size();
    }
    written += result.size;
    flow.moved = true;
    observer_.OnMoved(flow.from, result.size);
  }
  return written;
}

void Tunnel::PutClose(Flow& flow) {
  const bool has_closed = HasClosed(flow);  // the frame that was finished was one
  flow.state = Flow::State::kClosed;
  if (has_closed) return;
  std::optional<MaskingKey> key;
  if (flow.from == TunnelSide::kClient) key = KeyOf(context_.random());
  std::string frame;
  AppendCloseFrame(frame, close_code_, ReasonFor(close_code_), key);
  Pass(flow, frame);
}

// ---- Ending ----

void Tunnel::Fail(TunnelEnd end, uint16_t code) {
  end_ = end;
  BeginClosing(code);
  limit_ = Limit::kTotal;
  SetTimer(context_.close_time);
}

void Tunnel::BeginClosing(uint16_t code) {
  close_code_ = code;
  for (Flow* flow : {&up_, &down_}) {
    if (flow->state != Flow::State::kOpen) continue;
    flow->state = Flow::State::kFinishing;
    // What has ended may have ended in a frame's head.
    if (flow->reader->at_boundary() && !flow->ended) PutClose(*flow);
  }
}

// Everything that follows from what has changed. It is over only after something was read, an end
// or an error: so from the loop, and never from inside a call.
void Tunnel::Settle() {
  if (over_) return;
  ShutIfDone(up_);
  ShutIfDone(down_);
  const auto is_over = [](const Flow& flow) {
    return flow.ended && (flow.state == Flow::State::kShut || flow.state == Flow::State::kBroken);
  };
  if (is_over(up_) && is_over(down_)) return Finish();
  UpdateWaits();
  UpdateLimit();
}

void Tunnel::ShutIfDone(Flow& flow) {
  if (flow.state == Flow::State::kShut || flow.state == Flow::State::kBroken) return;
  if (!flow.out.empty()) return;
  const bool failed = end_ == TunnelEnd::kTooBig || end_ == TunnelEnd::kBadFrame;
  const bool both_closed =
      flow.state == Flow::State::kClosed && (failed || HasClosed(Opposite(flow)));
  if (!flow.ended && !both_closed) return;
  TargetOf(flow).stream->ShutdownWrite();
  flow.state = Flow::State::kShut;
}

void Tunnel::UpdateWaits() {
  client_.stream->WaitFor(Reads(up_), !down_.out.empty());
  server_.stream->WaitFor(Reads(down_), !up_.out.empty());
}

void Tunnel::UpdateLimit() {
  if (limit_ == Limit::kProgress || limit_ == Limit::kTotal) return;
  const bool broken = up_.state == Flow::State::kBroken || down_.state == Flow::State::kBroken;
  const bool half_over = protocol_ == Protocol::kWebSocket &&
                         (up_.ended || down_.ended || (HasClosed(up_) && HasClosed(down_)));
  if (broken || half_over) {
    limit_ = Limit::kProgress;
    return SetTimer(context_.end_time);
  }
  // Left alone when nothing waits any more: it fires once for nothing then, rather than to be set
  // whenever a receiver is full for a moment.
  if (limit_ == Limit::kStall || context_.stall_time == Milliseconds(0)) return;
  if (up_.out.empty() && down_.out.empty()) return;
  limit_ = Limit::kStall;
  SetTimer(context_.stall_time);
}

void Tunnel::SetTimer(Milliseconds delay) {
  up_.moved = down_.moved = false;
  timer_ = context_.clock.After(delay, [this] { OnTimer(); });
}

// Ends it now, and so that nothing unfinished looks finished.
void Tunnel::Cut() {
  if (end_ == TunnelEnd::kEnded) end_ = TunnelEnd::kBroken;
  for (Flow* flow : {&up_, &down_}) {
    const bool finished = flow->state == Flow::State::kShut ||
                          (flow->state == Flow::State::kClosed && flow->out.empty());
    event::Stream& target = *TargetOf(*flow).stream;
    if (finished) {
      target.Close();
    } else {
      target.Reset();
    }
  }
  Finish();
}

void Tunnel::Finish() {
  client_.stream->Close();
  server_.stream->Close();
  for (Flow* flow : {&up_, &down_}) flow->out = flow->head = {};
  timer_.reset();
  over_ = true;
}

bool Tunnel::Throws(const Flow& flow) const {
  return flow.state != Flow::State::kOpen && flow.state != Flow::State::kFinishing;
}

bool Tunnel::Reads(const Flow& flow) const {
  return !flow.ended && (flow.out.empty() || Throws(flow));
}

// The flow's sender has sent a close frame.
bool Tunnel::HasClosed(const Flow& flow) const {
  return flow.reader && flow.reader->verdict() == WebSocketReader::Verdict::kClosed;
}

}  // namespace modal::http

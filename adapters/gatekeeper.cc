#include "adapters/gatekeeper.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <limits>
#include <utility>

#include "agent/base/check.h"
#include "agent/base/status_board.h"
#include "agent/base/strings.h"
#include "agent/http/message_parser.h"
#include "agent/policy/client_address.h"
#include "agent/policy/hop_by_hop.h"

namespace modal::adapters {
namespace {

using policy::Refusal;

constexpr size_t kTunnelBuffer = size_t{64} * 1024;
constexpr Milliseconds kClosingTime{400};  // for the last words of a WebSocket
// A client that left before it had its answer, in the log; no status that goes over the wire.
constexpr int kClientGone = 499;

policy::Address AddressOf(const SocketAddress& peer) {
  policy::Address address{};
  if (peer.get()->sa_family == AF_INET6) {
    std::memcpy(address.data(), &reinterpret_cast<const sockaddr_in6*>(peer.get())->sin6_addr,
                address.size());
  } else if (peer.get()->sa_family == AF_INET) {
    address[10] = address[11] = 0xff;
    std::memcpy(&address[12], &reinterpret_cast<const sockaddr_in*>(peer.get())->sin_addr, 4);
  }
  return address;
}

// The values of one header, line by line; more of them than anybody needs are not looked at.
struct Values {
  std::array<std::string_view, 16> values;
  size_t count = 0;

  void Add(std::string_view value) {
    if (count < values.size()) values[count++] = value;
  }
  std::span<const std::string_view> span() const { return {values.data(), count}; }
};

void AppendMilliseconds(std::string& out, uint64_t microseconds) {
  std::array<char, 24> text;
  char* end = std::to_chars(text.data(), text.data() + text.size(), microseconds / 1000).ptr;
  out.append(text.data(), end).push_back('.');
  const uint64_t rest = microseconds % 1000;
  out.push_back(static_cast<char>('0' + rest / 100));
  out.push_back(static_cast<char>('0' + rest / 10 % 10));
  out.push_back(static_cast<char>('0' + rest % 10));
}

// For masking keys.
uint32_t Unpredictable() {
  uint32_t value = 0;
  MODAL_CHECK(::getrandom(&value, sizeof value, 0) == sizeof value);
  return value;
}

uint64_t MaxMessage(const policy::GatewayConfig& config) {
  return config.max_message > 0 ? config.max_message : std::numeric_limits<uint64_t>::max();
}

// Of what the server refuses for us.
Refusal ReasonOf(int status) {
  switch (status) {
    case 408:
      return Refusal::kRequestTimeout;
    case 413:
      return Refusal::kBodyTooLarge;
    case 414:
    case 431:
      return Refusal::kHeaderTooLarge;
    default:
      return Refusal::kBadRequest;
  }
}

void Describe(const http::Request& request, AccessEntry& entry) {
  entry.method = request.method_name;
  entry.target = request.target;
  entry.version = request.http_1_0 ? "1.0" : "1.1";
  entry.host = request.host;
  entry.user_agent = request.Find("user-agent").value_or("");
  entry.referer = request.Find("referer").value_or("");
}

// Each thread has its share.
uint64_t MostHeld(const policy::GatewayConfig& config) {
  return std::max<uint64_t>(1, config.hold_most / std::max<uint32_t>(1, config.threads));
}

}  // namespace

// ---- Call ----

void Call::Inform(int status, std::span<const http::Header> headers) {
  exchange_->Inform(status, headers);
}
void Call::Begin(const http::ResponseHead& head) { gatekeeper_.CallBegin(*this, head); }
bool Call::Write(std::string_view data) {
  body_sent_ += data.size();
  return exchange_->Write(data);
}
void Call::End(std::span<const http::Header> trailers) { gatekeeper_.CallEnd(*this, trailers); }
void Call::Fail(int status, Refusal why, std::string_view message) {
  gatekeeper_.CallFail(*this, status, why, message);
}
void Call::SwitchProtocols(std::string_view protocol, std::string_view lines,
                           http::DetachedConnection server) {
  gatekeeper_.CallSwitch(*this, protocol, lines, std::move(server));
}
event::IoResult Call::ReadBodyInto(event::Pipe& pipe) {
  const event::IoResult result = exchange_->ReadBodyInto(pipe);
  body_received_ += result.size;
  return result;
}
void Call::WriteFrom(event::Pipe& pipe) {
  const size_t before = pipe.size();
  exchange_->WriteFrom(pipe);
  body_sent_ += before - pipe.size();
}
void Call::MarkSent() { sent_ = gatekeeper_.parts_.clock.Now(); }
void Call::MarkAnswered() { answered_ = gatekeeper_.parts_.clock.Now(); }
void Call::OnDeadline(size_t kind) { gatekeeper_.OnCallDeadline(*this, kind); }

// ---- Gatekeeper ----

// A call that has become a tunnel.
class Gatekeeper::Tunneled final : public http::TunnelObserver {
 public:
  Tunneled(Gatekeeper& its_gatekeeper, Call& its_call)
      : gatekeeper_(its_gatekeeper), call(its_call) {
    const http::Request& request = call.request();
    if (!gatekeeper_.parts_.log.enabled()) return;
    method = request.method_name;
    target = request.target;
    host = request.host;
    user_agent = request.Find("user-agent").value_or("");
  }

  void OnMoved(http::TunnelSide from, size_t size) override {
    if (from == http::TunnelSide::kClient) {
      call.body_received_ += size;
      gatekeeper_.parts_.traffic.tunnel_bytes_received.Add(size);
    } else {
      call.body_sent_ += size;
      gatekeeper_.parts_.traffic.tunnel_bytes_sent.Add(size);
    }
  }
  void OnOver(http::TunnelEnd end) override { gatekeeper_.OnTunnelOver(*this, end); }

 private:
  Gatekeeper& gatekeeper_;

 public:
  Call& call;
  std::string method;  // for the log
  std::string target;
  std::string host;
  std::string user_agent;
  std::unique_ptr<http::Tunnel> tunnel;
};

Gatekeeper::Gatekeeper(Parts parts, std::shared_ptr<const PolicySet> policy)
    : parts_(std::move(parts)),
      policy_(std::move(policy)),
      admission_(parts_.places, parts_.thread),
      tunnel_context_{parts_.clock, {}, Unpredictable} {
  const policy::GatewayConfig& config = policy_->config;
  deadlines_ = std::make_unique<http::Deadlines>(
      parts_.clock,
      std::vector<Milliseconds>{Milliseconds(config.hold_ms), Milliseconds(config.queue_timeout_ms),
                                Milliseconds(config.request_timeout_ms)});
  tunnel_context_.max_message = MaxMessage(config);
  tunnel_context_.stall_time = Milliseconds(config.idle_timeout_ms);
  parts_.log.Configure(config);
}

Gatekeeper::~Gatekeeper() = default;

void Gatekeeper::SetPolicy(std::shared_ptr<const PolicySet> policy) {
  policy_ = std::move(policy);
  const policy::GatewayConfig& config = policy_->config;
  deadlines_->SetDuration(kReady, Milliseconds(config.hold_ms));
  deadlines_->SetDuration(kPlace, Milliseconds(config.queue_timeout_ms));
  deadlines_->SetDuration(kTotal, Milliseconds(config.request_timeout_ms));
  tunnel_context_.max_message = MaxMessage(config);
  tunnel_context_.stall_time = Milliseconds(config.idle_timeout_ms);
  parts_.log.Configure(config);
  // Without a time to wait, nobody waits.
  while (config.hold_ms == 0 && held_.first != nullptr) {
    Refuse(*held_.first, 503, Refusal::kNotReady, "the server is not ready yet");
  }
}

void Gatekeeper::SetMode(Mode mode) {
  mode_ = mode;
  switch (mode) {
    case Mode::kNotYet:
      return;
    case Mode::kServing:
      return ReleaseHeld();
    case Mode::kCutting:
      CutAll();
      [[fallthrough]];
    case Mode::kDraining:
      // Those who wait would only be refused later.
      while (held_.first != nullptr) {
        Refuse(*held_.first, 503, Refusal::kDraining, "this container is about to stop");
      }
      return CheckEmpty();
  }
}

void Gatekeeper::ReleaseHeld() {
  while (held_.first != nullptr) {
    Call& call = *held_.first;
    deadlines_->Clear(call);
    Admit(call);
  }
}

// ---- Requests come ----

void Gatekeeper::OnHead(http::Exchange& exchange) {
  Call& call = Take(exchange);
  parts_.traffic.requests.Add(1);
  NameRequest(call);
  if (exchange.request().has_body()) exchange.PauseBody();
  if (mode_ == Mode::kNotYet && parts_.is_ready()) SetMode(Mode::kServing);
  switch (mode_) {
    case Mode::kServing:
      return Admit(call);
    case Mode::kNotYet:
      if (policy_->config.hold_ms > 0 && parts_.traffic.held.value() < MostHeld(policy_->config)) {
        SetStage(call, Call::Stage::kHeld);
        return deadlines_->Set(call, kReady);
      }
      return Refuse(call, 503, Refusal::kNotReady, "the server is not ready yet");
    case Mode::kDraining:
    case Mode::kCutting:
      return Refuse(call, 503, Refusal::kDraining, "this container is about to stop");
  }
}

// Everything after the phase.
void Gatekeeper::Admit(Call& call) {
  const policy::GatewayConfig& config = policy_->config;
  if (config.auth_required != 0 && !IsAuthorized(call)) return;
  if (config.rate_limit > 0) {
    if (const auto wait = policy_->limiter->TryTake(parts_.clock.Now())) {
      return Refuse(call, 429, Refusal::kRateLimited, "too many requests a second",
                    policy::RetryAfterSeconds(*wait));
    }
  }
  AskForPlace(call);
}

bool Gatekeeper::IsAuthorized(Call& call) {
  const http::Request& request = call.request();
  const std::string_view key = request.Find("modal-key").value_or("");
  const std::string_view secret = request.Find("modal-secret").value_or("");
  const auto verdict = policy_->tokens.Check(key, secret, BoardText(policy_->config.environment));
  switch (verdict) {
    case policy::TokenVerdict::kGood:
      return true;
    case policy::TokenVerdict::kUnknown:
      Refuse(call, 401, Refusal::kUnauthorized,
             key.empty() || secret.empty() ? "the headers Modal-Key and Modal-Secret are needed"
                                           : "Modal-Key and Modal-Secret are not known here");
      return false;
    case policy::TokenVerdict::kWrongEnvironment:
      Refuse(call, 403, Refusal::kWrongEnvironment, "the token is for another environment");
      return false;
  }
  return false;
}

void Gatekeeper::AskForPlace(Call& call) {
  switch (admission_.Arrive(call.waiter_, parts_.clock.Now())) {
    case policy::Admission::Entry::kEntered:
      return Carry(call);
    case policy::Admission::Entry::kWaiting:
      SetStage(call, Call::Stage::kQueued);
      return deadlines_->Set(call, kPlace);
    case policy::Admission::Entry::kFull:
      return Refuse(call, 503, Refusal::kQueueFull,
                    "as many requests as --max-concurrency are being served, and no more may wait");
  }
}

void Gatekeeper::GiveTurns() {
  // One that fails at once leaves its place from in here: however many wait, the stack is no
  // deeper.
  if (giving_turns_) return;
  giving_turns_ = true;
  for (;;) {
    const policy::Admission::Turn turn = admission_.NextTurn();
    if (turn.wake) parts_.wake(*turn.wake);
    if (turn.entered == nullptr) break;
    Call& call = *static_cast<Call*>(turn.entered->owner);
    deadlines_->Clear(call);
    Carry(call);
  }
  giving_turns_ = false;
}

// It has a place now.
void Gatekeeper::Carry(Call& call) {
  const http::Request& request = call.request();
  ++in_flight_;
  SetStage(call, Call::Stage::kCarried);
  const uint64_t max_body = policy_->config.max_body;
  if (max_body > 0 && request.content_length.value_or(0) > max_body) {
    return CallFail(call, 413, Refusal::kBodyTooLarge, "the request's body is too large");
  }
  if (policy_->config.request_timeout_ms > 0) deadlines_->Set(call, kTotal);
  DescribeClient(call);
  http::Exchange& exchange = *call.exchange_;
  if (request.has_body() && !call.request_ended_) exchange.ResumeBody();
  const bool ended = call.request_ended_;
  adapter_->Begin(call);
  if (ended && call.exchange_ == &exchange && call.stage_ == Call::Stage::kCarried) {
    adapter_->OnRequestEnd(call);
  }
}

void Gatekeeper::OnBody(http::Exchange& exchange, std::string_view data) {
  Call& call = *static_cast<Call*>(exchange.context);
  call.body_received_ += data.size();
  const uint64_t max_body = policy_->config.max_body;
  if (max_body > 0 && call.body_received_ > max_body) {
    adapter_->OnGone(call);
    return CallFail(call, 413, Refusal::kBodyTooLarge, "the request's body is too large");
  }
  adapter_->OnBody(call, data);
}

// Its length was announced, and looked at then.
void Gatekeeper::OnBodyReadable(http::Exchange& exchange) {
  adapter_->OnBodyReadable(*static_cast<Call*>(exchange.context));
}

void Gatekeeper::OnRequestEnd(http::Exchange& exchange) {
  Call& call = *static_cast<Call*>(exchange.context);
  call.request_ended_ = true;
  if (call.stage_ == Call::Stage::kCarried) adapter_->OnRequestEnd(call);
}

void Gatekeeper::OnDrained(http::Exchange& exchange) {
  adapter_->OnDrained(*static_cast<Call*>(exchange.context));
}

void Gatekeeper::OnGone(http::Exchange& exchange) {
  Call& call = *static_cast<Call*>(exchange.context);
  parts_.traffic.client_gone.Add(1);
  const bool carried = call.stage_ == Call::Stage::kCarried;
  if (carried) adapter_->OnGone(call);
  if (!call.has_begun()) call.status_ = kClientGone;
  Finish(call, "client_gone");
  CheckEmpty();
}

void Gatekeeper::OnBadBody(http::Exchange& exchange, const http::ParseError& error) {
  Call& call = *static_cast<Call*>(exchange.context);
  if (call.stage_ == Call::Stage::kCarried) adapter_->OnGone(call);
  CallFail(call, error.status, ReasonOf(error.status), error.message);
}

// There never was a call.
http::Response Gatekeeper::OnRefused(const http::RefusedRequest& refused) {
  const http::ParseError& error = refused.error;
  const Refusal why = ReasonOf(error.status);
  parts_.traffic.refused[static_cast<size_t>(why)].Add(1);
  parts_.traffic.by_status[error.status - 100].Add(1);
  const policy::RequestId id = names_.NewRequestId();
  http::Response response =
      http::ErrorResponse(error.status, error.error, error.message, id.view());
  response.headers.emplace_back("X-Request-Id", id.view());
  if (!parts_.log.enabled()) return response;
  std::string client;
  policy::AppendAddress(client, AddressOf(refused.peer));
  AccessEntry entry;
  Describe(refused.request, entry);
  entry.version = refused.version;
  entry.client = client;
  entry.status = error.status;
  entry.outcome = policy::RefusalName(why);
  entry.bytes_sent = refused.to_head ? 0 : response.body.size();
  entry.request_id = id.view();
  parts_.log.Add(entry);
  return response;
}

void Gatekeeper::OnCallDeadline(Call& call, size_t kind) {
  switch (kind) {
    case kReady:
      return Refuse(call, 503, Refusal::kNotReady, "the server did not become ready in time");
    case kPlace:
      return Refuse(call, 503, Refusal::kQueueTimeout, "no place became free in time");
    default:
      adapter_->OnGone(call);
      return CallFail(call, 504, Refusal::kTotalTimeout,
                      "the request took longer than --request-timeout");
  }
}

// ---- What requests are called, and where they come from ----

void Gatekeeper::NameRequest(Call& call) {
  std::string_view request_id;
  Values trace;
  for (const http::Header& header : call.request().headers) {
    switch (policy::KindOf(header.name)) {
      case policy::HeaderKind::kXRequestId:
        request_id = header.value;
        break;
      case policy::HeaderKind::kTraceParent:
        trace.Add(header.value);
        break;
      default:
        break;
    }
  }
  if (policy::IsRequestId(request_id)) {
    call.id_ = request_id;
  } else {
    call.id_ = names_.NewRequestId().view();
  }
  call.lines_.append("X-Request-Id: ").append(call.id_).append("\r\n");
  const std::string_view kept = policy::TraceParentToKeep(trace.span());
  if (kept.empty()) {
    call.lines_.append("traceparent: ").append(names_.NewTraceParent().view()).append("\r\n");
    return;
  }
  call.lines_.append("traceparent: ").append(kept).append("\r\n");
  for (const http::Header& header : call.request().headers) {
    if (policy::KindOf(header.name) != policy::HeaderKind::kTraceState) continue;
    call.lines_.append("tracestate: ").append(header.value).append("\r\n");
  }
}

void Gatekeeper::DescribeClient(Call& call) {
  const http::Request& request = call.request();
  Values forwarded_for;
  Values forwarded_proto;
  Values forwarded_host;
  Values forwarded;
  for (const http::Header& header : request.headers) {
    switch (policy::KindOf(header.name)) {
      case policy::HeaderKind::kXForwardedFor:
        forwarded_for.Add(header.value);
        break;
      case policy::HeaderKind::kXForwardedProto:
        forwarded_proto.Add(header.value);
        break;
      case policy::HeaderKind::kXForwardedHost:
        forwarded_host.Add(header.value);
        break;
      case policy::HeaderKind::kForwarded:
        forwarded.Add(header.value);
        break;
      default:
        break;
    }
  }
  const policy::ForwardedHeaders came{forwarded_for.span(), forwarded_proto.span(),
                                      forwarded_host.span(), forwarded.span()};
  const policy::Address peer = AddressOf(call.exchange_->peer());
  const policy::Client client = policy::FindClient(policy_->trusted(), peer, came);
  policy::AppendForwardedLines(call.lines_, {peer, "http", request.host}, client, came,
                               policy_->trusted());
  if (parts_.log.enabled()) policy::AppendAddress(call.client_, client.address);
  if (!request.wants_upgrade || request.has_body() || request.http_1_0) return;
  for (const http::Header& header : request.headers) {
    if (policy::KindOf(header.name) != policy::HeaderKind::kUpgrade) continue;
    std::string_view asked = header.value;
    while (!asked.empty()) {
      const std::string_view protocol = http::TakeMember(asked);
      if (!http::IsMember(protocol, BoardText(policy_->config.upgrades))) continue;
      if (!call.upgrade_.empty()) call.upgrade_ += ", ";
      call.upgrade_ += protocol;
    }
  }
}

// ---- Answers ----

void Gatekeeper::CallBegin(Call& call, const http::ResponseHead& head) {
  call.status_ = head.status;
  call.answer_lines_.assign(head.lines);
  call.answer_lines_.append("X-Request-Id: ").append(call.id_).append("\r\n");
  if (policy_->config.server_timing != 0) {
    call.answer_lines_ += "Server-Timing: total;dur=";
    AppendMilliseconds(call.answer_lines_, MicrosecondsSince(call.began_));
    if (call.answered_ != Clock::TimePoint{}) {
      call.answer_lines_ += ", upstream;dur=";
      AppendMilliseconds(
          call.answer_lines_,
          static_cast<uint64_t>(
              std::chrono::duration_cast<Microseconds>(call.answered_ - call.sent_).count()));
    }
    call.answer_lines_ += "\r\n";
  }
  http::ResponseHead whole = head;
  whole.lines = call.answer_lines_;
  call.exchange_->Begin(whole);
}

void Gatekeeper::CallEnd(Call& call, std::span<const http::Header> trailers) {
  http::Exchange& exchange = *call.exchange_;
  Close(call, "ok");
  // Whoever gets the place may get the server's connection too, where the trailers are.
  exchange.End(trailers);
  LeavePlace();
  CheckEmpty();
}

void Gatekeeper::CallFail(Call& call, int status, Refusal why, std::string_view message) {
  if (!call.has_begun()) return Refuse(call, status, why, message);
  parts_.traffic.refused[static_cast<size_t>(why)].Add(1);
  http::Exchange& exchange = *call.exchange_;
  Finish(call, policy::RefusalName(why));
  exchange.Abort();
  CheckEmpty();
}

void Gatekeeper::Refuse(Call& call, int status, Refusal why, std::string_view message,
                        int64_t retry_after) {
  parts_.traffic.refused[static_cast<size_t>(why)].Add(1);
  http::Exchange& exchange = *call.exchange_;
  http::Response response =
      http::ErrorResponse(status, policy::RefusalName(why), message, call.id_);
  response.headers.emplace_back("X-Request-Id", call.id_);
  if (status == 503 || status == 429) {
    response.headers.emplace_back("Retry-After", std::to_string(retry_after));
  }
  call.status_ = status;
  call.body_sent_ = response.body.size();
  Finish(call, policy::RefusalName(why));
  exchange.Send(response);
  CheckEmpty();
}

// The call is over, but for its last words to the client.
void Gatekeeper::Finish(Call& call, std::string_view outcome) {
  const bool carried = call.stage_ == Call::Stage::kCarried;
  const bool waited = call.stage_ == Call::Stage::kQueued;
  Close(call, outcome);
  if (carried) {
    LeavePlace();
  } else if (waited) {
    GiveTurns();
  }
}

// The same, and its place is still taken.
void Gatekeeper::Close(Call& call, std::string_view outcome) {
  deadlines_->Clear(call);
  admission_.Abandon(call.waiter_);
  AccessEntry entry;
  if (parts_.log.enabled()) Describe(call.request(), entry);
  Count(call, entry, outcome);
  call.exchange_->context = nullptr;
  GiveBack(call);
}

// What `entry` says of the request itself is there already.
void Gatekeeper::Count(Call& call, AccessEntry& entry, std::string_view outcome) {
  const uint64_t took = MicrosecondsSince(call.began_);
  if (call.status_ >= 100 && call.status_ < 600 && call.status_ != kClientGone) {
    parts_.traffic.by_status[call.status_ - 100].Add(1);
  }
  if (call.answered_ != Clock::TimePoint{}) {
    const auto waited = std::chrono::duration_cast<Microseconds>(call.answered_ - call.sent_);
    entry.upstream_microseconds = static_cast<uint64_t>(waited.count());
    policy::Observe(parts_.traffic.upstream_latency, *entry.upstream_microseconds);
  }
  if (call.stage_ == Call::Stage::kCarried) policy::Observe(parts_.traffic.latency, took);
  if (!parts_.log.enabled()) return;
  if (call.client_.empty() && call.exchange_ != nullptr) {
    policy::AppendAddress(call.client_, AddressOf(call.exchange_->peer()));
  }
  entry.client = call.client_;
  entry.status = call.status_;
  entry.outcome = outcome;
  entry.bytes_received = call.body_received_;
  entry.bytes_sent = call.body_sent_;
  entry.microseconds = took;
  entry.request_id = call.id_;
  parts_.log.Add(entry);
}

void Gatekeeper::LeavePlace() {
  --in_flight_;
  admission_.Leave();
  GiveTurns();
}

void Gatekeeper::CheckEmpty() {
  if (in_flight_ == 0 && mode_ >= Mode::kDraining) parts_.on_empty();
}

// ---- Tunnels ----

void Gatekeeper::CallSwitch(Call& call, std::string_view protocol, std::string_view lines,
                            http::DetachedConnection server) {
  const bool is_websocket = http::EqualsIgnoringCase(protocol, "websocket");
  call.answer_lines_.assign("Connection: Upgrade\r\nUpgrade: ").append(protocol);
  call.answer_lines_.append("\r\n").append(lines);
  call.answer_lines_.append("X-Request-Id: ").append(call.id_).append("\r\n");
  auto one = std::make_unique<Tunneled>(*this, call);
  http::DetachedConnection client = call.exchange_->SwitchProtocols(call.answer_lines_);
  call.exchange_ = nullptr;
  call.status_ = 101;
  deadlines_->Clear(call);  // --request-timeout is about requests, and this is none any more
  SetStage(call, Call::Stage::kTunnel);
  // Cut a moment ago, on the way of an interim answer; or the server has switched before it had
  // read the request.
  if (!client.stream || !server.unsent.empty()) {
    if (client.stream) client.stream->Reset();
    server.stream->Reset();
    return EndTunnel(*one, "client_gone");
  }
  // The answer is small: a client that cannot take it has no room for anything.
  const event::IoResult sent = client.stream->Write(client.unsent);
  if (sent.size != client.unsent.size()) {
    client.stream->Reset();
    server.stream->Reset();
    return EndTunnel(*one, "client_gone");
  }
  tunnel_buffer_.resize(kTunnelBuffer);
  tunnel_context_.scratch = tunnel_buffer_;
  parts_.traffic.websockets_opened.Add(1);
  parts_.traffic.websockets.Add(1);
  one->tunnel = std::make_unique<http::Tunnel>(
      tunnel_context_, *one,
      is_websocket ? http::Tunnel::Protocol::kWebSocket : http::Tunnel::Protocol::kOpaque,
      http::Tunnel::Connection{std::move(client.stream), std::move(client.unread)},
      http::Tunnel::Connection{std::move(server.stream), std::move(server.unread)});
  tunnels_.push_back(std::move(one));
  tunnels_.back()->tunnel->Start();
}

void Gatekeeper::OnTunnelOver(Tunneled& one, http::TunnelEnd end) {
  std::string_view outcome = "ok";
  switch (end) {
    case http::TunnelEnd::kEnded:
      break;
    case http::TunnelEnd::kBroken:
      outcome = "broken";
      break;
    case http::TunnelEnd::kTooBig:
      parts_.traffic.refused[static_cast<size_t>(Refusal::kMessageTooLarge)].Add(1);
      outcome = policy::RefusalName(Refusal::kMessageTooLarge);
      break;
    case http::TunnelEnd::kBadFrame:
      outcome = "bad_frame";
      break;
    case http::TunnelEnd::kClosed:
      outcome = policy::RefusalName(Refusal::kDraining);
      break;
  }
  parts_.traffic.websockets.Subtract(1);
  const auto found = std::find_if(tunnels_.begin(), tunnels_.end(),
                                  [&one](const auto& other) { return other.get() == &one; });
  const std::unique_ptr<Tunneled> kept = std::move(*found);
  tunnels_.erase(found);
  EndTunnel(one, outcome);
}

void Gatekeeper::EndTunnel(Tunneled& one, std::string_view outcome) {
  AccessEntry entry;
  entry.method = one.method;
  entry.target = one.target;
  entry.version = "1.1";
  entry.host = one.host;
  entry.user_agent = one.user_agent;
  Count(one.call, entry, outcome);
  GiveBack(one.call);
  LeavePlace();
  CheckEmpty();
}

void Gatekeeper::CutAll() {
  // Before those who have a place leave it: nobody is to begin now.
  while (queued_.first != nullptr) {
    Refuse(*queued_.first, 503, Refusal::kDraining, "this container is stopping");
  }
  for (const auto& one : tunnels_) one->tunnel->CloseGently(http::kCloseGoingAway, kClosingTime);
  while (carried_.first != nullptr) {
    Call& call = *carried_.first;
    adapter_->OnGone(call);
    CallFail(call, 503, Refusal::kDraining, "this container is stopping");
  }
}

// ---- Calls ----

Call& Gatekeeper::Take(http::Exchange& exchange) {
  Call* call = nullptr;
  if (spare_.empty()) {
    calls_.push_back(std::make_unique<Call>(*this));
    call = calls_.back().get();
  } else {
    call = spare_.back();
    spare_.pop_back();
  }
  call->exchange_ = &exchange;
  call->began_ = parts_.clock.Now();
  exchange.context = call;
  return *call;
}

void Gatekeeper::GiveBack(Call& call) {
  SetStage(call, Call::Stage::kFree);
  call.exchange_ = nullptr;
  call.request_ended_ = false;
  call.status_ = 0;
  call.body_received_ = call.body_sent_ = 0;
  call.sent_ = call.answered_ = {};
  call.id_.clear();
  call.client_.clear();
  call.lines_.clear();
  call.answer_lines_.clear();
  call.upgrade_.clear();
  call.state = nullptr;
  spare_.push_back(&call);
}

Gatekeeper::CallList& Gatekeeper::ListOf(Call::Stage stage) {
  if (stage == Call::Stage::kHeld) return held_;
  if (stage == Call::Stage::kQueued) return queued_;
  return stage == Call::Stage::kTunnel ? tunneled_ : carried_;
}

void Gatekeeper::SetStage(Call& call, Call::Stage stage) {
  const auto count = [this](Call::Stage of) -> policy::Counter* {
    if (of == Call::Stage::kHeld) return &parts_.traffic.held;
    if (of == Call::Stage::kQueued) return &parts_.traffic.queued;
    if (of == Call::Stage::kFree) return nullptr;
    return &parts_.traffic.in_flight;
  };
  if (policy::Counter* before = count(call.stage_)) {
    before->Subtract(1);
    ListOf(call.stage_).Remove(call);
  }
  call.stage_ = stage;
  if (policy::Counter* now = count(stage)) {
    now->Add(1);
    ListOf(stage).Append(call);
  }
}

void Gatekeeper::CallList::Append(Call& call) {
  call.before_ = last;
  call.after_ = nullptr;
  (last != nullptr ? last->after_ : first) = &call;
  last = &call;
}

void Gatekeeper::CallList::Remove(Call& call) {
  (call.before_ != nullptr ? call.before_->after_ : first) = call.after_;
  (call.after_ != nullptr ? call.after_->before_ : last) = call.before_;
  call.before_ = call.after_ = nullptr;
}

uint64_t Gatekeeper::MicrosecondsSince(Clock::TimePoint since) const {
  const auto passed = std::chrono::duration_cast<Microseconds>(parts_.clock.Now() - since).count();
  return passed > 0 ? static_cast<uint64_t>(passed) : 0;
}

}  // namespace modal::adapters

#include "agent/gateway_service.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "healthcheck/admin_endpoints.h"

namespace modal {
namespace {

// More than enough for those who look at a container's health, and a bound on memory.
constexpr uint64_t kMostConnections = 1024;
// Standard streams, channel, boards, the loop's own, and some to spare.
constexpr uint64_t kOwnDescriptors = 24;

// Requests here are short, and bodies none.
http::ServerOptions Options(size_t most_connections) {
  http::ServerOptions options;
  options.max_head = 8'192;
  options.max_headers = 64;
  options.max_body = 4'096;
  options.max_connections = most_connections;
  options.header_timeout = Milliseconds(5'000);
  options.body_timeout = Milliseconds(5'000);
  options.write_timeout = Milliseconds(10'000);
  return options;
}

int64_t UnixMilliseconds() {
  const auto since_1970 = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<Milliseconds>(since_1970).count();
}

}  // namespace

size_t MostConnections(uint64_t descriptors, size_t listeners) {
  // An Acceptor holds one more in reserve.
  const uint64_t others = kOwnDescriptors + GatewayProbes::kMostAtOnce + 2 * listeners;
  const uint64_t left = descriptors > others ? descriptors - others : 0;
  return static_cast<size_t>(std::clamp<uint64_t>(left, 1, kMostConnections));
}

Result<std::unique_ptr<GatewayService>> GatewayService::Start(event::Loop& loop, Clock& clock,
                                                              Parts parts,
                                                              std::function<void()> on_closed) {
  std::unique_ptr<GatewayService> service(new GatewayService(loop, clock, parts));
  Result<std::unique_ptr<GatewayProbes>> probes =
      GatewayProbes::Start(loop, clock, std::move(parts.channel), std::move(on_closed));
  if (!probes) return std::move(probes.error());
  service->probes_ = *std::move(probes);
  for (UniqueFd& listener : parts.listeners) {
    if (Result<void> served = service->server_.Serve(std::move(listener)); !served) {
      return std::move(served.error()).While("admin port");
    }
  }
  return service;
}

GatewayService::GatewayService(event::Loop& loop, Clock& clock, Parts& parts)
    : pid_(::getpid()),
      agent_board_(std::move(parts.agent_board)),
      own_board_(std::move(parts.own_board)),
      server_(loop, clock, Options(parts.most_connections),
              [this](const http::Request& request, http::Responder responder) {
                Answer(request, std::move(responder));
              }),
      publish_(loop, [this] { PublishChanges(); }) {}

void GatewayService::set_sealed(bool sealed) { sealed_ = sealed; }

void GatewayService::Answer(const http::Request& request, http::Responder responder) const {
  const std::optional<health::AgentStatus> status = agent_board_.Read();
  const health::GatewayStatus own = Status();
  health::AdminResponse answer = health::AnswerAdmin(
      {request.method_name, request.target}, status ? &*status : nullptr, &own, UnixMilliseconds());
  http::Response response{answer.status, std::string(answer.content_type), std::move(answer.body)};
  response.headers.emplace_back("Cache-Control", "no-store");
  if (!answer.allow.empty()) response.headers.emplace_back("Allow", answer.allow);
  responder.Send(response);
}

health::GatewayStatus GatewayService::Status() const {
  const http::ServerStats& stats = server_.stats();
  health::GatewayStatus status{};
  status.pid = pid_;
  status.sealed = sealed_ ? 1 : 0;
  status.connections_accepted = stats.connections_accepted;
  status.connections_refused = stats.connections_refused;
  status.connections_timed_out = stats.connections_timed_out;
  status.connections_open = stats.connections_open;
  status.requests = stats.requests;
  status.bad_requests = stats.bad_requests;
  return status;
}

void GatewayService::PublishChanges() {
  const health::GatewayStatus now = Status();
  if (now == published_) return;
  own_board_.Publish(now);
  published_ = now;
}

}  // namespace modal

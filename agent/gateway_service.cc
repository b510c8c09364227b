#include "agent/gateway_service.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "healthcheck/admin_endpoints.h"

namespace modal {
namespace {

// More than enough for those who look at a container's health, and a bound on memory.
constexpr uint64_t kMostConnections = 1024;
// On the data plane: as many as there are descriptors for, within reason.
constexpr uint64_t kMostClients = 65'536;
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

ConnectionLimits MostConnections(uint64_t descriptors, size_t admin_listeners,
                                 size_t data_listeners) {
  // An Acceptor holds one more in reserve; a data listener has a loop and a log.
  const uint64_t others =
      kOwnDescriptors + GatewayProbes::kMostAtOnce + 2 * admin_listeners + 10 * data_listeners;
  const uint64_t left = descriptors > others ? descriptors - others : 0;
  if (data_listeners == 0) {
    return {static_cast<size_t>(std::clamp<uint64_t>(left, 1, kMostConnections)), 0};
  }
  // On the data plane a connection has another one behind it.
  const uint64_t admin = std::clamp<uint64_t>(left / 8, 1, kMostConnections);
  const uint64_t data = std::clamp<uint64_t>((left - std::min(left, admin)) / 2, 1, kMostClients);
  return {static_cast<size_t>(admin), static_cast<size_t>(data)};
}

Result<std::unique_ptr<GatewayService>> GatewayService::Start(event::Loop& loop, Clock& clock,
                                                              Log& log, Parts parts,
                                                              std::function<void()> on_closed) {
  std::unique_ptr<GatewayService> service(new GatewayService(loop, clock, log, parts));
  Result<std::unique_ptr<GatewayProbes>> probes =
      GatewayProbes::Start(loop, clock, std::move(parts.channel), std::move(on_closed));
  if (!probes) return std::move(probes.error());
  service->probes_ = *std::move(probes);
  GatewayService* self = service.get();
  service->probes_->set_on_order(
      [self](const health::GatewayRequest& request, GatewayProbes::Descriptors descriptors) {
        self->OnOrder(request, std::move(descriptors));
      });
  for (UniqueFd& listener : parts.listeners) {
    if (Result<void> served = service->server_.Serve(std::move(listener)); !served) {
      return std::move(served.error()).While("admin port");
    }
  }
  if (parts.data_listeners.empty()) return service;
  Result<std::unique_ptr<GatewayDataPlane>> plane =
      GatewayDataPlane::Create({loop, clock, log, service->agent_board_, std::move(parts.policy),
                                std::move(parts.access_log), std::move(parts.data_listeners),
                                parts.most_data_connections, [self] { self->PublishChanges(); },
                                [self](uint32_t order) {
                                  health::GatewayReply reply{};
                                  reply.kind = health::GatewayReply::Kind::kDrained;
                                  reply.id = order;
                                  self->PublishChanges();
                                  self->probes_->Send(reply);
                                }});
  if (!plane) return std::move(plane.error());
  service->data_plane_ = *std::move(plane);
  if (service->data_plane_->policy().config.upstream_name[0] != '\0') {
    service->probes_->set_connect_by_name([self](const event::Destination& server) {
      return self->data_plane_->ConnectByName(server);
    });
  }
  return service;
}

GatewayService::GatewayService(event::Loop& loop, Clock& clock, Log& log, Parts& parts)
    : log_(log),
      pid_(::getpid()),
      agent_board_(std::move(parts.agent_board)),
      own_board_(std::move(parts.own_board)),
      server_(loop, clock, Options(parts.most_connections),
              [this](const http::Request& request, http::Responder responder) {
                Answer(request, std::move(responder));
              }),
      publish_(loop, [this] { PublishChanges(); }) {}

void GatewayService::Run(bool sealed) {
  sealed_ = sealed;
  if (data_plane_) data_plane_->Run();
}

void GatewayService::OnOrder(const health::GatewayRequest& request,
                             GatewayProbes::Descriptors descriptors) {
  if (!data_plane_) return;
  switch (request.kind) {
    case health::GatewayRequest::Kind::kProbe:
      return;
    case health::GatewayRequest::Kind::kCarriage:
      return data_plane_->SetCarriage(request.carriage, request.id);
    case health::GatewayRequest::Kind::kConfig:
      break;
  }
  if (descriptors.size() != 2) {
    return log_.Error("gateway.config", {{"message", "new settings came without descriptors"}});
  }
  auto policy = ReadPolicy(descriptors[0].get(), &data_plane_->policy());
  if (!policy) {
    return log_.Error("gateway.config", {{"message", policy.error().message()}});
  }
  data_plane_->Reconfigure(*std::move(policy), std::move(descriptors[1]));
}

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
  if (data_plane_) {
    status.carries = 1;
    status.threads = data_plane_->threads();
    data_plane_->AddTo(status.traffic);
  }
  return status;
}

void GatewayService::PublishChanges() {
  const health::GatewayStatus now = Status();
  if (now == published_) return;
  own_board_.Publish(now);
  published_ = now;
}

}  // namespace modal

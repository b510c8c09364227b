#include "healthcheck/admin_endpoints.h"

#include <algorithm>
#include <iterator>

#include "agent/base/json_writer.h"
#include "agent/base/status_board.h"
#include "agent/base/strings.h"
#include "healthcheck/metrics.h"
#include "healthcheck/status_json.h"

namespace modal::health {
namespace {

constexpr std::string_view kPlainText = "text/plain; charset=utf-8";
constexpr std::string_view kJson = "application/json";

struct View {
  const AgentStatus& status;
  const GatewayStatus* gateway;
  int64_t now_unix_ms;
};

AdminResponse Ok() { return {.content_type = kPlainText, .body = "ok\n"}; }

AdminResponse Failure(int status, std::string_view error, std::string_view message) {
  JsonWriter json;
  json.BeginObject().Key("error").String(error).Key("message").String(message).EndObject();
  return {.status = status, .content_type = kJson, .body = json.Take() + "\n"};
}

// "WaitingForPort: nothing listens on port 8000".
std::string WhereWeAre(const AgentStatus& status) {
  std::string where(PhaseName(status.phase));
  std::string_view why;
  if (status.phase == Phase::kWaitingForPort) why = BoardText(status.waiting_note);
  if (status.phase == Phase::kDraining) why = BoardText(status.stop_reason);
  if (status.phase == Phase::kServing && status.drain_requested) why = "told to drain";
  return why.empty() ? where : Concat(where, ": ", why);
}

AdminResponse Index(const View&) {
  return {.content_type = kPlainText,
          .body =
              "modal-agent\n"
              "\n"
              "/livez     200 unless the workload was found unhealthy\n"
              "/startupz  200 once it has been serving\n"
              "/readyz    200 while requests are welcome\n"
              "/status    the status as JSON\n"
              "/metrics   metrics in Prometheus' text format\n"};
}

AdminResponse Livez(const View& view) {
  if (view.status.live) return Ok();
  const std::string_view failure = BoardText(view.status.last_failure);
  return Failure(503, "unhealthy", failure.empty() ? "health checks failed" : failure);
}

AdminResponse Startupz(const View& view) {
  return view.status.startup_done ? Ok() : Failure(503, "not_started", WhereWeAre(view.status));
}

AdminResponse Readyz(const View& view) {
  return view.status.ready ? Ok() : Failure(503, "not_ready", WhereWeAre(view.status));
}

AdminResponse Status(const View& view) {
  return {.content_type = kJson, .body = StatusJson(view.status, view.gateway) + "\n"};
}

AdminResponse MetricsText(const View& view) {
  return {.content_type = kMetricsContentType,
          .body = Metrics(view.status, view.gateway, view.now_unix_ms)};
}

struct Endpoint {
  std::string_view path;
  AdminResponse (*answer)(const View&);
};

constexpr Endpoint kEndpoints[] = {
    {"/", Index},        {"/livez", Livez},   {"/startupz", Startupz},
    {"/readyz", Readyz}, {"/status", Status}, {"/metrics", MetricsText},
};

// The path of "/path?query" and of the absolute form "http://host/path?query" (RFC 9112, 3.2.2).
std::string_view PathOf(std::string_view target) {
  constexpr std::string_view kScheme = "http://";
  if (target.starts_with(kScheme)) {
    const size_t path = target.find_first_of("/?", kScheme.size());
    target = path == std::string_view::npos || target[path] == '?' ? "/" : target.substr(path);
  }
  return target.substr(0, target.find_first_of("?#"));
}

}  // namespace

AdminResponse AnswerAdmin(const AdminRequest& request, const AgentStatus* status,
                          const GatewayStatus* gateway, int64_t now_unix_ms) {
  const std::string_view path = PathOf(request.target);
  const auto* endpoint = std::find_if(std::begin(kEndpoints), std::end(kEndpoints),
                                      [path](const Endpoint& each) { return each.path == path; });
  if (endpoint == std::end(kEndpoints)) {
    return Failure(404, "not_found",
                   "there are /livez, /startupz, /readyz, /status and /metrics here");
  }
  if (request.method != "GET" && request.method != "HEAD") {
    AdminResponse response = Failure(405, "method_not_allowed", "only GET and HEAD work here");
    response.allow = "GET, HEAD";
    return response;
  }
  if (!status) {
    return Failure(503, "status_unavailable", "the supervisor's status cannot be read");
  }
  return endpoint->answer({*status, gateway, now_unix_ms});
}

}  // namespace modal::health

#include "healthcheck/admin_endpoints.h"

#include <doctest/doctest.h>

#include "agent/base/status_board.h"
#include "healthcheck/metrics.h"
#include "healthcheck/status_json.h"

namespace modal::health {
namespace {

AgentStatus InPhase(Phase phase) {
  AgentStatus status = NewAgentStatus();
  EnterPhase(status, phase, 0);
  return status;
}

AgentStatus Serving() {
  AgentStatus status = InPhase(Phase::kServing);
  status.ready = status.startup_done = true;
  return status;
}

AdminResponse Get(std::string_view target, const AgentStatus& status) {
  return AnswerAdmin({"GET", target}, &status, nullptr, 0);
}

TEST_CASE("while it starts it is live, but neither started nor ready") {
  const AgentStatus status = InPhase(Phase::kStartupHooks);
  CHECK(Get("/livez", status).status == 200);
  CHECK(Get("/startupz", status).status == 503);
  CHECK(Get("/readyz", status).status == 503);
}

TEST_CASE("while it serves it is live, started and ready") {
  for (const std::string path : {"/livez", "/startupz", "/readyz"}) {
    INFO(path);
    const AdminResponse response = Get(path, Serving());
    CHECK(response.status == 200);
    CHECK(response.body == "ok\n");
    CHECK(response.content_type == "text/plain; charset=utf-8");
    CHECK(response.allow.empty());
  }
}

TEST_CASE("while it drains it is live and started, and not ready") {
  AgentStatus status = Serving();
  EnterPhase(status, Phase::kDraining, 10);
  status.ready = false;
  SetBoardText(status.stop_reason, "SIGTERM");
  CHECK(Get("/livez", status).status == 200);
  CHECK(Get("/startupz", status).status == 200);
  CHECK(Get("/readyz", status).status == 503);
  CHECK(Get("/readyz", status).body ==
        "{\"error\":\"not_ready\",\"message\":\"Draining: SIGTERM\"}\n");
}

TEST_CASE("told to drain, it serves on and says why it is not ready") {
  AgentStatus status = Serving();
  status.ready = false;
  status.drain_requested = true;
  CHECK(Get("/readyz", status).body ==
        "{\"error\":\"not_ready\",\"message\":\"Serving: told to drain\"}\n");
}

TEST_CASE("once found unhealthy it is not live, and says what failed") {
  AgentStatus status = Serving();
  status.live = false;
  CHECK(Get("/livez", status).status == 503);
  CHECK(Get("/livez", status).body ==
        "{\"error\":\"unhealthy\",\"message\":\"health checks failed\"}\n");
  SetBoardText(status.last_failure, "GET /health: 500");
  CHECK(Get("/livez", status).body ==
        "{\"error\":\"unhealthy\",\"message\":\"GET /health: 500\"}\n");
}

TEST_CASE("an error says where we are and what was found instead") {
  AgentStatus status = InPhase(Phase::kWaitingForPort);
  SetBoardText(status.waiting_note, "nothing listens on port 8000");
  for (const std::string path : {"/readyz", "/startupz"}) {
    const AdminResponse response = Get(path, status);
    INFO(path);
    CHECK(response.content_type == "application/json");
    CHECK(response.body.find("\"message\":\"WaitingForPort: nothing listens on port 8000\"}") !=
          std::string::npos);
  }
  CHECK(Get("/startupz", status).body.starts_with("{\"error\":\"not_started\","));
}

TEST_CASE("/status and /metrics are the documents of their names, whatever the phase") {
  GatewayStatus gateway{};
  gateway.requests = 5;
  for (const Phase phase : {Phase::kStartupHooks, Phase::kServing, Phase::kStopping}) {
    const AgentStatus status = InPhase(phase);
    const AdminResponse json = AnswerAdmin({"GET", "/status"}, &status, &gateway, 1'000);
    CHECK(json.status == 200);
    CHECK(json.content_type == "application/json");
    CHECK(json.body == StatusJson(status, &gateway) + "\n");
    const AdminResponse metrics = AnswerAdmin({"GET", "/metrics"}, &status, &gateway, 1'000);
    CHECK(metrics.status == 200);
    CHECK(metrics.content_type == kMetricsContentType);
    CHECK(metrics.body == Metrics(status, &gateway, 1'000));
  }
}

TEST_CASE("/ lists what is there") {
  const AdminResponse response = Get("/", Serving());
  CHECK(response.status == 200);
  for (const std::string path : {"/livez", "/startupz", "/readyz", "/status", "/metrics"}) {
    INFO(path);
    CHECK(response.body.find(path) != std::string::npos);
  }
}

TEST_CASE("queries are ignored, and the absolute form of a target is understood") {
  for (const std::string target : {"/livez?", "/livez?verbose=1&x=/readyz",
                                   "http://10.0.0.7:8001/livez", "http://a/livez?b"}) {
    INFO(target);
    CHECK(Get(target, Serving()).body == "ok\n");
  }
  for (const std::string target : {"http://10.0.0.7:8001", "http://10.0.0.7?x=/livez", "/?x"}) {
    INFO(target);
    CHECK(Get(target, Serving()).body.starts_with("modal-agent\n"));
  }
}

TEST_CASE("any other path is not found") {
  for (const std::string target : {"", "*", "/livez/", "//livez", "/LIVEZ", "/livez%20", "/%6civez",
                                   "/../livez", "livez", "ftp://a/livez", "/status.json"}) {
    INFO(target);
    const AdminResponse response = Get(target, Serving());
    CHECK(response.status == 404);
    CHECK(response.body.starts_with("{\"error\":\"not_found\","));
  }
  CHECK(AnswerAdmin({"DELETE", "/no"}, nullptr, nullptr, 0).status == 404);
}

TEST_CASE("HEAD is answered as GET is; other methods are refused with those that work") {
  const AgentStatus status = Serving();
  CHECK(AnswerAdmin({"HEAD", "/livez"}, &status, nullptr, 0).status == 200);
  for (const std::string method : {"POST", "PUT", "DELETE", "OPTIONS", "get", "BREW", ""}) {
    INFO(method);
    const AdminResponse response = AnswerAdmin({method, "/livez"}, &status, nullptr, 0);
    CHECK(response.status == 405);
    CHECK(response.allow == "GET, HEAD");
    CHECK(response.body.starts_with("{\"error\":\"method_not_allowed\","));
  }
}

TEST_CASE("without a status everything is 503") {
  for (const std::string path : {"/livez", "/startupz", "/readyz", "/status", "/metrics"}) {
    INFO(path);
    const AdminResponse response = AnswerAdmin({"GET", path}, nullptr, nullptr, 0);
    CHECK(response.status == 503);
    CHECK(response.body.starts_with("{\"error\":\"status_unavailable\","));
  }
}

}  // namespace
}  // namespace modal::health

// Health checks of a server that is up: by its port, its accept queue and a path.
#include <doctest/doctest.h>
#include <signal.h>

#include "tests/support/agent_process.h"

namespace modal::test {
namespace {

// Checks so often that a test need not wait for them. `arguments` count more than these.
AgentOptions Checked(const std::vector<std::string>& arguments,
                     const std::vector<std::string>& listener_options) {
  std::vector<std::string> all = {"--health-interval",  "100ms", "--health-timeout",    "500ms",
                                  "--health-threshold", "3",     "--exit-grace-period", "0"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  all.insert(all.end(), {"--", kListener});
  all.insert(all.end(), listener_options.begin(), listener_options.end());
  return With(std::move(all));
}

void CheckEndsUnhealthy(AgentProcess& agent, const std::string& why) {
  CHECK(agent.WaitForExit() == 121);
  CHECK(agent.Count("health.failed") >= 3);
  CHECK(Contains(agent.Find("health.unhealthy")["message"], why));
  CHECK(agent.Find("lifecycle.stop")["by"] == "health checks");
  CHECK_FALSE(agent.ProgramsLeft());
}

TEST_CASE("a server that stops listening is unhealthy after the threshold: 121") {
  AgentProcess agent(Checked({}, {"--on", "USR1=close"}));
  agent.WaitFor("lifecycle.ready");
  CHECK(agent.Count("health.failed") == 0);
  agent.Signal(SIGUSR1);
  CheckEndsUnhealthy(agent, "8000");
  CHECK(agent.CountReports("listener signal TERM") == 1);
}

TEST_CASE("a server that accepts nothing is unhealthy: 121") {
  AgentProcess agent(Checked({}, {"--on", "USR1=hang"}));
  agent.WaitFor("lifecycle.ready");
  agent.Signal(SIGUSR1);
  agent.WaitForReport("listener signal USR1");
  Client waiting = agent.Connect(8000);
  REQUIRE(waiting.Request("/"));
  CheckEndsUnhealthy(agent, "accept");
}

TEST_CASE("a server that accepts nothing but to whom nobody connects is healthy") {
  AgentProcess agent(Checked({}, {"--on", "USR1=hang"}));
  agent.WaitFor("lifecycle.ready");
  agent.Signal(SIGUSR1);
  agent.WaitForReport("listener signal USR1");
  agent.WaitUntil("some checks", [&] {
    const std::string status = agent.Get(8001, "/status").body;
    const size_t at = status.find("\"checks\":");
    return at != std::string::npos && std::atoi(status.c_str() + at + 9) >= 5;
  });
  CHECK(agent.Count("health.failed") == 0);
}

TEST_CASE("a --health-path that answers 500 is unhealthy: 121") {
  AgentProcess agent(Checked({"--health-path", "/healthy"}, {"--on", "USR1=fail"}));
  agent.WaitFor("lifecycle.ready");
  agent.WaitForReport("listener request /healthy");
  agent.Signal(SIGUSR1);
  CheckEndsUnhealthy(agent, "500");
}

TEST_CASE("a --health-path that does not answer in time is unhealthy: 121") {
  AgentProcess agent(Checked({"--health-path", "/healthy"}, {"--on", "USR1=hang"}));
  agent.WaitFor("lifecycle.ready");
  agent.Signal(SIGUSR1);
  CheckEndsUnhealthy(agent, "");
}

TEST_CASE("the container is ready only when --health-path answers") {
  AgentProcess agent(Checked({"--health-path", "/healthy", "--startup-timeout", "1000"},
                             {"--hang", "--on", "USR1=resume"}));
  agent.WaitFor("port.open");
  CHECK(agent.Get(8001, "/readyz").status != 200);
  CHECK(agent.Count("lifecycle.ready") == 0);
  agent.Signal(SIGUSR1);
  agent.WaitFor("lifecycle.ready");
}

TEST_CASE("a --health-path that never answers well is a startup timeout: 124") {
  AgentProcess agent(With({"--health-path", "/hold", "--health-timeout", "100ms",
                           "--startup-timeout", "600ms", "--", kListener}));
  CHECK(agent.WaitForExit() == 124);
  CHECK(Contains(agent.Find("startup.timeout")["message"], "/hold"));
}

TEST_CASE("a server that recovers before the threshold goes on") {
  AgentProcess agent(
      Checked({"--health-threshold", "1000000"}, {"--on", "USR1=close", "--on", "USR2=listen"}));
  agent.WaitFor("lifecycle.ready");
  agent.Signal(SIGUSR1);
  agent.WaitFor("health.failed", {}, 2);
  agent.Signal(SIGUSR2);
  agent.WaitFor("health.recovered");
  CHECK(agent.Get(8001, "/livez").status == 200);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("with --restart on-failure an unhealthy server is replaced") {
  AgentProcess agent(Checked({"--restart", "on-failure"}, {"--on", "USR1=close"}));
  agent.WaitForPhase("Serving");
  agent.Signal(SIGUSR1);
  agent.WaitFor("health.unhealthy");
  agent.WaitFor("lifecycle.ready", {}, 2);
  CHECK(agent.CountReports("listener signal TERM") == 1);
  CHECK(agent.Get(8000, "/").status == 200);
  CHECK(agent.Get(8001, "/livez").status == 200);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("requests in flight have their time before an unhealthy server is stopped") {
  AgentProcess agent(Checked({"--exit-grace-period", "1000"}, {"--on", "USR1=close"}));
  agent.WaitFor("lifecycle.ready");
  Client held = agent.Connect(8000);
  REQUIRE(held.Request("/hold"));
  Client other = agent.Connect(8000);
  agent.WaitForReport("listener request /hold");
  agent.Signal(SIGUSR1);
  CHECK(agent.WaitFor("drain.begin")["in_flight"] != "0");
  CHECK(agent.CountReports("listener signal TERM") == 0);
  REQUIRE(other.Request("/release"));
  CHECK(held.ReadAnswer().status == 200);
  held.Close();
  other.Close();
  CHECK(agent.WaitForExit() == 121);
}

TEST_CASE("health checks do without the admin port") {
  AgentProcess agent(Checked({"--admin", "off"}, {"--on", "USR1=close"}));
  agent.WaitFor("lifecycle.ready");
  agent.Signal(SIGUSR1);
  CheckEndsUnhealthy(agent, "8000");
}

}  // namespace
}  // namespace modal::test

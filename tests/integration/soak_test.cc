// What a container goes through in a long life, in a short time: nothing grows.
#include <doctest/doctest.h>
#include <signal.h>

#include "tests/support/agent_process.h"

namespace modal::test {
namespace {

constexpr int kRounds = 500;

// Orphans, requests to the admin port and to the control socket, signals, connections that come to
// nothing.
void OneRound(AgentProcess& agent, size_t round) {
  REQUIRE(
      agent.Run({"sh", "-c", "i=0; while [ $i -lt 50 ]; do (true &) ; i=$((i + 1)); done"}).code ==
      0);
  for (const char* path : {"/livez", "/readyz", "/status", "/metrics", "/nothing-here"}) {
    REQUIRE(agent.Get(8001, path).status > 0);
  }
  std::vector<Client> idle;
  for (int i = 0; i < 20; ++i) idle.push_back(agent.Connect(8001));
  for (Client& client : idle) client.Send("GET /livez HTTP/1.1\r\nX-");
  REQUIRE(agent.Run({"modal-agent", "status", "--json"}).code == 0);
  REQUIRE(agent.Run({"modal-agent", "health"}).code == 0);
  agent.Signal(SIGHUP);
  agent.WaitForReport("listener signal HUP", round);
}

TEST_CASE("neither memory nor descriptors grow in a long life") {
  AgentProcess agent(With({"--health-interval", "20ms", "--health-path", "/", "--", kListener}));
  agent.WaitFor("lifecycle.ready");
  agent.WaitUntil("the control socket", [&] {
    return agent.Run({"modal-agent", "status"}).code == 0;
  });
  size_t round = 1;
  for (; round <= 50; ++round) OneRound(agent, round);
  const size_t descriptors = agent.OpenDescriptors();
  const size_t memory = agent.ResidentMemoryKiB();
  for (; round <= kRounds; ++round) OneRound(agent, round);
  // A connection to the control socket may be on its way out.
  agent.WaitUntil("as few descriptors as before",
                  [&] { return agent.OpenDescriptors() <= descriptors; });
  if (!Settings().sanitized) CHECK(agent.ResidentMemoryKiB() <= memory + 256);
  CHECK(agent.Count("gateway.exit") == 0);
  CHECK(agent.Count("health.failed") == 0);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("a server that fails again and again is restarted again and again, and nothing grows") {
  AgentProcess agent(With({"--restart", "on-failure", "--", kListener, "--on", "USR1=exit:3"}));
  agent.WaitFor("lifecycle.ready");
  size_t descriptors = 0;
  // The pauses double up to half a minute: no more than a few.
  for (size_t restart = 1; restart <= 5; ++restart) {
    agent.SignalProgram("listener", SIGUSR1);
    agent.WaitFor("lifecycle.ready", {}, restart + 1);
    if (restart == 1) descriptors = agent.OpenDescriptors();
  }
  agent.WaitUntil("as few descriptors as before",
                  [&] { return agent.OpenDescriptors() <= descriptors; });
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

}  // namespace
}  // namespace modal::test

// Orphans and zombies: whoever loses its parent is adopted, and reaped when it ends.
#include <doctest/doctest.h>
#include <signal.h>

#include <algorithm>

#include "agent/base/sanitized.h"
#include "tests/support/agent_process.h"

namespace modal::test {
namespace {

size_t Zombies(const AgentProcess& agent) {
  const std::vector<ProcessSeen> all = agent.Processes();
  return static_cast<size_t>(std::count_if(
      all.begin(), all.end(), [](const ProcessSeen& one) { return one.state == 'Z'; }));
}

int OrphansReaped(AgentProcess& agent) {
  const std::string status = agent.Run({"modal-agent", "status", "--json"}).output;
  const size_t at = status.find("\"orphans_reaped\":");
  return at == std::string::npos ? -1 : std::atoi(status.c_str() + at + 17);
}

TEST_CASE("thousands of zombies are reaped, all of them") {
  AgentOptions options = With({"--startup-timeout", "1000", "--", kOrphans, "zombies", "5000"});
  SUBCASE("as process 1") { options.process_1 = true; }
  SUBCASE("beside process 1") { options.process_1 = false; }
  AgentProcess agent(std::move(options));
  agent.WaitForReport("orphans done");
  agent.WaitUntil("every orphan to be reaped", [&] {
    const int reaped = OrphansReaped(agent);
    // A sanitizer looks for leaks from a process of its own, which a helper that is ended leaves.
    return reaped == 5000 || (kSanitized && reaped > 5000);
  });
  CHECK(Zombies(agent) == 0);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("orphans of orphans are adopted and reaped") {
  AgentOptions options = With({"--startup-timeout", "1000", "--", kOrphans, "chain", "200"});
  SUBCASE("as process 1") { options.process_1 = true; }
  SUBCASE("beside process 1") { options.process_1 = false; }
  AgentProcess agent(std::move(options));
  agent.WaitForReport("orphans end of the chain");
  agent.WaitUntil("the chain to be gone", [&] { return agent.Processes(kOrphans).size() == 1; });
  agent.WaitUntil("every orphan to be reaped", [&] { return OrphansReaped(agent) >= 199; });
  CHECK(Zombies(agent) == 0);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("beside process 1 an orphan is adopted by the agent, not by process 1") {
  AgentOptions options = With({"--", kDaemonise, kListener});
  options.process_1 = false;
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
  agent.WaitFor("workload.daemonised");
  const std::vector<ProcessSeen> keepers = agent.Processes("modal-agent-keeper");
  const ProcessSeen adopter =
      keepers.empty() ? agent.Processes("/mnt/modal-agent").at(0) : keepers.at(0);
  CHECK(agent.Processes(kListener).at(0).parent == adopter.pid);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  agent.WaitUntilNobodyIsLeft();
}

TEST_CASE("the workload's exit code is its own, whatever else ends at the same time") {
  for (int round = 0; round < 10; ++round) {
    AgentProcess agent(With({"--admin", "off", "--", "sh", "-c",
                             "i=0; while [ $i -lt 50 ]; do (exit 3 & exit 4) & i=$((i + 1)); done;"
                             " exit 42"}));
    REQUIRE(agent.WaitForExit() == 42);
  }
}

TEST_CASE("a process that somebody puts beside the agent is nobody's orphan") {
  // As `docker exec` does it: in the container, but not below the agent.
  AgentProcess agent(With({kListener}));
  agent.WaitFor("lifecycle.ready");
  CHECK(agent.Run({"true"}).code == 0);
  CHECK(agent.Run({"sh", "-c", "sleep 0 & exit 3"}).code == 3);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

}  // namespace
}  // namespace modal::test

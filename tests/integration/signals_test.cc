// Signals: what is forwarded, to whom, how often; and what is inherited.
#include <doctest/doctest.h>
#include <signal.h>
#include <string.h>

#include <fstream>
#include <sstream>

#include "tests/support/agent_process.h"

namespace modal::test {
namespace {

// "USR1" for SIGUSR1, as the programs report it.
std::string NameOf(int number) {
  if (const char* name = ::sigabbrev_np(number)) return name;
  return number == SIGRTMIN ? "RTMIN" : "RTMIN+" + std::to_string(number - SIGRTMIN);
}

std::vector<int> Forwardable() {
  return {SIGQUIT,  SIGUSR1, SIGUSR2, SIGALRM,  SIGCONT,      SIGURG,       SIGVTALRM, SIGPROF,
          SIGWINCH, SIGIO,   SIGPWR,  SIGRTMIN, SIGRTMIN + 1, SIGRTMIN + 7, SIGRTMAX};
}

TEST_CASE(
    "every signal that can be forwarded arrives once at each process of the workload's group") {
  AgentOptions options =
      With({"--", kListener, "--name", "leader", "--child", "child", "--on", "HUP=none"});
  SUBCASE("as process 1") { options.process_1 = true; }
  SUBCASE("beside process 1") { options.process_1 = false; }
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
  agent.WaitForReportStartingWith("child start");
  const std::vector<int> numbers = Forwardable();
  for (const int number : numbers) agent.Signal(number);
  for (const int number : numbers) {
    agent.WaitForReport("leader signal " + NameOf(number));
    agent.WaitForReport("child signal " + NameOf(number));
  }
  agent.Signal(SIGHUP);  // last: it ends the child
  agent.WaitForReport("leader signal HUP");
  agent.WaitForReport("child exit 0");
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  for (const int number : numbers) {
    CHECK(agent.CountReports("leader signal " + NameOf(number)) == 1);
    CHECK(agent.CountReports("child signal " + NameOf(number)) == 1);
  }
}

TEST_CASE("a real-time signal arrives as often as it was sent") {
  AgentProcess agent(With({kListener}));
  agent.WaitFor("lifecycle.ready");
  for (int i = 0; i < 20; ++i) agent.Signal(SIGRTMIN + 2);
  agent.WaitForReport("listener signal RTMIN+2", 20);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.CountReports("listener signal RTMIN+2") == 20);
}

TEST_CASE("signals are forwarded while the port is awaited") {
  AgentProcess agent(With({kListener, "--wait", "--on", "USR1=listen"}));
  agent.WaitForReportStartingWith("listener start");
  agent.Signal(SIGUSR1);
  agent.WaitFor("lifecycle.ready");
  CHECK(agent.CountReports("listener signal USR1") == 1);
}

TEST_CASE("signals reach a server that has made itself a daemon") {
  AgentProcess agent(With({"--", kDaemonise, kListener}));
  agent.WaitFor("lifecycle.ready");
  agent.WaitFor("workload.daemonised");
  agent.Signal(SIGUSR1);
  agent.WaitForReport("listener signal USR1");
}

TEST_CASE("SIGHUP is forwarded and reloads the configuration") {
  AgentOptions options = With({"--config", "/mnt/agent.conf", "--", kListener});
  options.files = {{"agent.conf", "health-interval = 11\n", 0644}};
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");

  SUBCASE("a good one is taken over") {
    agent.WriteFile("agent.conf",
                    "health-interval = 12\nstop-timeout = 1\nexit-grace-period = 1\n");
    agent.Signal(SIGHUP);
    agent.WaitForReport("listener signal HUP");
    agent.WaitFor("config.reloaded");
    agent.Signal(SIGTERM);
    CHECK(agent.WaitForExit() == 0);
    CHECK(agent.Find("lifecycle.stop")["longest_ms"] == "2000");
  }
  SUBCASE("a damaged one is refused, and everything goes on") {
    agent.WriteFile("agent.conf", "health-interval = soon\n");
    agent.Signal(SIGHUP);
    agent.WaitForReport("listener signal HUP");
    const std::string why = agent.WaitFor("config.reload_failed")["message"];
    CHECK(Contains(why, "/mnt/agent.conf:1"));
    CHECK(agent.Get(8000, "/").status == 200);
    agent.Signal(SIGTERM);
    CHECK(agent.WaitForExit() == 0);
  }
}

TEST_CASE("signals that the agent inherits blocked or ignored are normal again in the workload") {
  AgentOptions options = With({kListener});
  SUBCASE("all blocked") {
    for (int number = 1; number <= SIGRTMAX; ++number) options.blocked_signals.push_back(number);
  }
  SUBCASE("all ignored") {
    for (int number = 1; number <= SIGRTMAX; ++number) options.ignored_signals.push_back(number);
  }
  SUBCASE("some of each, as a shell's background job has it") {
    options.blocked_signals = {SIGTSTP, SIGTTIN, SIGTTOU};
    options.ignored_signals = {SIGINT, SIGQUIT, SIGPIPE};
  }
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
  agent.WaitForReport("listener inherited blocked ignored");
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("the same holds for hooks") {
  AgentOptions options =
      With({"--on-enter", "/mnt/bin/listener --name hook --wait --on USR1=exit:0", "--", kEnding,
            "code", "0"});
  for (int number = 1; number <= SIGRTMAX; ++number) {
    (number % 2 ? options.blocked_signals : options.ignored_signals).push_back(number);
  }
  AgentProcess agent(std::move(options));
  agent.WaitForReport("hook inherited blocked ignored");
  agent.SignalProgram("hook", SIGUSR1);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("exits are seen although SIGCHLD was inherited ignored, or blocked") {
  AgentOptions options = With({"--on-enter", "true", "--", kEnding, "code", "4"});
  SUBCASE("ignored") { options.ignored_signals = {SIGCHLD}; }
  SUBCASE("blocked") { options.blocked_signals = {SIGCHLD}; }
  SUBCASE("both") { options.ignored_signals = options.blocked_signals = {SIGCHLD}; }
  AgentProcess agent(std::move(options));
  CHECK(agent.WaitForExit() == 4);
}

TEST_CASE("a signal that may not be forwarded is told, and is not the end") {
  std::ifstream listener(Settings().programs + "/listener", std::ios::binary);
  std::ostringstream program;
  program << listener.rdbuf();
  // The workload becomes somebody else, whom the agent, not being root, may not signal.
  AgentOptions options = With({"--", "/mnt/set-user-id-listener", "--become-root"});
  options.uid = 54322;
  options.files = {{"set-user-id-listener", program.str(), 04755}};
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
  agent.Signal(SIGUSR1);
  agent.WaitFor("signal.failed");
  CHECK(agent.Get(8000, "/").status == 200);
  agent.SignalProgram("listener", SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("a SIGTERM that was pending before the agent started stops the start") {
  AgentOptions options = With({kListener, "--wait"});
  options.pending_signals = {SIGTERM};
  SUBCASE("as process 1") { options.process_1 = true; }
  SUBCASE("beside process 1") { options.process_1 = false; }
  AgentProcess agent(std::move(options));
  const int code = agent.WaitForExit();
  CHECK((code == 0 || code == 128 + SIGTERM));
  CHECK(Contains(agent.Find("lifecycle.stop")["by"], "SIGTERM"));
  CHECK_FALSE(agent.ProgramsLeft());
}

}  // namespace
}  // namespace modal::test

// Startup hooks and exit handlers.
#include <doctest/doctest.h>
#include <signal.h>

#include <algorithm>

#include "tests/support/agent_process.h"

namespace modal::test {
namespace {

std::vector<std::string> OutputOf(const AgentProcess& agent, const std::string& hook) {
  std::vector<std::string> lines;
  for (const LogEvent& event : agent.log()) {
    if (event.name == "hook.output" && event["hook"] == hook) lines.push_back(event["line"]);
  }
  return lines;
}

TEST_CASE("startup hooks run one after the other, before COMMAND, and are logged line by line") {
  AgentProcess agent(With({"--on-enter", "echo one; echo two >&2; printf three", "--on-enter",
                           "echo four", "--", "sh", "-c", "echo served"}));
  CHECK(agent.WaitForExit() == 0);
  const std::string first = "echo one; echo two >&2; printf three";
  CHECK(OutputOf(agent, first) == std::vector<std::string>{"one", "two", "three"});
  CHECK(OutputOf(agent, "echo four") == std::vector<std::string>{"four"});
  const size_t first_end = agent.Find("hook.exit", {{"hook", first}}).position;
  const size_t second_start = agent.Find("hook.start", {{"hook", "echo four"}}).position;
  const size_t second_end = agent.Find("hook.exit", {{"hook", "echo four"}}).position;
  CHECK(agent.Find("hook.exit", {{"hook", first}})["status"] == "exit code 0");
  CHECK(first_end < second_start);
  CHECK(second_end < agent.Find("workload.start").position);
  CHECK(agent.output() == "served\n");
}

TEST_CASE("the executables of hooks.d/enter run first, in name order") {
  AgentOptions options = With({"--hooks-dir", "/mnt/hooks.d", "--on-enter",
                               "echo flag >>/mnt/order", "--", "cat", "/mnt/order"});
  const auto append = [](const std::string& word) {
    return "#!/bin/sh\necho " + word + " >>/mnt/order\n";
  };
  options.files = {{"hooks.d/enter/20-second", append("second")},
                   {"hooks.d/enter/10-first", append("first")},
                   {"hooks.d/enter/30-not-executable", append("never"), 0644},
                   {"hooks.d/enter/.hidden", append("hidden")}};
  AgentProcess agent(std::move(options));
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.output() == "first\nsecond\nflag\n");
  for (const char* name : {"30-not-executable", ".hidden"}) {
    CAPTURE(name);
    CHECK(std::any_of(agent.log().begin(), agent.log().end(), [name](const LogEvent& event) {
      return event.name == "hook.folder" && Contains(event["message"], name);
    }));
  }
}

TEST_CASE("a hook that fails fails the start with 120, and nothing else is started") {
  std::string hook;
  std::string status;
  SUBCASE("by its exit code") {
    hook = "exit 3";
    status = "exit code 3";
  }
  SUBCASE("killed by a signal") {
    hook = "kill -SEGV $$";
    status = "signal SIGSEGV";
  }
  AgentProcess agent(With({"--on-enter", hook, "--on-enter", "touch /mnt/second-hook-ran",
                           "--on-exit", "touch /mnt/handler-ran", "--", kListener}));
  CHECK(agent.WaitForExit() == 120);
  CHECK(agent.Find("hook.exit")["status"].rfind(status, 0) == 0);
  CHECK(Contains(agent.Find("lifecycle.stop")["reason"], status));
  CHECK(agent.Count("workload.start") == 0);
  CHECK_FALSE(agent.FileExists("second-hook-ran"));
  CHECK(agent.FileExists("handler-ran"));
}

TEST_CASE("a hook that does not exist, or cannot be executed, fails the start with 120") {
  std::string hook;
  SUBCASE("it does not exist") { hook = "/mnt/no-such-hook"; }
  SUBCASE("it is a directory") { hook = "/mnt"; }
  AgentProcess agent(With({"--on-enter", hook, "--", kListener}));
  CHECK(agent.WaitForExit() == 120);
  CHECK(Contains(agent.Find("hook.failed")["message"], hook));
}

TEST_CASE("a hook that hangs is killed at --hook-timeout, with its whole group") {
  AgentProcess agent(With(
      {"--hook-timeout", "300ms", "--on-enter",
       "/mnt/bin/listener --name hook --wait --on TERM=none --child child; :", "--", kListener}));
  CHECK(agent.WaitForExit() == 120);
  CHECK(agent.CountReports("hook signal TERM") == 0);  // killed, not asked
  CHECK(agent.CountReports("child exit 0") == 0);
  CHECK(agent.Count("hook.timeout") == 1);
  CHECK(Contains(agent.Find("lifecycle.stop")["reason"], "300 ms"));
  CHECK(agent.Count("workload.start") == 0);
  CHECK_FALSE(agent.ProgramsLeft());
}

TEST_CASE("what a hook leaves running goes on, and holds nobody up") {
  // The child keeps the hook's output open.
  AgentProcess agent(
      With({"--on-enter", "/mnt/bin/listener --name side --wait & echo forked", "--", kListener}));
  agent.WaitFor("lifecycle.ready");
  agent.WaitForReportStartingWith("side start");
  CHECK(agent.CountReports("side signal TERM") == 0);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.CountReports("side signal TERM") == 1);
  CHECK(agent.CountReports("side exit 0") == 1);
}

TEST_CASE("a hook that floods its output neither stops nor grows the agent") {
  constexpr size_t kLines = 100'000;  // of 100 bytes each
  AgentProcess agent(With({"--on-enter", "/mnt/bin/flood 10000000", "--", kListener}));
  // The line that says so may be among those that are lost.
  agent.WaitUntil("readiness", [&] { return agent.Get(8001, "/readyz").status == 200; });
  // What was not taken in time is counted, not forgotten. (Other lines may be among the lost.)
  agent.WaitUntil("every line to be there or to be counted", [&] {
    const std::string status = agent.Run({"modal-agent", "status", "--json"}).output;
    const size_t at = status.find("\"log_lines_lost\":");
    if (at == std::string::npos) return false;
    const auto lost = static_cast<size_t>(std::atoi(status.c_str() + at + 17));
    return agent.Count("hook.output") + lost >= kLines;
  });
  if (!Settings().sanitized) CHECK(agent.PeakMemoryKiB() < 20'000);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("a line without an end does not grow the agent") {
  AgentProcess agent(
      With({"--on-enter", "head -c 20000000 /dev/zero | tr '\\0' x", "--", kListener}));
  agent.WaitForReport("listener listening");
  if (!Settings().sanitized) CHECK(agent.PeakMemoryKiB() < 20'000);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("exit handlers run at the stop, at the same time as the workload ends") {
  AgentProcess agent(With({"--on-exit", "/mnt/bin/listener --name handler --wait --on USR1=exit:0",
                           "--", kListener, "--on", "TERM=none", "--on", "USR2=exit:0"}));
  agent.WaitFor("lifecycle.ready");
  agent.Signal(SIGTERM);
  agent.WaitForReport("listener signal TERM");
  agent.WaitForReportStartingWith("handler start");

  SUBCASE("the agent waits for the handler") {
    agent.SignalProgram("listener", SIGUSR2);
    agent.WaitFor("workload.exit");
    CHECK_FALSE(agent.HasEnded());
    agent.SignalProgram("handler", SIGUSR1);
  }
  SUBCASE("and for the workload") {
    agent.SignalProgram("handler", SIGUSR1);
    agent.WaitFor("hook.exit");
    CHECK_FALSE(agent.HasEnded());
    agent.SignalProgram("listener", SIGUSR2);
  }
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.CountReports("handler signal TERM") == 0);
  CHECK(agent.CountReports("listener signal TERM") == 1);
  CHECK(agent.Count("stop.kill") == 0);
}

TEST_CASE("an exit handler that hangs is killed at --stop-timeout") {
  AgentProcess agent(With({"--stop-timeout", "300ms", "--on-exit",
                           "/mnt/bin/listener --name handler --wait --on TERM=none", "--on-exit",
                           "touch /mnt/second-ran", "--", kListener}));
  agent.WaitFor("lifecycle.ready");
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.CountReports("handler signal TERM") == 0);
  CHECK_FALSE(agent.ProgramsLeft());
}

TEST_CASE("an exit handler that fails changes no exit code, and the next one runs all the same") {
  AgentProcess agent(With(
      {"--on-exit", "exit 9", "--on-exit", "touch /mnt/second-ran", "--", kEnding, "code", "5"}));
  CHECK(agent.WaitForExit() == 5);
  CHECK(agent.Find("hook.exit")["status"] == "exit code 9");
  CHECK(agent.FileExists("second-ran"));
}

TEST_CASE("hooks.d/exit holds exit handlers") {
  AgentOptions options = With({"--hooks-dir", "/mnt/hooks.d", "--", kEnding, "code", "0"});
  options.files = {{"hooks.d/exit/10-bye", "#!/bin/sh\ntouch /mnt/bye\n"}};
  AgentProcess agent(std::move(options));
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.FileExists("bye"));
}

TEST_CASE(
    "what an exit handler leaves running is told to end, but not before the handler has ended") {
  AgentProcess agent(With({"--on-exit",
                           "/mnt/bin/listener --name left --wait & exec "
                           "/mnt/bin/listener --name handler --wait --on USR1=exit:0",
                           "--", kEnding, "code", "0"}));
  agent.WaitForReportStartingWith("left start");
  agent.WaitFor("workload.exit");
  CHECK(agent.CountReports("left signal TERM") == 0);
  agent.SignalProgram("handler", SIGUSR1);
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.CountReports("left signal TERM") == 1);
  CHECK(agent.CountReports("left exit 0") == 1);
  CHECK(agent.CountReports("handler signal TERM") == 0);
  CHECK(agent.Count("stop.kill") == 0);
}

TEST_CASE("hooks have the workload's environment") {
  AgentProcess agent(With({"--port", "9000", "--env", "COLOUR=green", "--on-enter",
                           "echo $PORT $COLOUR", "--", kEnding, "code", "0"}));
  CHECK(agent.WaitForExit() == 0);
  CHECK(OutputOf(agent, "echo $PORT $COLOUR") == std::vector<std::string>{"9000 green"});
}

}  // namespace
}  // namespace modal::test

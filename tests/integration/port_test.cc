// The wait for the port, and what is said when it does not come.
#include <doctest/doctest.h>
#include <signal.h>

#include "tests/support/agent_process.h"

namespace modal::test {
namespace {

// Runs to the startup timeout; the error that the agent gives.
std::string TimeoutMessage(std::vector<std::string> command) {
  std::vector<std::string> arguments = {"--startup-timeout", "500ms", "--"};
  arguments.insert(arguments.end(), command.begin(), command.end());
  AgentProcess agent(With(std::move(arguments)));
  CHECK(agent.WaitForExit() == 124);
  CHECK(agent.Count("lifecycle.phase", {{"to", "Serving"}}) == 0);
  CHECK_FALSE(agent.ProgramsLeft());
  return agent.Find("startup.timeout")["message"];
}

TEST_CASE("a server that never listens: 124") {
  const std::string message = TimeoutMessage({kListener, "--wait"});
  CHECK(Contains(message, "nothing listens on port 8000"));
}

TEST_CASE("nothing to start, and nothing there: 124, and that is told") {
  CHECK(Contains(TimeoutMessage({}), "nothing listens on port 8000; there is no COMMAND"));
}

TEST_CASE("a server on 127.0.0.1 only: 124, and the address is named") {
  const std::string message = TimeoutMessage({kListener, "--address", "127.0.0.1"});
  CHECK(Contains(message, "127.0.0.1:8000"));
  CHECK(Contains(message, "0.0.0.0"));
}

TEST_CASE("a server on ::1 only: 124, and the address is named") {
  CHECK(Contains(TimeoutMessage({kListener, "--address", "::1"}), "[::1]:8000"));
}

TEST_CASE("a server on another port: 124, and that port is named") {
  CHECK(Contains(TimeoutMessage({kListener, "--port", "3000"}), "0.0.0.0:3000"));
}

TEST_CASE("a server on two wrong addresses: both are told") {
  const std::string message = TimeoutMessage(
      {"sh", "-c", "/mnt/bin/listener --port 3000 & exec /mnt/bin/listener --address 127.0.0.1"});
  CHECK(Contains(message, "127.0.0.1:8000"));
}

TEST_CASE("the wrong address or port is told as soon as it is seen, before the timeout") {
  std::vector<std::string> arguments = {"--startup-timeout", "1000", "--", kListener};
  std::string told;
  SUBCASE("the address") {
    arguments.insert(arguments.end(), {"--address", "127.0.0.1"});
    told = "127.0.0.1:8000";
  }
  SUBCASE("the port") {
    arguments.insert(arguments.end(), {"--port", "3000"});
    told = "pass --port 3000";
  }
  AgentProcess agent(With(arguments));
  const std::string note = agent.WaitFor("port.note", {{"level", "warn"}})["message"];
  CHECK(Contains(note, told));
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("IPv6 is reachable too, and being reachable for IPv6 only is said") {
  SUBCASE("dual-stack") {
    AgentProcess agent(With({kListener, "--address", "::"}));
    CHECK(agent.WaitFor("port.open")["address"] == "[::]:8000");
    CHECK(agent.Get(8000, "/").status == 200);
    CHECK(agent.Get(8000, "/", "::1").status == 200);
  }
  SUBCASE("IPv6 only") {
    AgentProcess agent(With({kListener, "--address", "::", "--v6only"}));
    CHECK(agent.WaitFor("port.open")["address"] == "[::]:8000");
    agent.WaitUntil("a word about IPv6", [&] {
      for (const LogEvent& event : agent.log()) {
        if (event["level"] == "warn" && Contains(event["message"], "IPv4")) return true;
      }
      return false;
    });
  }
}

TEST_CASE("a port that is taken before the start: 125, and nothing is started") {
  AgentOptions options = With({"--on-enter", "touch /mnt/hook-ran", "--", kListener});
  options.taken_ports = {8000};
  AgentProcess agent(std::move(options));
  CHECK(agent.WaitForExit() == 125);
  CHECK(Contains(agent.Find("agent.error")["message"], "port 8000 is already taken"));
  CHECK_FALSE(agent.FileExists("hook-ran"));
  CHECK(agent.Count("workload.start") == 0);
}

TEST_CASE("a server that opens its port late is ready then") {
  AgentProcess agent(
      With({"--startup-timeout", "1000", "--", kListener, "--wait", "--on", "USR1=listen"}));
  agent.WaitForReportStartingWith("listener start");
  CHECK(agent.Count("lifecycle.ready") == 0);
  agent.Signal(SIGUSR1);
  agent.WaitFor("lifecycle.ready");
}

TEST_CASE("the startup timeout runs from the end of the hooks") {
  // The hooks take longer than the whole timeout.
  AgentProcess agent(
      With({"--startup-timeout", "400ms", "--on-enter", "sleep 0.7", "--", kListener}));
  agent.WaitFor("lifecycle.ready");
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("a workload that does not end at the startup timeout is killed, and the code stays 124") {
  AgentProcess agent(With({"--startup-timeout", "200ms", "--stop-timeout", "200ms", "--", kListener,
                           "--wait", "--on", "TERM=none"}));
  CHECK(agent.WaitForExit() == 124);
  CHECK(agent.Count("stop.kill") == 1);
  CHECK(Contains(agent.Find("lifecycle.stop")["reason"], "200 ms"));
}

}  // namespace
}  // namespace modal::test

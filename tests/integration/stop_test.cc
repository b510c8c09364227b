// From the first request to stop until nothing is left: drain, stop, and who gets how much time.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>

#include "tests/support/agent_process.h"

namespace modal::test {
namespace {

// So long that a test which waited for it would fail.
constexpr const char* kVeryLong = "1000";

// A client whose request is being worked on: the server has seen it and does not answer yet.
Client HeldRequest(AgentProcess& agent) {
  const size_t before = agent.CountReports("listener request /hold");
  Client client = agent.Connect(8000);
  REQUIRE(client.Request("/hold"));
  agent.WaitForReport("listener request /hold", before + 1);
  return client;
}

TEST_CASE("SIGTERM and SIGINT drain, then stop, in this order") {
  int number = 0;
  SUBCASE("SIGTERM") { number = SIGTERM; }
  SUBCASE("SIGINT") { number = SIGINT; }
  AgentProcess agent(With({kListener}));
  agent.WaitFor("lifecycle.ready");
  agent.Signal(number);
  CHECK(agent.WaitForExit() == 0);
  const size_t announced = agent.Find("lifecycle.stop").position;
  const size_t drained = agent.Find("drain.end").position;
  CHECK(announced < agent.Find("drain.begin").position);
  CHECK(agent.Find("drain.begin").position < drained);
  CHECK(drained < agent.Find("stop.term").position);
  CHECK(agent.Find("stop.term").position < agent.Find("agent.exit").position);
  // Whatever we were asked by, the workload is asked by SIGTERM.
  CHECK(agent.CountReports("listener signal TERM") == 1);
  CHECK(agent.CountReports("listener signal INT") == 0);
}

TEST_CASE("a request in flight delays the stop, and the stop goes on when it has ended") {
  AgentProcess agent(With({"--exit-grace-period", kVeryLong, "--", kListener}));
  agent.WaitFor("lifecycle.ready");
  Client held = HeldRequest(agent);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitFor("drain.begin")["in_flight"] == "1");
  CHECK(agent.CountReports("listener signal TERM") == 0);
  CHECK(agent.Count("drain.end") == 0);

  CHECK(agent.Get(8000, "/release").status == 200);
  CHECK(held.ReadAnswer().status == 200);
  held.Close();
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.Find("drain.end")["in_flight"] == "0");
}

TEST_CASE("a request in flight delays the stop for the grace period at most") {
  AgentProcess agent(With({"--exit-grace-period", "300ms", "--", kListener}));
  agent.WaitFor("lifecycle.ready");
  const Client held = HeldRequest(agent);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.Find("drain.end")["in_flight"] == "1");
}

TEST_CASE("a keep-alive connection that is idle does not delay the stop") {
  AgentProcess agent(With({"--exit-grace-period", kVeryLong, "--", kListener}));
  agent.WaitFor("lifecycle.ready");
  Client idle = agent.Connect(8000);
  REQUIRE(idle.Request("/"));
  REQUIRE(idle.ReadAnswer().status == 200);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("a connection that never sends a byte does not delay the stop") {
  AgentProcess agent(With({"--exit-grace-period", kVeryLong, "--", kListener}));
  agent.WaitFor("lifecycle.ready");
  const Client silent = agent.Connect(8000);
  REQUIRE(static_cast<bool>(silent));
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("a second SIGTERM skips the drain") {
  AgentProcess agent(With({"--exit-grace-period", kVeryLong, "--", kListener}));
  agent.WaitFor("lifecycle.ready");
  const Client held = HeldRequest(agent);
  agent.Signal(SIGTERM);
  agent.WaitFor("drain.begin");
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.CountReports("listener exit 0") == 1);
  CHECK(agent.Count("stop.kill") == 0);
}

TEST_CASE("a third SIGTERM kills what is left, at once") {
  AgentProcess agent(With({"--stop-timeout", kVeryLong, "--", kListener, "--on", "TERM=none"}));
  agent.WaitFor("lifecycle.ready");
  agent.Signal(SIGTERM);
  agent.WaitForReport("listener signal TERM");
  agent.Signal(SIGTERM);
  agent.WaitFor("signal.stop", {{"count", "2"}});
  CHECK(agent.Count("stop.kill") == 0);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 128 + SIGKILL);
  CHECK(agent.Count("stop.kill") == 1);
  CHECK_FALSE(agent.ProgramsLeft());
}

TEST_CASE("a workload that ignores SIGTERM is killed after --stop-timeout") {
  AgentOptions options = With({"--stop-timeout", "300ms", "--", kListener, "--on", "TERM=none"});
  SUBCASE("as process 1") { options.process_1 = true; }
  SUBCASE("beside process 1") { options.process_1 = false; }
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 128 + SIGKILL);
  CHECK(agent.Count("stop.kill") == 1);
  CHECK(agent.CountReports("listener signal TERM") == 1);
  CHECK_FALSE(agent.ProgramsLeft());
}

// The workload itself ends at once; a daemon that it has started takes its time.
AgentOptions WithDaemon(const std::string& workload_options) {
  return With({"--stop-timeout", kVeryLong, "--", "sh", "-c",
               "/mnt/bin/daemonise /mnt/bin/listener --name daemon --wait --on TERM=none"
               " --on USR1=exit:0; exec /mnt/bin/listener " +
                   workload_options});
}

TEST_CASE("a grandchild that outlives the workload gets SIGTERM, and time to end") {
  AgentOptions options = WithDaemon("");
  SUBCASE("as process 1") { options.process_1 = true; }
  SUBCASE("beside process 1") { options.process_1 = false; }
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
  agent.WaitForReportStartingWith("daemon start");
  agent.Signal(SIGTERM);
  agent.WaitForReport("daemon signal TERM");
  agent.WaitFor("workload.exit", {{"status", "exit code 0"}});
  CHECK_FALSE(agent.HasEnded());
  agent.SignalProgram("daemon", SIGUSR1);
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.CountReports("daemon signal TERM") == 1);
  CHECK(agent.CountReports("daemon exit 0") == 1);
  CHECK(agent.Count("stop.kill") == 0);
}

TEST_CASE("a grandchild gets its time also when the workload has ended by itself") {
  AgentProcess agent(WithDaemon("--on USR2=exit:5"));
  agent.WaitFor("lifecycle.ready");
  agent.WaitForReportStartingWith("daemon start");
  agent.Signal(SIGUSR2);
  agent.WaitForReport("daemon signal TERM");
  CHECK_FALSE(agent.HasEnded());
  agent.SignalProgram("daemon", SIGUSR1);
  CHECK(agent.WaitForExit() == 5);
  CHECK(agent.Count("stop.kill") == 0);
}

// A storm that no limit bounds would take every pid there is, from everybody on this machine.
AgentOptions WithStorm(const std::string& storm) {
  AgentOptions options = With({"--stop-timeout", "300ms", "--", "sh", "-c",
                               "/mnt/bin/forkstorm " + storm + " & exec /mnt/bin/listener"});
  options.uid = OwnUser(0);
  options.limits = {{RLIMIT_NPROC, 1000}};
  return options;
}

TEST_CASE("a fork storm that begins with SIGTERM ends with SIGKILL") {
  AgentOptions options;
  SUBCASE("as process 1, every link with a session of its own") {
    options = WithStorm("4 --sessions");
    options.process_1 = true;
  }
  SUBCASE("beside process 1, in the workload's group") {
    options = WithStorm("4");
    options.process_1 = false;
  }
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
  agent.WaitForReport("forkstorm ready");
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.CountReports("forkstorm storm") == 1);
  CHECK(agent.CountReports("listener exit 0") == 1);
  CHECK(agent.Count("stop.kill") == 1);
  agent.WaitUntilNobodyIsLeft();
}

TEST_CASE("a stop while startup hooks run ends the hook and starts nothing") {
  AgentProcess agent(With({"--on-enter", "/mnt/bin/listener --name hook --wait", "--", kListener}));
  agent.WaitForReportStartingWith("hook start");
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 128 + SIGTERM);
  CHECK(agent.CountReports("hook signal TERM") == 1);
  CHECK(agent.Count("workload.start") == 0);
  CHECK_FALSE(agent.ProgramsLeft());
}

TEST_CASE("a stop before the port is open ends the workload in order") {
  AgentProcess agent(With({"--startup-timeout", kVeryLong, "--", kListener, "--wait"}));
  agent.WaitForReportStartingWith("listener start");
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.CountReports("listener exit 0") == 1);
  CHECK(agent.Count("lifecycle.phase", {{"to", "Serving"}}) == 0);
}

TEST_CASE("a workload that is stopped by SIGSTOP can be told to end, too") {
  AgentOptions options = With({"--stop-timeout", kVeryLong, "--", kListener});
  SUBCASE("as process 1") { options.process_1 = true; }
  SUBCASE("beside process 1") { options.process_1 = false; }
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
  agent.SignalProgram("listener", SIGSTOP);
  agent.WaitUntil("it to be stopped",
                  [&] { return agent.Processes(kListener).at(0).state == 'T'; });
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.CountReports("listener exit 0") == 1);
}

TEST_CASE("every stop says how long it may take, and --stop-budget bounds that") {
  AgentProcess agent(With({"--stop-budget", "1s", "--exit-grace-period", "30", "--stop-timeout",
                           "30", "--", kListener, "--on", "TERM=none"}));
  agent.WaitFor("lifecycle.ready");
  const Client held = HeldRequest(agent);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 128 + SIGKILL);
  CHECK(std::stoi(agent.Find("lifecycle.stop")["longest_ms"]) <= 1000);
  CHECK(agent.Count("drain.end") == 1);
}

TEST_CASE("without a budget the longest is the sum of drain and stop") {
  AgentProcess agent(With({"--drain-delay", "50ms", "--exit-grace-period", "2s", "--stop-timeout",
                           "3s", "--", kListener}));
  agent.WaitFor("lifecycle.ready");
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.Find("lifecycle.stop")["longest_ms"] == "5050");
}

TEST_CASE("during --drain-delay the server still takes requests, and is told to end after it") {
  AgentProcess agent(With({"--drain-delay", kVeryLong, "--", kListener}));
  agent.WaitFor("lifecycle.ready");
  agent.Signal(SIGTERM);
  agent.WaitForPhase("Draining");
  CHECK(agent.Get(8000, "/").status == 200);
  CHECK(agent.CountReports("listener signal TERM") == 0);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("an exit code can be taken as success after a requested stop") {
  AgentProcess agent(
      With({"--success-exit-codes", "143", "--", "sh", "-c", "/mnt/bin/listener & wait"}));
  agent.WaitFor("lifecycle.ready");
  SUBCASE("asked to stop") {
    agent.Signal(SIGTERM);
    CHECK(agent.WaitForExit() == 0);
  }
  SUBCASE("but not when it ended so by itself") {
    agent.SignalInside(agent.Processes("sh -c").at(0), SIGTERM);
    CHECK(agent.WaitForExit() == 143);
  }
}

TEST_CASE("--stop-signal is what the workload is asked by") {
  AgentProcess agent(With({"--stop-signal", "QUIT", "--", kListener, "--on", "QUIT=exit:0"}));
  agent.WaitFor("lifecycle.ready");
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.CountReports("listener signal QUIT") == 1);
  CHECK(agent.CountReports("listener signal TERM") == 0);
}

}  // namespace
}  // namespace modal::test

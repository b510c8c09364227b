// Serving: health, restarts, ends of the workload, signals, drain requests, reload.
#include "tests/unit/lifecycle/supervisor_world.h"

namespace modal::lifecycle {
namespace {

bool Holds(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// The workload ends by itself ---------------------------------------------------------------------

TEST_CASE("a workload that ends by itself ends the container with its status") {
  for (const ExitStatus status :
       {ExitStatus::Code(0), ExitStatus::Code(3), ExitStatus::Signal(SIGKILL)}) {
    for (const bool serves : {true, false}) {
      CAPTURE(status.ToString());
      CAPTURE(serves);
      World world;
      world.options.on_exit = {"goodbye"};
      serves ? world.Serve() : world.Start();
      world.ExitLast(status);
      CHECK(world.phase() == Phase::kStopping);
      CHECK(world.Commands() == std::vector<std::string>{"./server", "goodbye"});
      CHECK_FALSE(world.exit_code);
      world.ExitLast(ExitStatus::Code(0));
      CHECK(world.exit_code == status.AsShellCode());
      CHECK(world.stop_by() == "the workload");
      CHECK(world.stop_reason() == "ended by itself with " + status.ToString());
      CHECK(world.published.workload_pid == 0);
    }
  }
}

TEST_CASE_FIXTURE(World,
                  "an exit code that counts as success does so only when a stop was asked for") {
  options.success_exit_codes = {3};
  Serve();
  ExitLast(ExitStatus::Code(3));
  CHECK(exit_code == 3);
}

TEST_CASE_FIXTURE(World, "what the workload leaves behind is told to end") {
  Serve();
  tree.Add(50, last().pid);
  Unlisten();
  ExitLast(ExitStatus::Code(1));
  CHECK(phase() == Phase::kStopping);
  CHECK(tree.SentTo(50) == Signals{SIGTERM});
  Exit(50, ExitStatus::Signal(SIGTERM));
  CHECK(exit_code == 1);
}

TEST_CASE_FIXTURE(World, "a server that daemonises before it listens goes on") {
  Start();
  tree.Add(50);  // in a session of its own, as daemons are
  ExitLast(ExitStatus::Code(0));
  CHECK(phase() == Phase::kWaitingForPort);
  CHECK(log.Has("workload.daemonised"));
  Listen();
  CHECK(phase() == Phase::kServing);

  SUBCASE("until its last process ends") {
    Exit(50, ExitStatus::Code(4));
    CHECK(exit_code == 4);
    CHECK(stop_reason() == "its last process ended with exit code 4");
  }
  SUBCASE("until it is stopped") {
    Signal(SIGTERM);
    CHECK(tree.SentTo(50) == Signals{SIGTERM});
    Exit(50, ExitStatus::Signal(SIGTERM));
    CHECK(exit_code == 0);
  }
}

TEST_CASE_FIXTURE(World, "a server that daemonises after it listens goes on") {
  Serve();
  tree.Add(50);
  ExitLast(ExitStatus::Code(0));
  CHECK(phase() == Phase::kServing);
  CHECK(published.ready);
  CHECK(log.Has("workload.daemonised"));
  Exit(50, ExitStatus::Signal(SIGSEGV));
  CHECK(exit_code == 139);
}

TEST_CASE_FIXTURE(World, "a daemon that ends before it listens ends the start") {
  Start();
  tree.Add(50);
  ExitLast(ExitStatus::Code(0));
  Exit(50, ExitStatus::Code(2));
  CHECK(exit_code == 2);
}

TEST_CASE_FIXTURE(World, "a workload that fails and leaves processes has not daemonised") {
  Start();
  tree.Add(50, last().pid);
  ExitLast(ExitStatus::Code(1));
  CHECK(phase() == Phase::kStopping);
}

TEST_CASE_FIXTURE(World, "what a hook left running does not make a daemon of the workload") {
  options.on_enter = {"start-database"};
  Start();
  tree.Add(50, last().pid);
  ExitLast(ExitStatus::Code(0));
  REQUIRE(phase() == Phase::kWaitingForPort);
  ExitLast(ExitStatus::Code(0));
  CHECK(phase() == Phase::kStopping);
  Exit(50, ExitStatus::Signal(SIGTERM));
  CHECK(exit_code == 0);
}

TEST_CASE_FIXTURE(World,
                  "a workload that closes its port and returns is at its end, whatever is left") {
  Serve();
  tree.Add(50, last().pid);
  Unlisten();
  ExitLast(ExitStatus::Code(0));
  CHECK(phase() == Phase::kStopping);
}

// Health ------------------------------------------------------------------------------------------

TEST_CASE_FIXTURE(World, "a workload found unhealthy is drained and stopped with 121") {
  Serve();
  HaveConnections(1);
  Unlisten();
  clock.Advance(29s);
  CHECK(phase() == Phase::kServing);
  CHECK(published.consecutive_failures == 2);
  CHECK(published.live);
  clock.Advance(1s);
  CHECK(phase() == Phase::kDraining);
  CHECK_FALSE(published.live);
  CHECK_FALSE(published.ready);
  CHECK(published.connections_draining == 1);
  CHECK(stop_by() == "health checks");
  CHECK(Holds(stop_reason(), "3 checks in a row failed: nothing listens on port 8000"));
  clock.Advance(5s);
  CHECK(phase() == Phase::kStopping);
  ExitLast(ExitStatus::Code(0));
  CHECK(exit_code == kExitUnhealthy);
}

TEST_CASE_FIXTURE(World, "failures that pass are counted and reported, and nothing else happens") {
  Serve();
  const auto listeners = table.listeners;
  Unlisten();
  clock.Advance(20s);
  table.listeners = listeners;
  clock.Advance(10s);
  CHECK(phase() == Phase::kServing);
  CHECK(published.ready);
  CHECK(published.checks == 3);
  CHECK(published.check_failures == 2);
  CHECK(published.consecutive_failures == 0);
  CHECK(BoardText(published.last_failure) == "nothing listens on port 8000 any more");
}

TEST_CASE_FIXTURE(World, "the health path is asked for every interval while it serves") {
  has_gateway = true;
  options.health_path = "/healthz";
  Start();
  Listen();
  gateway.AnswerLast(200);
  REQUIRE(phase() == Phase::kServing);
  for (int i = 0; i < 3; ++i) {
    clock.Advance(10s);
    gateway.AnswerLast(500);
  }
  CHECK(gateway.probes.size() == 4);
  CHECK(phase() == Phase::kStopping);
  CHECK(stop_by() == "health checks");
}

TEST_CASE_FIXTURE(World, "nothing is checked any more once the stop has begun") {
  Serve();
  HaveConnections(1);
  Signal(SIGTERM);
  CHECK(phase() == Phase::kDraining);
  Unlisten();
  options.exit_grace_period = 1h;
  clock.Advance(1h);
  CHECK(published.check_failures == 0);
  CHECK(published.live);
}

// Restarts ----------------------------------------------------------------------------------------

TEST_CASE_FIXTURE(World, "a workload that fails is started again, ever later") {
  options.restart = Restart::kOnFailure;
  options.startup_timeout = 1h;
  Start();
  uint32_t restarts = 0;
  for (const Milliseconds delay :
       {500ms, 1000ms, 2000ms, 4000ms, 8000ms, 16000ms, 30000ms, 30000ms}) {
    ExitLast(ExitStatus::Code(1));
    CHECK(phase() == Phase::kLaunching);
    CHECK(published.restarts == ++restarts);
    clock.Advance(delay - 1ms);
    CHECK(launcher.started.size() == restarts);
    clock.Advance(1ms);
    CHECK(launcher.started.size() == restarts + 1);
    CHECK(phase() == Phase::kWaitingForPort);
  }
  Listen();
  CHECK(phase() == Phase::kServing);
  CHECK_FALSE(exit_code);
}

TEST_CASE_FIXTURE(World, "a port that is still held when it is started again ends nothing") {
  options.restart = Restart::kOnFailure;
  Serve();
  owners.answers[7] = health::SocketOwners::Answer::kForeign;  // on its way to its end
  ExitLast(ExitStatus::Code(1));
  clock.Advance(500ms);
  CHECK(launcher.started.size() == 2);
  CHECK(phase() == Phase::kWaitingForPort);
  Unlisten();
  Listen("0.0.0.0", 8000, 8);
  clock.Advance(100ms);
  CHECK(phase() == Phase::kServing);
}

TEST_CASE_FIXTURE(World, "after half a minute of service the back-off begins anew") {
  options.restart = Restart::kOnFailure;
  Serve();
  for (int i = 0; i < 3; ++i) {
    Unlisten();
    ExitLast(ExitStatus::Code(1));
    clock.Advance(4s);
    Listen();
    REQUIRE(phase() == Phase::kServing);
  }
  SUBCASE("it has served half a minute") {
    clock.Advance(30s);
    Unlisten();
    ExitLast(ExitStatus::Code(1));
    clock.Advance(500ms);
    CHECK(phase() == Phase::kWaitingForPort);
  }
  SUBCASE("it has not") {
    clock.Advance(1s);
    Unlisten();
    ExitLast(ExitStatus::Code(1));
    clock.Advance(3999ms);
    CHECK(phase() == Phase::kLaunching);
    clock.Advance(1ms);
    CHECK(phase() == Phase::kWaitingForPort);
  }
}

TEST_CASE_FIXTURE(World, "a workload that ends well is not started again") {
  options.restart = Restart::kOnFailure;
  Serve();
  Unlisten();
  ExitLast(ExitStatus::Code(0));
  CHECK(exit_code == 0);
  CHECK(launcher.started.size() == 1);
}

TEST_CASE_FIXTURE(World, "while it is not up again the agent is not ready") {
  options.restart = Restart::kOnFailure;
  Serve();
  Unlisten();
  ExitLast(ExitStatus::Code(1));
  CHECK_FALSE(published.ready);
  CHECK(published.startup_done);
  CHECK(BoardText(published.listening) == "");
  clock.Advance(500ms);
  Listen("0.0.0.0", 8000, 8);
  CHECK(published.ready);
  CHECK(BoardText(published.listening) == "0.0.0.0:8000");
  CHECK(published.workload_pid == last().pid);
}

TEST_CASE_FIXTURE(World, "what is left of a failed workload is ended before it is started again") {
  options.restart = Restart::kOnFailure;
  Serve();
  tree.Add(50, last().pid);
  tree.Add(60);
  Unlisten();
  ExitLast(ExitStatus::Code(1));
  CHECK(tree.SentTo(50) == Signals{SIGTERM});
  CHECK(tree.SentTo(60) == Signals{SIGTERM});  // has made itself a session of its own
  Exit(60, ExitStatus::Signal(SIGTERM));
  clock.Advance(29s);
  CHECK(launcher.started.size() == 1);
  clock.Advance(1s);
  CHECK(tree.SentTo(50).back() == SIGKILL);
  Exit(50, ExitStatus::Signal(SIGKILL));
  clock.Advance(500ms);
  CHECK(launcher.started.size() == 2);
}

TEST_CASE_FIXTURE(World, "an unhealthy daemon is ended before its command is started again") {
  options.restart = Restart::kOnFailure;
  Start();
  tree.Add(50);
  ExitLast(ExitStatus::Code(0));
  Listen();
  CHECK(phase() == Phase::kServing);
  Unlisten();
  clock.Advance(30s);
  CHECK(tree.SentTo(50) == Signals{SIGTERM});
  Exit(50, ExitStatus::Signal(SIGTERM));
  clock.Advance(1s);
  CHECK(launcher.started.size() == 2);
}

TEST_CASE_FIXTURE(World, "a daemon that fails is started again, too") {
  options.restart = Restart::kOnFailure;
  Start();
  tree.Add(50);
  ExitLast(ExitStatus::Code(0));
  Listen();
  CHECK(phase() == Phase::kServing);
  Exit(50, ExitStatus::Signal(SIGKILL));
  CHECK(phase() == Phase::kLaunching);
  clock.Advance(1s);
  CHECK(launcher.started.size() == 2);
}

TEST_CASE_FIXTURE(World, "whoever ends the server from the terminal wants it ended") {
  options.restart = Restart::kOnFailure;
  SUBCASE("^C on a terminal is no failure") {
    seat = Seat::kForeground;
    Serve();
    ExitLast(ExitStatus::Signal(SIGINT));
    clock.Turn();
    CHECK(exit_code == 128 + SIGINT);
    CHECK(launcher.started.size() == 1);
  }
  SUBCASE("a SIGINT without one is") {
    Serve();
    ExitLast(ExitStatus::Signal(SIGINT));
    clock.Advance(1s);
    CHECK(launcher.started.size() == 2);
  }
}

TEST_CASE_FIXTURE(World, "the startup timeout runs on through restarts") {
  options.restart = Restart::kOnFailure;
  EverybodyObeys();
  Start();
  clock.Advance(1s);
  ExitLast(ExitStatus::Code(1));  // again at 1.5 s
  clock.Advance(1500ms);
  ExitLast(ExitStatus::Code(1));  // again at 3.5 s
  clock.Advance(2s);
  CHECK(launcher.started.size() == 3);
  clock.Advance(499ms);
  CHECK(phase() == Phase::kWaitingForPort);
  clock.Advance(1ms);
  clock.Turn();
  CHECK(exit_code == kExitStartupTimeout);
}

TEST_CASE_FIXTURE(World, "the startup timeout may come while a restart waits") {
  options.restart = Restart::kOnFailure;
  Start();
  clock.Advance(4900ms);
  ExitLast(ExitStatus::Code(1));
  REQUIRE(phase() == Phase::kLaunching);
  clock.Advance(1s);
  CHECK(exit_code == kExitStartupTimeout);
  CHECK(launcher.started.size() == 1);
}

TEST_CASE_FIXTURE(
    World, "a workload that has served gets a startup timeout of its own when it comes again") {
  options.restart = Restart::kOnFailure;
  EverybodyObeys();
  Serve();
  clock.Advance(1h);
  Unlisten();
  ExitLast(ExitStatus::Code(1));
  clock.Advance(500ms);
  clock.Advance(4999ms);
  CHECK(phase() == Phase::kWaitingForPort);
  clock.Advance(1ms);
  clock.Turn();
  CHECK(exit_code == kExitStartupTimeout);
}

TEST_CASE_FIXTURE(World, "an unhealthy workload is ended and started again") {
  options.restart = Restart::kOnFailure;
  EverybodyObeys();
  Serve();
  const pid_t first = last().pid;
  Unlisten();
  clock.Advance(30s);
  clock.Turn();
  CHECK(tree.SentTo(first) == Signals{SIGTERM});
  CHECK_FALSE(published.live);
  clock.Advance(500ms);
  CHECK(launcher.started.size() == 2);
  Listen("0.0.0.0", 8000, 9);
  CHECK(phase() == Phase::kServing);
  CHECK(published.live);
  CHECK(published.ready);
  CHECK_FALSE(exit_code);
}

TEST_CASE_FIXTURE(World, "a command that cannot be launched again ends the container") {
  options.restart = Restart::kOnFailure;
  Serve();
  Unlisten();
  launcher.refuse = [](const process::LaunchSpec&) {
    return Error("./server: gone").WithExitCode(kExitNotFound);
  };
  ExitLast(ExitStatus::Code(1));
  clock.Advance(500ms);
  clock.Turn();
  CHECK(exit_code == kExitNotFound);
}

// Signals, requests, reload -----------------------------------------------------------------------

TEST_CASE_FIXTURE(World, "signals that are not about a stop go to the workload's group") {
  Serve();
  for (const int signal : {SIGUSR1, SIGUSR2, SIGWINCH, SIGQUIT, SIGTSTP, SIGCONT, SIGRTMIN + 3}) {
    Signal(signal);
  }
  CHECK(last().group_signals ==
        Signals{SIGUSR1, SIGUSR2, SIGWINCH, SIGQUIT, SIGTSTP, SIGCONT, SIGRTMIN + 3});
  CHECK(phase() == Phase::kServing);
}

TEST_CASE_FIXTURE(World, "signals that are about the agent itself are not forwarded") {
  Serve();
  for (const int signal : {SIGCHLD, SIGPIPE, SIGXFSZ, SIGXCPU}) Signal(signal);
  CHECK(last().group_signals.empty());
}

TEST_CASE_FIXTURE(World, "a daemon gets the signals that its first process would have got") {
  Start();
  const pid_t session = last().pid;
  tree.Add(50, session);
  ExitLast(ExitStatus::Code(0));
  Signal(SIGUSR1);
  CHECK(tree.SentTo(50) == Signals{SIGUSR1});
}

TEST_CASE_FIXTURE(World, "a hangup is forwarded and reloads") {
  reload = options;
  Serve();
  Signal(SIGHUP);
  CHECK(last().group_signals == Signals{SIGHUP});
  CHECK(log.Has("config.reloaded"));
}

TEST_CASE_FIXTURE(World, "a drain that is requested takes readiness away until the stop") {
  Serve();
  supervisor->RequestDrain();
  CHECK(phase() == Phase::kServing);
  CHECK_FALSE(published.ready);
  CHECK(published.drain_requested);
  supervisor->RequestDrain();
  CHECK(log.Count("lifecycle.drain_requested") == 1);
  clock.Advance(1h);
  CHECK(phase() == Phase::kServing);
  CHECK_FALSE(published.ready);
  Signal(SIGTERM);
  CHECK(phase() == Phase::kStopping);
}

TEST_CASE_FIXTURE(World, "a drain that is requested during the start keeps readiness away") {
  Start();
  supervisor->RequestDrain();
  Listen();
  CHECK(phase() == Phase::kServing);
  CHECK(published.startup_done);
  CHECK_FALSE(published.ready);
}

TEST_CASE_FIXTURE(World, "a reload takes over what may change") {
  Options fresh = options;
  fresh.health_interval = 1s;
  fresh.health_threshold = 1;
  fresh.stop_timeout = 2s;
  fresh.exit_grace_period = 1s;
  fresh.on_exit = {"farewell"};
  fresh.success_exit_codes = {137};
  reload = fresh;
  options.on_exit = {"goodbye"};
  Serve();
  const Result<ReloadOutcome> outcome = supervisor->Reload();
  REQUIRE(outcome);
  CHECK(outcome->changed == std::vector<std::string>{"on-exit", "health-interval",
                                                     "health-threshold", "exit-grace-period",
                                                     "stop-timeout", "success-exit-codes"});
  CHECK(outcome->waiting.empty());
  CHECK_FALSE(log.Has("config.waiting"));
  CHECK(published.failure_threshold == 1);
  HaveConnections(1);
  Signal(SIGTERM);
  clock.Advance(1s);
  CHECK(phase() == Phase::kStopping);
  CHECK(Commands() == std::vector<std::string>{"./server", "farewell"});
  CHECK(log.Has("longest_ms=3000"));
  clock.Advance(2s);
  CHECK(tree.kill_alls == 1);
  Exit(launcher.started[1].pid, ExitStatus::Signal(SIGKILL));
  Exit(launcher.started[0].pid, ExitStatus::Signal(SIGKILL));
  CHECK(exit_code == 0);
}

TEST_CASE_FIXTURE(World, "a reload changes the checks that run") {
  Options fresh = options;
  fresh.health_interval = 1s;
  fresh.health_threshold = 1;
  reload = fresh;
  Serve();
  REQUIRE(supervisor->Reload());
  Unlisten();
  clock.Advance(1s);
  CHECK(stop_by() == "health checks");
}

TEST_CASE_FIXTURE(World, "reloads that change nothing neither put checks off nor forget failures") {
  reload = options;
  Serve();
  Unlisten();
  for (int i = 0; i < 29; ++i) {
    clock.Advance(1s);
    Signal(SIGHUP);
  }
  CHECK(published.consecutive_failures == 2);
  clock.Advance(1s);
  CHECK(stop_by() == "health checks");
}

TEST_CASE_FIXTURE(World, "the number of checks goes on through reloads and restarts") {
  options.restart = Restart::kOnFailure;
  Serve();
  clock.Advance(30s);
  Options fresh = options;
  fresh.health_interval = 5s;
  reload = fresh;
  REQUIRE(supervisor->Reload());
  clock.Advance(10s);
  CHECK(published.checks == 5);
  Unlisten();
  clock.Advance(5s);
  ExitLast(ExitStatus::Code(1));
  clock.Advance(500ms);
  Listen("0.0.0.0", 8000, 9);
  clock.Advance(5s);
  CHECK(published.checks == 7);
  CHECK(published.check_failures == 1);
}

TEST_CASE_FIXTURE(World, "a reload leaves alone what may not change") {
  Options fresh = options;
  fresh.command = {"./other"};
  fresh.port = 9000;
  fresh.environment = {"X=y"};
  fresh.added_environment = {"X=y"};
  fresh.restart = Restart::kOnFailure;
  reload = fresh;
  Serve();
  for (size_t times = 1; times <= 2; ++times) {
    const Result<ReloadOutcome> outcome = supervisor->Reload();
    REQUIRE(outcome);
    CHECK(outcome->waiting == std::vector<std::string>{"port", "env"});
    CHECK(log.Count("warn  config.waiting  changed, but in force only from the next start on: "
                    "port, env") == times);
  }
  Unlisten();
  ExitLast(ExitStatus::Code(1));
  clock.Advance(500ms);
  REQUIRE(launcher.started.size() == 2);
  CHECK(last().spec.argv == std::vector<std::string>{"./server"});
  CHECK(last().spec.environment.empty());
  CHECK(published.port == 8000);
  Listen("0.0.0.0", 9000, 11);
  CHECK(phase() == Phase::kWaitingForPort);
  Listen("0.0.0.0", 8000, 12);
  CHECK(phase() == Phase::kServing);
}

TEST_CASE_FIXTURE(World, "a reload that fails says so and keeps the old settings") {
  reload = Error("modal.toml:3: bad duration");
  Serve();
  const Result<ReloadOutcome> result = supervisor->Reload();
  REQUIRE_FALSE(result);
  CHECK(result.error().message() == "modal.toml:3: bad duration");
  CHECK(log.Has(
      "error config.reload_failed  modal.toml:3: bad duration; the old settings stay in force"));
  Unlisten();
  clock.Advance(29s);
  CHECK(phase() == Phase::kServing);
  clock.Advance(1s);
  CHECK(phase() == Phase::kStopping);
}

TEST_CASE_FIXTURE(World, "a reload during the stop does not make it longer") {
  Serve();
  HaveConnections(1);
  Signal(SIGTERM);
  Options fresh = options;
  fresh.stop_timeout = 1h;
  fresh.exit_grace_period = 1h;
  reload = fresh;
  REQUIRE(supervisor->Reload());
  clock.Advance(35s);
  CHECK(tree.kill_alls == 1);
}

TEST_CASE_FIXTURE(World, "a reload cannot switch on a health path without a gateway") {
  Options fresh = options;
  fresh.health_path = "/healthz";
  reload = fresh;
  Serve();
  const Result<ReloadOutcome> outcome = supervisor->Reload();
  REQUIRE(outcome);
  CHECK(outcome->waiting == std::vector<std::string>{"health-path"});
  clock.Advance(1min);
  CHECK(phase() == Phase::kServing);
  CHECK(published.checks == 6);
}

TEST_CASE_FIXTURE(World, "a supervisor that is destroyed hears no answer any more") {
  has_gateway = true;
  options.health_path = "/healthz";
  Start();
  Listen();
  supervisor.reset();
  gateway.AnswerLast(200);
  clock.Advance(1h);
  CHECK_FALSE(exit_code);
}

}  // namespace
}  // namespace modal::lifecycle

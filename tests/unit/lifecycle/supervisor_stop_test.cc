// The stop: SIGTERM in every phase, drain, exit handlers, exit codes.
#include "tests/unit/lifecycle/supervisor_world.h"

namespace modal::lifecycle {
namespace {

TEST_CASE_FIXTURE(World,
                  "a stop that is asked for drains, stops, and ends with the workload's status") {
  Serve();
  HaveConnections(2);
  Signal(SIGTERM);
  CHECK(phase() == Phase::kDraining);
  CHECK_FALSE(published.ready);
  CHECK(published.connections_draining == 2);
  CHECK(published.stop_longest_ms == 35000);
  CHECK(stop_by() == "SIGTERM from pid 12 (uid 0)");
  CHECK(stop_reason() == "asked to stop");
  CHECK(tree.sent.empty());

  HaveConnections(0);
  clock.Advance(50ms);
  CHECK(phase() == Phase::kStopping);
  CHECK(tree.SentTo(last().pid) == Signals{SIGTERM});
  CHECK_FALSE(exit_code);
  ExitLast(ExitStatus::Signal(SIGTERM));
  CHECK(exit_code == 143);
  CHECK(published.phase == Phase::kStopped);
  CHECK(published.exit_code == 143);
  CHECK(log.Count("lifecycle.stop ") == 1);
  CHECK(log.Has("agent.exit  code=143"));
}

TEST_CASE_FIXTURE(World, "the end of a drain without requests is no wait at all") {
  Serve();
  Signal(SIGTERM);
  CHECK(phase() == Phase::kStopping);
  ExitLast(ExitStatus::Code(0));
  CHECK(exit_code == 0);
}

TEST_CASE_FIXTURE(World, "where nobody can tell what is in flight the whole grace is given") {
  Serve();
  table.error = Error("no netlink, no /proc");
  Signal(SIGTERM);
  clock.Advance(4999ms);
  CHECK(phase() == Phase::kDraining);
  clock.Advance(1ms);
  CHECK(phase() == Phase::kStopping);
}

TEST_CASE_FIXTURE(World, "who asked for the stop is said") {
  Serve();
  SUBCASE("a process") {
    supervisor->OnSignal({SIGTERM, 42, 1000, false});
    CHECK(stop_by() == "SIGTERM from pid 42 (uid 1000)");
  }
  SUBCASE("somebody outside of the container") {
    supervisor->OnSignal({SIGTERM, 0, 0, false});
    CHECK(stop_by() == "SIGTERM from outside");
  }
  SUBCASE("a key on the terminal") {
    supervisor->OnSignal({SIGINT, 0, 0, true});
    CHECK(stop_by() == "SIGINT from the terminal");
  }
}

TEST_CASE_FIXTURE(World,
                  "exit codes that count as success become 0 after a stop that was asked for") {
  options.success_exit_codes = {143, 5};
  Serve();
  Signal(SIGTERM);
  SUBCASE("by signal") {
    ExitLast(ExitStatus::Signal(SIGTERM));
    CHECK(exit_code == 0);
  }
  SUBCASE("by code") {
    ExitLast(ExitStatus::Code(5));
    CHECK(exit_code == 0);
  }
  SUBCASE("any other stays") {
    ExitLast(ExitStatus::Code(6));
    CHECK(exit_code == 6);
  }
}

TEST_CASE_FIXTURE(World, "a stop during the hooks may count as success too") {
  options.success_exit_codes = {143};
  options.on_enter = {"slow"};
  Start();
  Signal(SIGTERM);
  ExitLast(ExitStatus::Signal(SIGTERM));
  CHECK(exit_code == 0);
}

TEST_CASE_FIXTURE(World, "SIGTERM during the startup hooks ends them, and nothing is launched") {
  options.on_enter = {"one", "two"};
  options.on_exit = {"goodbye"};
  Start();
  const pid_t hook = last().pid;
  SUBCASE("SIGTERM") { Signal(SIGTERM); }
  SUBCASE("SIGINT") { Signal(SIGINT); }
  const int signal = log.Has("SIGINT") ? SIGINT : SIGTERM;
  CHECK(phase() == Phase::kStopping);
  CHECK(tree.SentTo(hook) == Signals{SIGTERM});
  Exit(hook, ExitStatus::Signal(SIGTERM));
  CHECK(Commands() == std::vector<std::string>{"one", "goodbye"});
  ExitLast(ExitStatus::Code(0));
  CHECK(exit_code == 128 + signal);
}

TEST_CASE_FIXTURE(World, "SIGTERM before the port is open stops without a drain") {
  Start();
  HaveConnections(1);
  Signal(SIGTERM);
  CHECK(phase() == Phase::kStopping);
  CHECK(tree.SentTo(last().pid) == Signals{SIGTERM});
  Listen();  // too late
  CHECK(phase() == Phase::kStopping);
  clock.Advance(10s);
  CHECK(phase() == Phase::kStopping);
  ExitLast(ExitStatus::Code(0));
  CHECK(exit_code == 0);
}

TEST_CASE_FIXTURE(World, "SIGTERM while a restart waits ends it for good") {
  options.restart = Restart::kOnFailure;
  Serve();
  Unlisten();
  SUBCASE("for the back-off") {
    ExitLast(ExitStatus::Code(1));
    REQUIRE(phase() == Phase::kLaunching);
    Signal(SIGTERM);
  }
  SUBCASE("for what is left of the workload") {
    tree.Add(50, last().pid);
    ExitLast(ExitStatus::Code(1));
    REQUIRE(phase() == Phase::kLaunching);
    Signal(SIGTERM);
    CHECK(phase() == Phase::kStopping);
    Exit(50, ExitStatus::Signal(SIGTERM));
  }
  clock.Advance(1min);
  CHECK(launcher.started.size() == 1);
  CHECK(exit_code == 1);
}

TEST_CASE_FIXTURE(World, "a second SIGTERM skips the drain, a third kills") {
  options.drain_delay = 3s;
  Serve();
  const pid_t workload = last().pid;
  HaveConnections(1);
  Signal(SIGTERM);
  CHECK(phase() == Phase::kDraining);
  Signal(SIGINT);
  CHECK(phase() == Phase::kStopping);
  CHECK(tree.SentTo(workload) == Signals{SIGTERM});
  CHECK(tree.kill_alls == 0);
  Signal(SIGTERM);
  CHECK(tree.SentTo(workload) == Signals{SIGTERM, SIGKILL});
  Exit(workload, ExitStatus::Signal(SIGKILL));
  CHECK(exit_code == 137);
}

TEST_CASE_FIXTURE(World, "a third SIGTERM kills in every phase in which it can come") {
  SUBCASE("hooks") {
    options.on_enter = {"slow"};
    Start();
  }
  SUBCASE("waiting for the port") { Start(); }
  SUBCASE("serving") { Serve(); }
  SUBCASE("draining") {
    Serve();
    HaveConnections(1);
  }
  const pid_t pid = last().pid;
  Signal(SIGTERM);
  Signal(SIGTERM);
  CHECK(tree.SentTo(pid) == Signals{SIGTERM});
  Signal(SIGTERM);
  CHECK(tree.SentTo(pid) == Signals{SIGTERM, SIGKILL});
  Exit(pid, ExitStatus::Signal(SIGKILL));
  CHECK(exit_code.has_value());
}

TEST_CASE_FIXTURE(World, "three signals at once are as good as three one after the other") {
  EverybodyObeys();
  Serve();
  HaveConnections(1);
  for (int i = 0; i < 5; ++i) Signal(SIGTERM);
  clock.Turn();
  clock.Turn();
  CHECK(exit_code.has_value());
  Signal(SIGTERM);  // and one after the end
  CHECK(phase() == Phase::kStopped);
}

TEST_CASE_FIXTURE(World, "a workload that ends during the drain ends the drain") {
  options.on_exit = {"goodbye"};
  Serve();
  HaveConnections(1);
  Signal(SIGTERM);
  REQUIRE(phase() == Phase::kDraining);
  ExitLast(ExitStatus::Code(3));
  CHECK(phase() == Phase::kStopping);
  CHECK(Commands() == std::vector<std::string>{"./server", "goodbye"});
  ExitLast(ExitStatus::Code(0));
  CHECK(exit_code == 3);
}

TEST_CASE_FIXTURE(World, "a workload that ignores SIGTERM is killed at the stop timeout") {
  Serve();
  const pid_t workload = last().pid;
  Signal(SIGTERM);
  clock.Advance(29999ms);
  CHECK(tree.SentTo(workload) == Signals{SIGTERM});
  clock.Advance(1ms);
  CHECK(tree.SentTo(workload) == Signals{SIGTERM, SIGKILL});
  Exit(workload, ExitStatus::Signal(SIGKILL));
  CHECK(exit_code == 137);
}

TEST_CASE_FIXTURE(World, "the stop ends when the last process does, not when the workload does") {
  Serve();
  tree.Add(50, last().pid);
  tree.Add(60);
  Signal(SIGTERM);
  ExitLast(ExitStatus::Code(0));
  CHECK_FALSE(exit_code);
  Exit(60, ExitStatus::Code(0));
  CHECK_FALSE(exit_code);
  Exit(50, ExitStatus::Code(9));
  CHECK(exit_code == 0);
}

TEST_CASE_FIXTURE(World, "exit handlers run at the same time as the stop, one after the other") {
  options.on_exit = {"goodbye", "farewell"};
  Serve();
  const pid_t workload = last().pid;
  Signal(SIGTERM);
  CHECK(tree.SentTo(workload) == Signals{SIGTERM});
  REQUIRE(Commands() == std::vector<std::string>{"./server", "goodbye"});
  Exit(workload, ExitStatus::Code(0));
  CHECK_FALSE(exit_code);
  CHECK(tree.SentTo(launcher.started[1].pid).empty());
  ExitLast(ExitStatus::Code(1));  // fails, and the next one runs all the same
  REQUIRE(Commands() == std::vector<std::string>{"./server", "goodbye", "farewell"});
  ExitLast(ExitStatus::Code(0));
  CHECK(exit_code == 0);
  CHECK(published.hooks_run == 2);
  CHECK(published.hooks_failed == 1);
}

TEST_CASE_FIXTURE(World, "an exit handler that fails does not change the exit code") {
  options.on_exit = {"goodbye"};
  Serve();
  const pid_t workload = last().pid;
  Signal(SIGTERM);
  ExitLast(ExitStatus::Code(99));
  Exit(workload, ExitStatus::Code(0));
  CHECK(exit_code == 0);
}

TEST_CASE_FIXTURE(World, "exit handlers run only if there is something to clean up") {
  options.on_exit = {"goodbye"};
  SUBCASE("a hook ran") {
    options.on_enter = {"one"};
    Start();
    ExitLast(ExitStatus::Code(1));
    CHECK(Commands() == std::vector<std::string>{"one", "goodbye"});
  }
  SUBCASE("a hook ran, and the command could not be launched") {
    options.on_enter = {"one"};
    launcher.refuse = [](const process::LaunchSpec& spec) -> std::optional<Error> {
      if (spec.argv[0] != "./server") return std::nullopt;
      return Error("no");
    };
    Start();
    ExitLast(ExitStatus::Code(0));
    CHECK(Commands() == std::vector<std::string>{"one", "goodbye"});
  }
  SUBCASE("nothing ran") {
    table.listeners = {test::ListenerOn("0.0.0.0", 8000)};
    Start();
    clock.Turn();
    CHECK(Commands().empty());
    CHECK(exit_code.has_value());
  }
}

TEST_CASE_FIXTURE(World, "a stop budget scales drain and stop down together") {
  options.drain_delay = 5s;
  options.exit_grace_period = 5s;
  options.stop_timeout = 30s;
  options.stop_budget = 8s;
  Serve();
  HaveConnections(1);
  Signal(SIGTERM);
  CHECK(published.stop_longest_ms == 8000);
  CHECK(log.Has("longest_ms=8000"));
  clock.Advance(1999ms);
  CHECK(phase() == Phase::kDraining);
  clock.Advance(1ms);
  CHECK(phase() == Phase::kStopping);
  clock.Advance(5999ms);
  CHECK(tree.kill_alls == 0);
  clock.Advance(1ms);
  CHECK(tree.kill_alls == 1);
}

TEST_CASE_FIXTURE(World, "a stop without a drain says how long it may take") {
  Start();
  Signal(SIGTERM);
  CHECK(published.stop_longest_ms == 30000);
}

TEST_CASE_FIXTURE(World, "the workload is told by the signal that it wants") {
  options.stop_signal = SIGQUIT;
  Serve();
  tree.Add(60);
  Signal(SIGTERM);
  CHECK(tree.SentTo(last().pid) == Signals{SIGQUIT});
  CHECK(tree.SentTo(60) == Signals{SIGTERM});
}

TEST_CASE_FIXTURE(World, "the first reason of a stop is the one that counts") {
  Serve();
  HaveConnections(1);
  Unlisten();
  clock.Advance(30s);
  REQUIRE(phase() == Phase::kDraining);
  Signal(SIGTERM);
  ExitLast(ExitStatus::Code(0));
  CHECK(exit_code == kExitUnhealthy);
  CHECK(stop_by() == "health checks");
}

TEST_CASE_FIXTURE(World, "the gateway answers until the very end and is then told to end") {
  has_gateway = true;
  Serve();
  clock.Advance(10ms);
  Signal(SIGTERM);
  CHECK(gateway.stops == 0);
  ExitLast(ExitStatus::Code(0));
  CHECK(exit_code == 0);
  CHECK(gateway.stops == 1);
}

TEST_CASE_FIXTURE(World, "where the gateway cannot be told from the workload it goes first") {
  has_gateway = true;
  tree.can_tell_apart = false;
  Serve();
  clock.Advance(10ms);
  Signal(SIGTERM);
  CHECK(gateway.stops > 0);
  CHECK_FALSE(exit_code);
}

TEST_CASE_FIXTURE(World, "a stop right after the launch starts no gateway any more") {
  has_gateway = true;
  Start();
  Signal(SIGTERM);
  clock.Advance(1s);
  CHECK(gateway.starts == 0);
}

TEST_CASE_FIXTURE(World, "after the end nothing is left that could wake anybody up") {
  has_gateway = true;
  options.health_path = "/healthz";
  Start();
  Listen();
  gateway.AnswerLast(200);
  Signal(SIGTERM);
  ExitLast(ExitStatus::Code(0));
  REQUIRE(exit_code == 0);
  clock.Advance(1h);
  CHECK(clock.pending() == 0);
}

}  // namespace
}  // namespace modal::lifecycle

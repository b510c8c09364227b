// The start: hooks, launch, the wait for the port.
#include "tests/unit/lifecycle/supervisor_world.h"

namespace modal::lifecycle {
namespace {

using Words = std::vector<std::string>;

bool Holds(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

TEST_CASE_FIXTURE(World, "a start goes through every phase and says when it was ready") {
  options.command = {"./server", "--fast"};
  options.environment = {"A=b"};
  options.workdir = "/srv";
  Start();
  CHECK(phase() == Phase::kWaitingForPort);
  REQUIRE(launcher.started.size() == 1);
  CHECK(last().spec.argv == Words{"./server", "--fast"});
  CHECK(last().spec.environment == Words{"A=b"});
  CHECK(last().spec.workdir == "/srv");
  CHECK(last().spec.session == process::SessionMode::kNewSession);
  CHECK(last().spec.fds.empty());
  CHECK_FALSE(published.ready);
  CHECK_FALSE(published.startup_done);
  CHECK(published.workload_pid == last().pid);
  CHECK(BoardText(published.command) == "./server --fast");

  clock.Advance(1s);
  Listen();
  CHECK(phase() == Phase::kServing);
  CHECK(published.ready);
  CHECK(published.startup_done);
  CHECK(published.live);
  CHECK(published.ready_ms >= 1000);
  CHECK(published.ready_ms <= 1020);
  CHECK(BoardText(published.listening) == "0.0.0.0:8000");
  CHECK(published.orphans_reaped == 77);
  CHECK(log.Count("lifecycle.phase") == 3);
  CHECK(log.Has("lifecycle.ready"));
  CHECK_FALSE(exit_code);
}

TEST_CASE_FIXTURE(World,
                  "hooks run one after the other before the workload, as the workload would") {
  options.on_enter = {"migrate --all", "warm up"};
  options.environment = {"A=b"};
  options.no_new_privileges = true;
  Start();
  CHECK(phase() == Phase::kStartupHooks);
  REQUIRE(Commands() == Words{"migrate"});
  CHECK(last().spec.environment == options.environment);
  CHECK(last().spec.no_new_privileges);
  ExitLast(ExitStatus::Code(0));
  REQUIRE(Commands() == Words{"migrate", "warm"});
  CHECK(phase() == Phase::kStartupHooks);
  ExitLast(ExitStatus::Code(0));
  CHECK(Commands() == Words{"migrate", "warm", "./server"});
  CHECK(phase() == Phase::kWaitingForPort);
  CHECK(published.hooks_run == 2);
  CHECK(published.hooks_failed == 0);
}

TEST_CASE_FIXTURE(World,
                  "a hook that fails fails the start with 120, and nothing else is started") {
  options.on_enter = {"migrate", "warm"};
  Start();
  ExitLast(ExitStatus::Code(3));
  clock.Turn();
  CHECK(exit_code == kExitHookFailed);
  CHECK(Commands() == Words{"migrate"});
  CHECK(stop_by() == "a startup hook");
  CHECK(stop_reason() == "hook migrate ended with exit code 3");
  CHECK(published.hooks_failed == 1);
  CHECK(published.exit_code == kExitHookFailed);
  CHECK(published.phase == Phase::kStopped);
}

TEST_CASE_FIXTURE(World, "a hook that cannot be started fails the start with 120") {
  options.on_enter = {"migrate"};
  launcher.refuse = [](const process::LaunchSpec&) {
    return Error("migrate: no such program").WithExitCode(127);
  };
  Start();
  clock.Turn();
  clock.Turn();
  CHECK(exit_code == kExitHookFailed);
  CHECK(Holds(stop_reason(), "no such program"));
}

TEST_CASE_FIXTURE(World, "a hook that hangs is killed at its limit, and the start fails with 120") {
  options.on_enter = {"hang"};
  options.hook_timeout = 2s;
  Start();
  clock.Advance(1999ms);
  CHECK(last().group_signals.empty());
  clock.Advance(1ms);
  CHECK(last().group_signals == Signals{SIGKILL});
  ExitLast(ExitStatus::Signal(SIGKILL));
  CHECK(exit_code == kExitHookFailed);
  CHECK(Holds(stop_reason(), "did not return within 2000 ms"));
}

TEST_CASE("a command that cannot be launched ends the container with the launcher's code") {
  struct Case {
    int of_launcher;
    int expected;
  };
  for (const Case& one : {Case{127, kExitNotFound}, Case{126, kExitNotExecutable},
                          Case{125, kExitAgentError}, Case{0, kExitAgentError}}) {
    CAPTURE(one.of_launcher);
    World world;
    world.launcher.refuse = [&](const process::LaunchSpec&) {
      return Error("./server: why").WithExitCode(one.of_launcher);
    };
    world.options.on_exit = {"goodbye"};
    world.Start();
    world.clock.Turn();
    CHECK(world.exit_code == one.expected);
    CHECK(world.stop_reason() == "cannot start COMMAND: ./server: why");
    CHECK(world.launcher.started.empty());
  }
}

TEST_CASE_FIXTURE(World, "a command that is not found may have been meant for the agent") {
  options.not_found_hint = "put it first";
  int code = 0;
  std::string reason;
  SUBCASE("not found") {
    code = kExitNotFound;
    reason = "cannot start COMMAND: why; put it first";
  }
  SUBCASE("found") {
    code = kExitNotExecutable;
    reason = "cannot start COMMAND: why";
  }
  launcher.refuse = [code](const process::LaunchSpec&) { return Error("why").WithExitCode(code); };
  Start();
  clock.Turn();
  CHECK(stop_reason() == reason);
}

TEST_CASE_FIXTURE(World,
                  "a port that is taken before the start is refused with 125, and nothing runs") {
  table.listeners = {test::ListenerOn("10.1.2.3", 8000)};
  options.on_enter = {"migrate"};
  options.on_exit = {"goodbye"};
  Start();
  clock.Turn();
  CHECK(exit_code == kExitAgentError);
  CHECK(launcher.started.empty());
  CHECK(Holds(stop_reason(), "port 8000 is already taken: something listens on 10.1.2.3:8000"));
  CHECK(log.Has("error agent.error"));
}

TEST_CASE_FIXTURE(World, "other ports may be taken, and their listeners never count") {
  table.listeners = {test::ListenerOn("0.0.0.0", 8001, 5)};
  Start();
  CHECK(phase() == Phase::kWaitingForPort);
  // The same socket could not, but its number might.
  table.listeners[0].local = test::AddressOf("0.0.0.0", 8000);
  clock.Advance(1s);
  CHECK(phase() == Phase::kWaitingForPort);
  Listen("0.0.0.0", 8000, 6);
  CHECK(phase() == Phase::kServing);
}

TEST_CASE_FIXTURE(World, "without a look at the sockets nothing is started") {
  table.error = Error("no netlink, no /proc");
  Start();
  clock.Turn();
  CHECK(exit_code == kExitAgentError);
  CHECK(Holds(stop_reason(), "cannot look for listening sockets: no netlink, no /proc"));
  CHECK(launcher.started.empty());
}

TEST_CASE_FIXTURE(World, "a port that does not open in time ends the start with 124") {
  EverybodyObeys();
  options.on_exit = {"goodbye"};
  Start();
  clock.Advance(4999ms);
  CHECK(phase() == Phase::kWaitingForPort);
  clock.Advance(1ms);
  CHECK(phase() == Phase::kStopping);
  CHECK(tree.SentTo(launcher.started[0].pid) == Signals{SIGTERM});
  CHECK(log.Has("error startup.timeout  not ready within 5000 ms: nothing listens on port 8000"));
  REQUIRE(Commands() == Words{"./server", "goodbye"});
  ExitLast(ExitStatus::Code(0));
  CHECK(exit_code == kExitStartupTimeout);
  CHECK(stop_by() == "modal-agent");
}

TEST_CASE_FIXTURE(World,
                  "the startup timeout counts from the moment when the hooks have returned") {
  options.on_enter = {"slow"};
  Start();
  clock.Advance(1min);
  ExitLast(ExitStatus::Code(0));
  clock.Advance(4999ms);
  CHECK(phase() == Phase::kWaitingForPort);
  Listen("127.0.0.1");
  CHECK(phase() == Phase::kStopping);
}

TEST_CASE_FIXTURE(World, "a listener on loopback only is named, in the status and at the timeout") {
  Start();
  Listen("127.0.0.1");
  CHECK(phase() == Phase::kWaitingForPort);
  CHECK(Holds(BoardText(published.waiting_note), "listening on 127.0.0.1:8000"));
  CHECK(log.Has("warn  port.note"));
  clock.Advance(5s);
  CHECK(Holds(stop_reason(),
              "listening on 127.0.0.1:8000, which nothing outside this container "
              "can reach; bind 0.0.0.0"));
}

TEST_CASE_FIXTURE(World, "a port that opens at the very last moment is open") {
  Start();
  clock.Advance(4999ms);
  table.listeners.push_back(test::ListenerOn("0.0.0.0", 8000, 7));
  clock.Advance(1ms);
  CHECK(phase() == Phase::kServing);
  clock.Advance(1h);
  CHECK(phase() == Phase::kServing);
}

TEST_CASE_FIXTURE(World, "somebody else's listener on the port is no start") {
  owners.answers[7] = health::SocketOwners::Answer::kForeign;
  Start();
  Listen();
  CHECK(phase() == Phase::kWaitingForPort);
  CHECK(Holds(BoardText(published.waiting_note), "taken"));
}

TEST_CASE_FIXTURE(World, "in the background of a terminal the workload stays there, too") {
  seat = Seat::kBackground;
  Start();
  CHECK(last().spec.session == process::SessionMode::kNewGroup);
  SUBCASE("and the startup timeout holds: nobody sees what happens") {
    clock.Advance(5s);
    CHECK(stop_by() == "modal-agent");
    CHECK(phase() == Phase::kStopping);
  }
  SUBCASE("until it is brought to the foreground") {
    seat = Seat::kForeground;
    clock.Advance(5s);
    CHECK(log.Count("warn  startup.slow") == 1);
    CHECK(phase() == Phase::kWaitingForPort);
  }
}

TEST_CASE_FIXTURE(World, "on a terminal the startup timeout only warns") {
  seat = Seat::kForeground;
  options.command = {"bash"};
  Start();
  CHECK(last().spec.session == process::SessionMode::kForegroundGroup);
  CHECK(supervisor->workload_group() == last().pid);
  clock.Advance(1h);
  CHECK(phase() == Phase::kWaitingForPort);
  CHECK(log.Count("warn  startup.slow") == 1);
  ExitLast(ExitStatus::Code(7));
  CHECK(exit_code == 7);
  CHECK(supervisor->workload_group() == 0);
}

TEST_CASE_FIXTURE(World, "the health path must answer before anything is served") {
  has_gateway = true;
  options.health_path = "/healthz";
  Start();
  clock.Advance(1s);
  CHECK(gateway.probes.empty());
  Listen();
  CHECK(phase() == Phase::kWaitingForPort);
  REQUIRE(gateway.probes.size() == 1);
  CHECK(gateway.starts > 0);
  CHECK(gateway.probes[0].path == "/healthz");
  CHECK(gateway.probes[0].address == "127.0.0.1");
  CHECK(gateway.probes[0].port == 8000);
  CHECK(gateway.probes[0].timeout == 2s);

  gateway.AnswerLast(503);
  CHECK(phase() == Phase::kWaitingForPort);
  CHECK(BoardText(published.waiting_note) == "the port is open, but GET /healthz answers 503");
  clock.Advance(50ms);
  REQUIRE(gateway.probes.size() == 2);
  gateway.Answer(gateway.probes.back(), {0, "connect: Connection refused"});
  CHECK(BoardText(published.waiting_note) ==
        "the port is open, but GET /healthz: connect: Connection refused");
  clock.Advance(50ms);
  gateway.AnswerLast(302);
  CHECK(phase() == Phase::kServing);
  CHECK(BoardText(published.waiting_note) == "");
}

TEST_CASE_FIXTURE(World, "a health path that never answers well ends in the startup timeout") {
  has_gateway = true;
  options.health_path = "/healthz";
  Start();
  Listen();
  gateway.AnswerLast(500);
  clock.Advance(5s);
  CHECK(phase() == Phase::kStopping);
  CHECK(Holds(stop_reason(), "GET /healthz answers 500"));
  gateway.AnswerLast(200);  // too late
  CHECK(phase() == Phase::kStopping);
}

TEST_CASE_FIXTURE(World, "a server for IPv6 only is asked over IPv6, and that is said") {
  has_gateway = true;
  options.health_path = "/healthz";
  Start();
  table.listeners = {test::ListenerOn("::", 8000, 7)};
  table.listeners[0].v6_only = true;
  clock.Advance(20ms);
  REQUIRE(gateway.probes.size() == 1);
  CHECK(gateway.probes[0].address == "::1");
  CHECK(log.Has("for IPv6 only"));
}

TEST_CASE_FIXTURE(World, "a server that is bound to one address is asked there") {
  has_gateway = true;
  options.health_path = "/healthz";
  Start();
  Listen("10.1.2.3");
  REQUIRE(gateway.probes.size() == 1);
  CHECK(gateway.probes[0].address == "10.1.2.3");
  gateway.AnswerLast(200);
  clock.Advance(10s);
  REQUIRE(gateway.probes.size() == 2);
  CHECK(gateway.probes[1].address == "10.1.2.3");
}

TEST_CASE_FIXTURE(World, "the answer to a probe of the workload before is not the next one's") {
  has_gateway = true;
  options.health_path = "/healthz";
  options.restart = Restart::kOnFailure;
  Start();
  Listen();
  REQUIRE(gateway.probes.size() == 1);
  Unlisten();
  ExitLast(ExitStatus::Code(1));
  clock.Advance(500ms);
  REQUIRE(launcher.started.size() == 2);
  REQUIRE(phase() == Phase::kWaitingForPort);

  SUBCASE("if it was good") { gateway.Answer(gateway.probes[0], {200, ""}); }
  SUBCASE("if it was bad") { gateway.Answer(gateway.probes[0], {0, "connection reset"}); }
  CHECK(phase() == Phase::kWaitingForPort);
  clock.Advance(1s);
  CHECK(gateway.probes.size() == 1);  // its port is not even open
  Listen();
  REQUIRE(gateway.probes.size() == 2);
  gateway.AnswerLast(200);
  CHECK(phase() == Phase::kServing);
}

TEST_CASE_FIXTURE(World, "the gateway starts right after the workload, and not before") {
  has_gateway = true;
  Start();
  CHECK(launcher.started.size() == 1);
  CHECK(gateway.starts == 0);
  clock.Advance(2ms);
  CHECK(gateway.starts == 1);
}

TEST_CASE_FIXTURE(World, "with hooks the gateway is there from the start: they may take long") {
  has_gateway = true;
  options.on_enter = {"slow"};
  Start();
  CHECK(gateway.starts == 1);
}

// Without COMMAND --------------------------------------------------------------------------------

TEST_CASE_FIXTURE(World, "without command and hooks the agent attaches to whatever listens") {
  options.command.clear();
  options.on_exit = {"goodbye"};
  owners.otherwise = health::SocketOwners::Answer::kForeign;
  table.listeners = {test::ListenerOn("0.0.0.0", 8000, 7)};
  Start();
  CHECK(phase() == Phase::kServing);
  CHECK(launcher.started.empty());

  SUBCASE("and a stop is a success, with nothing to clean up") {
    Signal(SIGTERM);
    clock.Advance(10ms);
    CHECK(exit_code == 0);
    CHECK(launcher.started.empty());
  }
  SUBCASE("and a server that goes away is unhealthy") {
    Unlisten();
    clock.Advance(30s);
    clock.Turn();
    CHECK(exit_code == kExitUnhealthy);
  }
  SUBCASE("and the ends of others' children are nobody's business") {
    supervisor->OnChildrenCollected();
    CHECK(phase() == Phase::kServing);
  }
}

TEST_CASE_FIXTURE(World, "attached to nothing, the start times out") {
  options.command.clear();
  Start();
  clock.Advance(5s);
  clock.Turn();
  CHECK(exit_code == kExitStartupTimeout);
}

TEST_CASE_FIXTURE(World, "a hook may start the server itself") {
  options.command.clear();
  options.on_enter = {"start-server"};
  Start();
  const pid_t hook = last().pid;
  tree.Add(50, hook);  // what the hook leaves running
  ExitLast(ExitStatus::Code(0));
  CHECK(phase() == Phase::kWaitingForPort);
  Listen();
  CHECK(phase() == Phase::kServing);
  CHECK(Commands() == Words{"start-server"});

  SUBCASE("whose end ends the container with its status") {
    Exit(50, ExitStatus::Code(9));
    CHECK(exit_code == 9);
    CHECK(stop_by() == "the workload");
  }
  SUBCASE("which is told to end with everything else") {
    Signal(SIGTERM);
    CHECK(tree.SentTo(50) == Signals{SIGTERM});
    Exit(50, ExitStatus::Signal(SIGTERM));
    CHECK(exit_code == 0);
  }
  SUBCASE("which gets the signals that are forwarded") {
    Signal(SIGUSR1);
    CHECK(tree.SentTo(50) == Signals{SIGUSR1});
  }
}

TEST_CASE_FIXTURE(World, "a hook's server that ends before it listens ends the start") {
  options.command.clear();
  options.on_enter = {"start-server"};
  Start();
  tree.Add(50, last().pid);
  ExitLast(ExitStatus::Code(0));
  Exit(50, ExitStatus::Code(1));
  CHECK(exit_code == 1);
}

}  // namespace
}  // namespace modal::lifecycle

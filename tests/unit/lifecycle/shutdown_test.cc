#include "lifecycle/shutdown.h"

#include <doctest/doctest.h>
#include <signal.h>

#include "tests/support/fake_clock.h"
#include "tests/support/fake_launcher.h"
#include "tests/support/fake_log.h"
#include "tests/support/fake_process_tree.h"

namespace modal::lifecycle {
namespace {

using namespace std::chrono_literals;
using Signals = std::vector<int>;

struct Fixture {
  Fixture() {
    launcher.on_started = [this](const test::FakeLauncher::Started& one) { tree.Add(one.pid); };
  }

  void HaveHandlers(std::vector<Hook> hooks) {
    handlers = std::make_unique<HookRunner>(
        loop, clock, launcher, log.log, std::move(hooks),
        HookRunner::Options{30s, false, process::LaunchSpec()},
        [this](const HookRunner::Outcome&) { shutdown->ExitHandlersDone(); });
  }
  void Begin(Shutdown::Options options = {30s, SIGTERM, 0}) {
    shutdown = std::make_unique<Shutdown>(clock, log.log, tree, handlers.get(), options,
                                          [this] { ++gone; });
    shutdown->Begin();
  }
  // A process is gone and reaped.
  void Gone(pid_t pid) {
    tree.Remove(pid);
    shutdown->ChildrenCollected();
    clock.Turn();
  }
  void HandlerReturns(size_t index, ExitStatus status = ExitStatus::Code(0)) {
    test::FakeLauncher::Started& handler = launcher.started.at(index);
    launcher.Exit(handler, status);
    Gone(handler.pid);
  }

  event::Loop loop;
  test::FakeClock clock;
  test::FakeLog log;
  test::FakeLauncher launcher;
  test::FakeProcessTree tree;
  std::unique_ptr<HookRunner> handlers;
  std::unique_ptr<Shutdown> shutdown;
  int gone = 0;
};

TEST_CASE_FIXTURE(Fixture, "nothing is waited for when nothing is left") {
  Begin();
  clock.Turn();
  CHECK(gone == 1);
  CHECK(tree.sent.empty());
  CHECK(clock.pending() == 0);
  clock.Advance(1h);
  CHECK(gone == 1);
  CHECK(tree.kill_alls == 0);
}

TEST_CASE_FIXTURE(Fixture, "everybody is told to end, and the stop ends with the last of them") {
  tree.Add(10);
  tree.Add(11, 10);
  tree.Add(20);
  Begin();
  for (const pid_t pid : {10, 11, 20}) CHECK(tree.SentTo(pid) == Signals{SIGTERM});
  Gone(10);
  Gone(20);
  clock.Advance(1s);
  CHECK(gone == 0);
  Gone(11);
  CHECK(gone == 1);
  CHECK(tree.kill_alls == 0);
}

TEST_CASE_FIXTURE(Fixture, "helpers are neither told nor waited for") {
  tree.Add(10);
  tree.Add(99);
  tree.SpareHelper(99);
  Begin();
  Gone(10);
  CHECK(gone == 1);
  CHECK(tree.SentTo(99).empty());
}

TEST_CASE_FIXTURE(Fixture,
                  "what appears meanwhile is told, once each, right after something ended") {
  tree.Add(10);
  tree.Add(20);
  Begin();
  clock.Advance(5s);
  Gone(20);
  tree.Add(30);
  clock.Advance(20ms);
  CHECK(tree.SentTo(30) == Signals{SIGTERM});
  for (int i = 0; i < 100; ++i) {
    shutdown->ChildrenCollected();
    clock.Advance(20ms);
  }
  CHECK(tree.SentTo(10) == Signals{SIGTERM});
  CHECK(tree.SentTo(30) == Signals{SIGTERM});
}

TEST_CASE_FIXTURE(Fixture, "a newcomer is told soon even if nothing of ours ends meanwhile") {
  tree.Add(10);
  Begin();
  for (pid_t pid = 30; pid < 40; ++pid) {
    clock.Advance(1s);
    tree.Add(pid, 10);
    clock.Advance(320ms);
    CHECK(tree.SentTo(pid) == Signals{SIGTERM});
  }
}

TEST_CASE_FIXTURE(Fixture, "at the timeout everything that is left is killed") {
  tree.Add(10);
  Begin();
  clock.Advance(29999ms);
  CHECK(tree.kill_alls == 0);
  clock.Advance(1ms);
  CHECK(tree.kill_alls == 1);
  CHECK(tree.SentTo(10) == Signals{SIGTERM, SIGKILL});
  CHECK(log.Has("warn  stop.kill  killing what is left: still running after 30000 ms"));
  CHECK(gone == 0);
  Gone(10);
  CHECK(gone == 1);
}

TEST_CASE_FIXTURE(Fixture, "a kill is repeated, for a fork can outrun it") {
  tree.Add(10);
  Begin();
  clock.Advance(30s);
  tree.Remove(10);
  tree.Add(11, 10);
  clock.Advance(10ms);
  CHECK(tree.SentTo(11) == Signals{SIGKILL});
  Gone(11);
  CHECK(gone == 1);
}

TEST_CASE_FIXTURE(Fixture, "what does not even die of SIGKILL is given up") {
  tree.Add(10);
  Begin();
  clock.Advance(30s);
  clock.Advance(4999ms);
  CHECK(gone == 0);
  clock.Advance(1s);
  CHECK(gone == 1);
  CHECK(log.Has("error stop.gave_up"));
  CHECK(clock.pending() == 0);
}

TEST_CASE_FIXTURE(Fixture, "somebody who will not wait has everything killed now") {
  tree.Add(10);
  Begin();
  clock.Advance(1s);
  shutdown->KillNow("asked for the third time");
  CHECK(tree.SentTo(10) == Signals{SIGTERM, SIGKILL});
  CHECK(log.Has("stop.kill  killing what is left: asked for the third time"));
  shutdown->KillNow("again");
  CHECK(log.Count("stop.kill") == 1);
  Gone(10);
  CHECK(gone == 1);
  shutdown->KillNow("after the end");
  clock.Advance(1h);
  CHECK(gone == 1);
  CHECK(log.Count("stop.kill") == 1);
}

TEST_CASE_FIXTURE(Fixture, "exit handlers run while everything else ends, and are spared") {
  tree.Add(10);
  HaveHandlers({{"one", {"one"}}, {"two", {"two"}}});
  Begin();
  CHECK(tree.SentTo(10) == Signals{SIGTERM});
  REQUIRE(launcher.started.size() == 1);
  const pid_t first = launcher.started[0].pid;
  Gone(10);
  clock.Advance(1s);
  CHECK(gone == 0);
  CHECK(tree.SentTo(first).empty());

  HandlerReturns(0);
  REQUIRE(launcher.started.size() == 2);
  clock.Advance(1s);
  CHECK(tree.SentTo(launcher.started[1].pid).empty());
  CHECK(gone == 0);
  HandlerReturns(1);
  CHECK(gone == 1);
}

TEST_CASE_FIXTURE(Fixture, "an exit handler that fails does not keep the next one from running") {
  HaveHandlers({{"one", {"one"}}, {"two", {"two"}}});
  Begin();
  HandlerReturns(0, ExitStatus::Code(7));
  REQUIRE(launcher.started.size() == 2);
  HandlerReturns(1);
  CHECK(gone == 1);
}

TEST_CASE_FIXTURE(Fixture, "a workload that goes on is waited for after the exit handlers") {
  tree.Add(10);
  HaveHandlers({{"one", {"one"}}});
  Begin();
  HandlerReturns(0);
  clock.Advance(1s);
  CHECK(gone == 0);
  Gone(10);
  CHECK(gone == 1);
}

TEST_CASE_FIXTURE(Fixture,
                  "what an exit handler leaves behind is told to end like everything else") {
  HaveHandlers({{"one", {"one"}}});
  Begin();
  const pid_t session = launcher.started[0].pid;
  tree.Add(50, session);
  clock.Advance(1s);
  CHECK(tree.SentTo(50).empty());
  HandlerReturns(0);
  CHECK(tree.SentTo(50) == Signals{SIGTERM});
  CHECK(gone == 0);
  Gone(50);
  CHECK(gone == 1);
}

TEST_CASE_FIXTURE(Fixture,
                  "an exit handler that hangs is killed at the timeout with everything else") {
  HaveHandlers({{"one", {"one"}}, {"two", {"two"}}});
  Begin({5s, SIGTERM, 0});
  const pid_t handler = launcher.started[0].pid;
  clock.Advance(5s);
  CHECK(tree.SentTo(handler) == Signals{SIGKILL});
  HandlerReturns(0, ExitStatus::Signal(SIGKILL));
  CHECK(gone == 1);
  CHECK(launcher.started.size() == 1);  // no time is left for the other one
}

TEST_CASE_FIXTURE(Fixture, "exit handlers that cannot be started hold nothing up") {
  launcher.refuse = [](const process::LaunchSpec&) { return Error("no such file"); };
  HaveHandlers({{"one", {"one"}}, {"two", {"two"}}});
  Begin();
  for (int i = 0; i < 10; ++i) clock.Turn();
  CHECK(gone == 1);
  CHECK(log.Count("hook.failed") == 2);
}

TEST_CASE_FIXTURE(Fixture, "the workload gets its own stop signal instead of SIGTERM") {
  tree.Add(10);
  tree.Add(11, 10);
  tree.Add(20);
  Begin({30s, SIGQUIT, 10});
  CHECK(tree.SentTo(10) == Signals{SIGQUIT});
  CHECK(tree.SentTo(11) == Signals{SIGQUIT});
  CHECK(tree.SentTo(20) == Signals{SIGTERM});
  clock.Advance(1s);
  CHECK(tree.SentTo(10) == Signals{SIGQUIT});
  clock.Advance(29s);
  CHECK(tree.SentTo(10) == Signals{SIGQUIT, SIGKILL});
}

TEST_CASE_FIXTURE(Fixture,
                  "what the workload starts anew meanwhile gets its stop signal too, once") {
  tree.Add(10);
  Begin({30s, SIGQUIT, 10});
  clock.Advance(1s);
  tree.Add(12, 10);
  clock.Advance(1s);
  CHECK(tree.SentTo(12) == Signals{SIGQUIT});
  CHECK(tree.SentTo(10) == Signals{SIGQUIT});
}

TEST_CASE_FIXTURE(Fixture, "a shutdown that is destroyed calls nobody") {
  tree.Add(10);
  Begin();
  shutdown.reset();
  clock.Advance(1h);
  CHECK(gone == 0);
  CHECK(tree.SentTo(10) == Signals{SIGTERM});
}

}  // namespace
}  // namespace modal::lifecycle

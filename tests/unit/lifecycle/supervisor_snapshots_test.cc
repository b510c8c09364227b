// Snapshots: from the start until it serves, be the tree restored or started cold.
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <limits>

#include "agent/base/strings.h"
#include "tests/unit/agent/temp_folder.h"
#include "tests/unit/lifecycle/supervisor_world.h"

namespace modal::lifecycle {
namespace {

using health::Carriage;
using Words = std::vector<std::string>;
using Calls = std::vector<std::string>;

constexpr pid_t kRoot = 1500;
constexpr pid_t kServer = 1501;

bool Holds(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

struct Kept : World {
  Kept() { has_snapshots = true; }

  std::string origin() const { return std::string(BoardText(published.origin)); }
  // "port 20+5"; "serving 25+?" while it is under way.
  Words timeline() const {
    Words shown;
    for (const BootSpan& span : published.timeline.spans()) {
      const std::string took = span.end_us < 0 ? "?" : std::to_string(span.end_us - span.begin_us);
      shown.push_back(Concat(BootStepName(span.step), " ", span.begin_us, "+", took));
    }
    return shown;
  }
  // "port", "port failed"
  Words steps() const {
    Words names;
    for (const BootSpan& span : published.timeline.spans()) {
      names.push_back(Concat(BootStepName(span.step), span.failed ? " failed" : ""));
    }
    return names;
  }
  std::string note() const { return std::string(BoardText(published.snapshot_note)); }

  // The worker has found nothing; what follows begins on the next turns.
  void StartCold(const std::string& why = "there is no snapshot of this key yet") {
    Start();
    snapshots.Answer(Error(why));
    Turns();
  }
  // The tree has been restored: a keeper, and the server in a group of its own.
  void StartRestored(pid_t server = kServer) {
    Start();
    tree.Add(kRoot);
    tree.Add(kServer);
    snapshots.Answer(Snapshots::Restored{kRoot, server, 800ms, 4096});
  }
  Started& root() {
    for (Started& one : launcher.started) {
      if (one.pid == kRoot) return one;
    }
    FAIL("nothing was adopted");
    return last();
  }
  // The restored tree ends, as the Reaper would tell it.
  void EndRestored(ExitStatus status) {
    tree.Remove(kServer);
    tree.Remove(kRoot);
    if (root().watched) {
      launcher.Exit(root(), status);
    } else {
      last_orphan = status;
    }
    supervisor->OnChildrenCollected();
    Turns();
  }
  // SIGKILL ends whoever gets it, on the next turn.
  void KillsWork() {
    tree.on_signal = [this](pid_t pid, int signal) {
      if (signal != SIGKILL) return;
      dying.push_back(clock.After(Milliseconds(0), [this, pid] {
        if (pid == kServer || pid == kRoot) Unlisten();
        if (pid == kServer) return tree.Remove(kServer);
        if (pid == kRoot && tree.IsAlive(kRoot)) return EndRestored(ExitStatus::Signal(SIGKILL));
        if (tree.IsAlive(pid)) Exit(pid, ExitStatus::Signal(SIGKILL));
      }));
    };
  }
  void Turns() {
    for (int i = 0; i < 6; ++i) clock.Turn();
  }
  // Cold, and the port opens: a dump is due.
  void ReachTheDump() {
    snapshots.wants_dump = true;
    StartCold();
    clock.Advance(300ms);
    Listen();
    REQUIRE(phase() == Phase::kCheckpointing);
  }
};

// Restored ----------------------------------------------------------------------------------------

TEST_CASE_FIXTURE(Kept, "with snapshots a start begins with a restore, and nothing is launched") {
  Start();
  CHECK(phase() == Phase::kRestoring);
  CHECK(snapshots.calls == Calls{"restore"});
  CHECK(launcher.started.empty());
  CHECK_FALSE(published.ready);
}

TEST_CASE_FIXTURE(Kept, "a restored tree whose port is open serves, and its worth is told") {
  Start();
  clock.Advance(40ms);
  tree.Add(kRoot);
  snapshots.Answer(Snapshots::Restored{kRoot, kServer, 800ms, 4096});
  CHECK(phase() == Phase::kWaitingForPort);
  CHECK(published.workload_pid == kServer);
  CHECK(published.restored_ms == 40);
  CHECK(snapshots.calls == Calls{"restore"});
  table.listeners.push_back(test::ListenerOn("0.0.0.0", 8000, 7));
  clock.Advance(20ms);
  CHECK(phase() == Phase::kServing);
  CHECK(origin() == "restore");
  // First of all its clients have its time.
  CHECK(snapshots.calls == Calls{"restore"});
  clock.Advance(20ms);
  REQUIRE(snapshots.calls.size() == 2);
  CHECK(Holds(snapshots.calls[1], "served "));
  CHECK(snapshots.calls[1] == "served " + std::to_string(published.ready_ms));
  CHECK(launcher.started.size() == 1);  // adopted, that is
  CHECK(keeper.hooks.empty());
  CHECK(keeper.workloads.empty());
  CHECK(keeper.leaves == 0);  // and it is not dumped again
}

TEST_CASE_FIXTURE(Kept, "the timeline of a restore holds what the worker says, on our own clock") {
  Start();
  const int64_t zero =
      std::chrono::duration_cast<Microseconds>(clock.Now().time_since_epoch()).count();
  clock.Advance(40ms);
  constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  snapshots.steps = {{BootStep::kRestoreMemory, 0, zero + 10'000, zero + 35'000},
                     {BootStep::kRestoreResume, 0, -kNever, kNever}};
  tree.Add(kRoot);
  snapshots.Answer(Snapshots::Restored{kRoot, kServer, 800ms, 4096});
  clock.Advance(5ms);
  table.listeners.push_back(test::ListenerOn("0.0.0.0", 8000, 7));
  clock.Advance(20ms);
  REQUIRE(phase() == Phase::kServing);
  const std::string serving = std::to_string(published.timeline.spans().back().begin_us);
  CHECK(timeline() == Words{"restore 0+40000", "restore.resume 0+40000",
                            "restore.memory 10000+25000",
                            "port 40000+" + std::to_string(std::stoll(serving) - 40'000),
                            "serving " + serving + "+?"});
}

TEST_CASE_FIXTURE(Kept, "the timeline of a cold start names its steps, and those of the dump") {
  options.on_enter = {"migrate"};
  options.on_restore = {"reseed"};
  snapshots.wants_dump = true;
  StartCold();
  clock.Advance(300ms);
  ExitLast(ExitStatus::Code(0));
  clock.Advance(20ms);
  Listen();
  REQUIRE(phase() == Phase::kCheckpointing);
  keeper.Left();
  snapshots.Ready();
  clock.Advance(30ms);
  snapshots.Resumed({});
  clock.Advance(1ms);
  ExitLast(ExitStatus::Code(0));
  REQUIRE(phase() == Phase::kServing);
  CHECK(steps() ==
        Words{"restore", "hooks", "exec", "port", "dump", "dump.quiesce", "late_hooks", "serving"});
}

TEST_CASE_FIXTURE(Kept, "what has come to nothing is marked in the timeline") {
  SUBCASE("a restore") {
    Start();
    snapshots.steps = {{BootStep::kRestoreImages, 1, 0, 0}};
    snapshots.Answer(Error("criu restore: no"));
    Turns();
    CHECK(steps()[0] == "restore failed");
  }
  SUBCASE("a restored tree that serves nobody") {
    StartRestored();
    KillsWork();
    clock.Advance(10s);
    Turns();
    CHECK(steps() == Words{"restore", "port failed", "exec", "port"});
  }
  SUBCASE("what comes before a dump") {
    ReachTheDump();
    keeper.Left(Error("it does not leave"));
    CHECK(steps() ==
          Words{"restore", "exec", "port", "dump failed", "dump.quiesce failed", "serving"});
  }
  SUBCASE("a dump") {
    ReachTheDump();
    keeper.Left();
    snapshots.Ready();
    snapshots.Resumed(Error("criu dump: no"));
    CHECK(phase() == Phase::kServing);
    CHECK(steps() == Words{"restore", "exec", "port", "dump failed", "dump.quiesce", "serving"});
  }
}

TEST_CASE_FIXTURE(Kept, "startup hooks do not run again for a restored tree") {
  options.on_enter = {"migrate"};
  StartRestored();
  Listen();
  CHECK(phase() == Phase::kServing);
  CHECK(launcher.started.size() == 1);  // adopted, that is
  CHECK(published.hooks_run == 0);
}

TEST_CASE_FIXTURE(Kept, "a restored server that ends later ends the container with its status") {
  StartRestored();
  Listen();
  EndRestored(ExitStatus::Code(3));
  CHECK(exit_code == 3);
  CHECK(stop_reason() == "ended by itself with exit code 3");
}

TEST_CASE_FIXTURE(Kept, "a restored server that a hook had started ends the container likewise") {
  options.command.clear();
  options.on_enter = {"./server &"};
  options.restart = Restart::kOnFailure;  // which is for a COMMAND
  last_orphan = ExitStatus::Code(0);      // something of no matter
  StartRestored(0);
  CHECK(published.workload_pid == kRoot);
  Listen();
  CHECK(phase() == Phase::kServing);
  EndRestored(ExitStatus::Code(3));
  CHECK(exit_code == 3);
}

TEST_CASE_FIXTURE(Kept, "signals reach the restored server's own group, not its keeper's") {
  StartRestored();
  Listen();
  Signal(SIGUSR1);
  CHECK(tree.SentTo(kServer) == Signals{SIGUSR1});
  CHECK(tree.SentTo(kRoot).empty());
  CHECK(root().group_signals.empty());
}

TEST_CASE_FIXTURE(Kept, "who ran here before the restore is none of what it has left") {
  constexpr pid_t kEarlier = 7;
  tree.Add(kEarlier, 1);  // what has started us had started it
  Start();
  tree.Add(kRoot);
  KillsWork();
  snapshots.Answer(Error("criu restore: no"));
  tree.Remove(kRoot);
  clock.Advance(100ms);
  Turns();
  CHECK(tree.SentTo(kEarlier).empty());
  CHECK(tree.SentTo(kRoot) == Signals{SIGKILL});
  CHECK(phase() == Phase::kWaitingForPort);
}

TEST_CASE_FIXTURE(Kept, "signals reach a restored server that a hook had started") {
  options.command.clear();
  options.on_enter = {"./server &"};
  StartRestored(0);
  Listen();
  Signal(SIGUSR1);
  CHECK(tree.SentTo(kServer) == Signals{SIGUSR1});
}

TEST_CASE_FIXTURE(Kept, "signals reach what a restored server has left behind as a daemon") {
  StartRestored();
  Listen();
  tree.Remove(kServer);
  tree.Add(1600);
  Signal(SIGUSR1);
  CHECK(tree.SentTo(1600) == Signals{SIGUSR1});
}

TEST_CASE_FIXTURE(Kept,
                  "a restored server that fails is started again, cold and without a keeper") {
  options.restart = Restart::kOnFailure;
  StartRestored();
  Listen();
  REQUIRE(phase() == Phase::kServing);
  Unlisten();
  EndRestored(ExitStatus::Code(3));
  CHECK(phase() == Phase::kLaunching);
  clock.Advance(600ms);
  CHECK(phase() == Phase::kWaitingForPort);
  CHECK(keeper.workloads.empty());
  CHECK(last().spec.argv == Words{"./server"});
  Listen();
  CHECK(phase() == Phase::kServing);
  CHECK(origin() == "cold");
  CHECK(published.restarts == 1);
  CHECK(snapshots.calls.size() == 2);  // the restart is no second verdict
}

TEST_CASE_FIXTURE(Kept, "a restart that does not open the port is no restore that has failed") {
  options.restart = Restart::kOnFailure;
  StartRestored();
  Listen();
  Unlisten();
  EndRestored(ExitStatus::Code(3));
  clock.Advance(600ms);
  clock.Advance(5s);
  CHECK(stop_by() == "modal-agent");
  CHECK(Holds(stop_reason(), "not ready within 5000 ms"));
  Exit(last().pid, ExitStatus::Signal(SIGTERM));
  Turns();
  CHECK(exit_code == kExitStartupTimeout);
}

// Restores that come to nothing -------------------------------------------------------------------

TEST_CASE_FIXTURE(Kept, "without a snapshot it starts cold, hooks and workload below the keeper") {
  options.on_enter = {"migrate"};
  StartCold();
  CHECK(phase() == Phase::kStartupHooks);
  CHECK(keeper.hooks == Words{"migrate"});
  ExitLast(ExitStatus::Code(0));
  CHECK(keeper.workloads == Words{"./server"});
  CHECK(origin() == "cold");
  CHECK(note() == "cold start: there is no snapshot of this key yet");
  CHECK(log.Count("snapshot.cold") == 1);
  Listen();
  CHECK(phase() == Phase::kServing);
  CHECK(keeper.leaves == 0);  // no dump is wanted
  CHECK(snapshots.calls == Calls{"restore"});
  CHECK(published.dump_ms == -1);
}

TEST_CASE_FIXTURE(Kept, "what a failed restore has left is killed before anything is started") {
  Start();
  tree.Add(kRoot);
  tree.Add(kServer);
  snapshots.Answer(Error("criu restore: pid 1000 is taken"));
  Turns();
  CHECK(phase() == Phase::kRestoring);
  CHECK(tree.SentTo(kRoot).front() == SIGKILL);
  CHECK(tree.SentTo(kServer).front() == SIGKILL);
  tree.Remove(kRoot);
  supervisor->OnChildrenCollected();
  Turns();
  CHECK(launcher.started.empty());
  tree.Remove(kServer);
  supervisor->OnChildrenCollected();
  Turns();
  CHECK(phase() == Phase::kWaitingForPort);
  CHECK(keeper.workloads == Words{"./server"});
}

TEST_CASE("a restored tree that never opens the port is killed, and the container starts cold") {
  for (const Restart restart : {Restart::kNo, Restart::kOnFailure}) {
    Kept world;
    world.options.restart = restart;
    world.options.on_enter = {"migrate"};
    world.KillsWork();
    world.StartRestored();
    world.clock.Advance(5s);
    world.Turns();
    CHECK(world.phase() == Phase::kStartupHooks);
    CHECK_FALSE(world.exit_code);
    CHECK(world.published.restarts == 0);
    CHECK_FALSE(world.tree.IsAlive(kRoot));
    CHECK_FALSE(world.tree.IsAlive(kServer));
    REQUIRE(world.snapshots.calls.size() == 2);
    CHECK(Holds(world.snapshots.calls[1], "useless: not ready within 5000 ms"));
    CHECK(world.origin() == "cold");
    CHECK(Holds(world.note(), "the restored server did not serve"));
    CHECK(world.keeper.hooks == Words{"migrate"});
    world.ExitLast(ExitStatus::Code(0));
    world.Listen();
    CHECK(world.phase() == Phase::kServing);
    CHECK(world.snapshots.calls.size() == 2);
  }
}

TEST_CASE("a restored tree that dies before it serves gives way to a cold start") {
  for (const bool by_a_hook : {false, true}) {
    CAPTURE(by_a_hook);
    Kept world;
    if (by_a_hook) {
      world.options.command.clear();
      world.options.on_enter = {"start"};
    }
    world.KillsWork();
    world.StartRestored(by_a_hook ? 0 : kServer);
    world.tree.Add(kServer);  // outlives its keeper
    world.tree.Remove(kRoot);
    world.launcher.Exit(world.root(), ExitStatus::Signal(SIGSEGV));
    world.supervisor->OnChildrenCollected();
    world.Turns();
    CHECK_FALSE(world.tree.IsAlive(kServer));
    CHECK_FALSE(world.exit_code);
    CHECK(world.snapshots.calls ==
          Calls{"restore", "useless: it ended with " + ExitStatus::Signal(SIGSEGV).ToString()});
    CHECK((by_a_hook ? world.keeper.hooks == Words{"start"}
                     : world.keeper.workloads == Words{"./server"}));
    CHECK(world.origin() == "cold");
  }
}

// Memory that comes back as it is touched.
struct KeptLazily : Kept {
  void StartLazily() {
    Start();
    tree.Add(kRoot);
    tree.Add(kServer);
    snapshots.Answer(Snapshots::Restored{kRoot, kServer, 800ms, 4096, true});
  }
  void Lose() {
    KillsWork();
    snapshots.on_memory(Error("the page server has ended with signal SIGKILL"));
    Turns();
  }
  std::string pages() const { return std::string(BoardText(published.snapshot_pages)); }
};

TEST_CASE_FIXTURE(KeptLazily, "it is told whether memory comes lazily, and when all of it is in") {
  StartLazily();
  Listen();
  CHECK(pages() == "lazy");
  CHECK(published.pages_in_ms == -1);
  clock.Advance(300ms);
  snapshots.on_memory(PageHelper::AllIn{10, 3, 70ms});
  CHECK(published.pages_in_ms >= 300);
  CHECK(phase() == Phase::kServing);
}

TEST_CASE_FIXTURE(KeptLazily, "memory that is lost before it serves is a restore that has failed") {
  StartLazily();
  Lose();
  CHECK(snapshots.Has("useless: lazy pages: the page server has ended with signal SIGKILL"));
  CHECK(tree.SentTo(kServer) == Signals{SIGKILL});
  CHECK(snapshots.releases == 1);
  CHECK(origin() == "cold");
  CHECK(keeper.workloads.size() == 1);
  CHECK_FALSE(exit_code);
}

TEST_CASE_FIXTURE(KeptLazily, "memory that is lost while it serves makes room for a cold start") {
  options.on_enter = {"migrate"};
  StartLazily();
  Listen();
  REQUIRE(phase() == Phase::kServing);
  Lose();
  CHECK(tree.SentTo(kServer) == Signals{SIGKILL});
  CHECK(snapshots.releases == 1);
  CHECK(snapshots.Has("useless: lazy pages: the page server has ended with signal SIGKILL"));
  CHECK(phase() == Phase::kStartupHooks);
  CHECK(keeper.hooks.size() == 1);
  CHECK_FALSE(published.ready);
  CHECK(origin() == "cold");
  CHECK(pages() == "");
  CHECK(published.restarts == 0);
  CHECK_FALSE(exit_code);
}

TEST_CASE_FIXTURE(KeptLazily, "memory that is lost while it drains ends the server at once") {
  StartLazily();
  Listen();
  HaveConnections(1);
  Signal(SIGTERM);
  REQUIRE(phase() == Phase::kDraining);
  Lose();
  CHECK(tree.SentTo(kServer).front() == SIGKILL);
  CHECK(exit_code == 137);
}

TEST_CASE_FIXTURE(Kept,
                  "files that came with a useless restore are gone before anything is started") {
  snapshots.takes_back = false;
  KillsWork();
  StartRestored();
  clock.Advance(5s);
  Turns();
  CHECK_FALSE(tree.IsAlive(kServer));  // before they are: it may use them
  REQUIRE(snapshots.calls.size() == 2);
  CHECK(keeper.workloads.empty());
  SUBCASE("they are") {
    snapshots.TakenBack();
    Turns();
    CHECK(keeper.workloads == Words{"./server"});
  }
  SUBCASE("SIGTERM comes first") {
    Signal(SIGTERM);
    Turns();
    CHECK(keeper.workloads.empty());
    CHECK(exit_code == 128 + SIGTERM);
  }
}

TEST_CASE_FIXTURE(Kept, "a port that what was killed still holds for a moment is waited for") {
  Start();
  Listen();  // a socket on its way to a process that is dead already
  snapshots.Answer(Error("the worker has ended"));
  Turns();
  clock.Advance(500ms);
  CHECK(phase() == Phase::kRestoring);
  CHECK(launcher.started.empty());
  SUBCASE("it is free soon") {
    Unlisten();
    clock.Advance(2ms);
    CHECK(phase() == Phase::kWaitingForPort);
  }
  SUBCASE("it is not: that is said as ever") {
    clock.Advance(2s);
    Turns();
    CHECK(exit_code == 125);
  }
  SUBCASE("SIGTERM comes first") {
    Signal(SIGTERM);
    Unlisten();
    clock.Advance(2s);
    CHECK(launcher.started.empty());
    CHECK(exit_code == 128 + SIGTERM);
  }
}

TEST_CASE_FIXTURE(Kept, "a restore is called for again once nothing of a wrong guess is left") {
  KillsWork();
  Start();
  tree.Add(kServer);
  Listen();
  snapshots.wants_another_restore = true;
  snapshots.Answer(Error("what was begun on a guess is begun anew"));
  snapshots.wants_another_restore = false;
  CHECK(tree.SentTo(kServer) == Signals{SIGKILL});
  CHECK(snapshots.calls == Calls{"restore"});
  SUBCASE("it is gone, and its port is free") {
    Turns();
    CHECK_FALSE(tree.IsAlive(kServer));
    CHECK(snapshots.calls == Calls{"restore", "restore"});
    CHECK(phase() == Phase::kRestoring);
    tree.Add(kRoot);
    tree.Add(kServer);
    snapshots.Answer(Snapshots::Restored{kRoot, kServer, 800ms, 4096});
    CHECK(origin() == "restore");
  }
  SUBCASE("SIGTERM comes first") {
    Signal(SIGTERM);
    clock.Advance(2s);
    Turns();
    CHECK(snapshots.calls == Calls{"restore", "cancel"});
    CHECK(exit_code == 128 + SIGTERM);
  }
}

TEST_CASE_FIXTURE(Kept, "a cold start after a useless restore has the whole startup timeout") {
  KillsWork();
  StartRestored();
  clock.Advance(5s);
  Turns();
  REQUIRE(phase() == Phase::kWaitingForPort);
  clock.Advance(4900ms);
  CHECK(phase() == Phase::kWaitingForPort);
  Listen();
  CHECK(phase() == Phase::kServing);
}

TEST_CASE_FIXTURE(Kept, "whoever attaches to a server that is there has nothing to restore") {
  options.command.clear();
  table.listeners.push_back(test::ListenerOn("0.0.0.0", 8000, 7));
  Start();
  Turns();
  CHECK(phase() == Phase::kServing);
  CHECK(snapshots.calls.empty());
}

TEST_CASE_FIXTURE(Kept, "a port that is taken before the restore is refused as ever") {
  table.listeners.push_back(test::ListenerOn("0.0.0.0", 8000, 7));
  Start();
  Turns();
  CHECK(exit_code == kExitAgentError);
  CHECK(Holds(stop_reason(), "port 8000 is already taken"));
}

// Late hooks --------------------------------------------------------------------------------------

TEST_CASE("late hooks run once the server is ready, outside of the tree, and before it serves") {
  for (const bool restored : {false, true}) {
    CAPTURE(restored);
    Kept world;
    world.options.on_restore = {"reseed", "announce"};
    restored ? world.StartRestored() : world.StartCold();
    CHECK(world.published.hooks_run == 0);
    world.Listen();
    CHECK(world.phase() == Phase::kWaitingForPort);
    CHECK(world.last().spec.argv == Words{"reseed"});
    CHECK(world.keeper.hooks.empty());
    CHECK_FALSE(world.published.ready);
    world.ExitLast(ExitStatus::Code(0));
    CHECK(world.last().spec.argv == Words{"announce"});
    world.clock.Advance(10s);  // which is none of the startup timeout's
    CHECK(world.phase() == Phase::kWaitingForPort);
    world.ExitLast(ExitStatus::Code(0));
    CHECK(world.phase() == Phase::kServing);
    CHECK(world.published.hooks_run == 2);
    world.clock.Advance(20ms);
    CHECK(world.snapshots.Has("served " + std::to_string(world.published.ready_ms)) == restored);
  }
}

TEST_CASE_FIXTURE(Kept, "the executables of hooks.d/restore are late hooks too, and come first") {
  const test::TempFolder temp;
  std::filesystem::create_directories(temp.path() + "/restore");
  const std::string file = temp.path() + "/restore/10-reseed";
  std::ofstream(file) << "#!/bin/sh\n";
  REQUIRE(::chmod(file.c_str(), 0755) == 0);
  options.hooks_dir = temp.path();
  options.on_restore = {"announce"};
  StartCold();
  Listen();
  CHECK(last().spec.argv == Words{file});
  ExitLast(ExitStatus::Code(0));
  CHECK(last().spec.argv == Words{"announce"});
}

TEST_CASE("a late hook that fails ends the container with 120") {
  for (const bool restored : {false, true}) {
    CAPTURE(restored);
    Kept world;
    world.options.on_restore = {"reseed"};
    restored ? world.StartRestored() : world.StartCold();
    world.Listen();
    world.ExitLast(ExitStatus::Code(4));
    CHECK(world.phase() == Phase::kStopping);
    CHECK(world.stop_by() == "a hook after the start");
    CHECK(world.published.hooks_failed == 1);
    if (restored) {
      world.EndRestored(ExitStatus::Signal(SIGTERM));
    } else {
      world.Exit(test::FakeLauncher::kFirstPid, ExitStatus::Signal(SIGTERM));
    }
    world.Turns();
    CHECK(world.exit_code == kExitHookFailed);
  }
}

TEST_CASE_FIXTURE(Kept, "late hooks run after the dump, and leave nothing in it") {
  options.on_restore = {"reseed"};
  ReachTheDump();
  CHECK(keeper.workloads == Words{"./server"});
  keeper.Left();
  snapshots.Ready();
  snapshots.Resumed({});
  CHECK(phase() == Phase::kCheckpointing);
  CHECK(last().spec.argv == Words{"reseed"});
  ExitLast(ExitStatus::Code(0));
  CHECK(phase() == Phase::kServing);
}

TEST_CASE_FIXTURE(Kept, "a workload that fails during late hooks is waited for anew") {
  options.restart = Restart::kOnFailure;
  options.on_restore = {"reseed"};
  KillsWork();
  StartCold();
  Listen();
  Started& hook = last();
  REQUIRE(hook.spec.argv == Words{"reseed"});
  Unlisten();
  Exit(test::FakeLauncher::kFirstPid, ExitStatus::Code(3));
  tree.Remove(hook.pid);
  launcher.Exit(hook, ExitStatus::Code(0));  // its word does not count any more
  supervisor->OnChildrenCollected();
  clock.Advance(600ms);
  CHECK(phase() == Phase::kWaitingForPort);
  CHECK_FALSE(published.ready);
  Listen();
  CHECK(last().spec.argv == Words{"reseed"});
  ExitLast(ExitStatus::Code(0));
  CHECK(phase() == Phase::kServing);
}

TEST_CASE_FIXTURE(Kept, "what late hooks leave running is not the workload's") {
  options.on_restore = {"agent &"};
  StartCold();
  Listen();
  const pid_t hook = last().pid;
  ExitLast(ExitStatus::Code(0));
  REQUIRE(phase() == Phase::kServing);
  tree.Add(1700, hook);
  Unlisten();
  Exit(test::FakeLauncher::kFirstPid, ExitStatus::Code(0));
  CHECK(phase() == Phase::kStopping);
  CHECK(stop_reason() == "ended by itself with exit code 0");
}

// Dumps -------------------------------------------------------------------------------------------

TEST_CASE_FIXTURE(Kept, "a cold start is dumped before it serves, once the keeper has left") {
  options.on_enter = {"migrate"};
  snapshots.wants_dump = true;
  Start();
  clock.Advance(100ms);  // which the search for a snapshot took
  snapshots.Answer(Error("none"));
  Turns();
  clock.Advance(200ms);
  ExitLast(ExitStatus::Code(0));
  clock.Advance(300ms);
  Listen();
  CHECK(phase() == Phase::kCheckpointing);
  CHECK(keeper.leaves == 1);
  CHECK_FALSE(snapshots.tree);
  CHECK_FALSE(published.ready);
  keeper.Left();
  REQUIRE(snapshots.tree);
  CHECK(snapshots.tree->root == test::FakeTreeKeeper::kRoot);
  CHECK(snapshots.tree->workload == last().pid);
  CHECK(snapshots.tree->listening == "0.0.0.0:8000");
  CHECK(snapshots.tree->hooks == 200ms);
  CHECK(snapshots.tree->cold == 520ms);  // all but the search for a snapshot
  CHECK_FALSE(snapshots.Has("proceed"));
  clock.Advance(30ms);
  snapshots.Ready();
  CHECK(snapshots.Has("proceed"));
  clock.Advance(15ms);
  CHECK(phase() == Phase::kCheckpointing);
  snapshots.Resumed({});
  CHECK(phase() == Phase::kServing);
  CHECK(published.dump_ms == 15);
  CHECK(origin() == "cold");
  CHECK(last().signals.empty());
}

TEST_CASE_FIXTURE(Kept, "a dump that fails changes nothing for the server") {
  ReachTheDump();
  keeper.Left();
  SUBCASE("before it began: nobody was disturbed") {
    snapshots.Resumed(Error("the folder is full"));
    CHECK(published.dump_ms == -1);
  }
  SUBCASE("while it ran") {
    snapshots.Ready();
    clock.Advance(7ms);
    snapshots.Resumed(Error("the folder is full"));
    CHECK(published.dump_ms == 7);
  }
  CHECK(phase() == Phase::kServing);
  CHECK(note() == "no snapshot: the folder is full");
  CHECK(log.Count("snapshot.failed") == 1);
  CHECK(published.restarts == 0);
}

TEST_CASE_FIXTURE(Kept, "a dump that others have made meanwhile is nothing to be warned of") {
  ReachTheDump();
  keeper.Left();
  log.Clear();
  snapshots.wants_dump = false;
  snapshots.Resumed(Error("there is a snapshot of this key"));
  CHECK(phase() == Phase::kServing);
  CHECK(note() == "not taken: there is a snapshot of this key");
  CHECK(log.Count("info  snapshot.declined") == 1);
  CHECK(log.Count("warn") == 0);
  CHECK(published.dump_ms == -1);
  for (const std::string& step : timeline()) CHECK_FALSE(Holds(step, "failed"));
}

TEST_CASE_FIXTURE(Kept, "a keeper that does not leave is no reason not to serve") {
  ReachTheDump();
  keeper.Left(Error("keeper: it does not leave within 5000 ms"));
  CHECK(phase() == Phase::kServing);
  CHECK_FALSE(snapshots.Has("dump"));
  CHECK(Holds(note(), "does not leave"));
}

TEST_CASE_FIXTURE(Kept, "the startup timeout does not count while a dump is taken") {
  ReachTheDump();
  keeper.Left();
  clock.Advance(1min);
  CHECK(phase() == Phase::kCheckpointing);
  snapshots.Ready();
  snapshots.Resumed({});
  CHECK(phase() == Phase::kServing);
}

TEST_CASE_FIXTURE(Kept, "a workload that ends while it is dumped ends the container") {
  ReachTheDump();
  SUBCASE("before the keeper has left") {}
  SUBCASE("before the dump") { keeper.Left(); }
  keeper.root_pid = 0;
  ExitLast(ExitStatus::Code(3));
  Turns();
  CHECK(exit_code == 3);
  CHECK(snapshots.Has("cancel"));
  CHECK_FALSE(snapshots.dump.on_resumed);
}

TEST_CASE_FIXTURE(Kept,
                  "a workload that ends during the dump itself waits for what has come of it") {
  ReachTheDump();
  keeper.Left();
  snapshots.Ready();
  keeper.root_pid = 0;
  const pid_t first = last().pid;
  Unlisten();
  ExitLast(ExitStatus::Code(3));
  Turns();
  CHECK(phase() == Phase::kCheckpointing);
  SUBCASE("nothing: it has ended by itself") {
    snapshots.Resumed(Error("the process tree is gone"));
    Turns();
    CHECK(exit_code == 3);
  }
  SUBCASE("a snapshot: it has ended by itself") {
    snapshots.Resumed({});
    Turns();
    CHECK(exit_code == 3);
  }
  SUBCASE("CRIU was ended in the middle: that may have ended it") {
    snapshots.Broken("criu: it has ended without an answer");
    Turns();
    CHECK_FALSE(exit_code);
    CHECK(last().spec.argv == Words{"./server"});
    CHECK(last().pid != first);
  }
  SUBCASE("SIGTERM comes first, and nothing ever comes of it") {
    Signal(SIGTERM);
    clock.Advance(1s);
    Turns();
    CHECK(exit_code == 3);
  }
}

TEST_CASE_FIXTURE(Kept,
                  "what CRIU has left in the middle of a dump never serves, and is started anew") {
  KillsWork();
  ReachTheDump();
  keeper.Left();
  snapshots.Ready();
  const pid_t first = last().pid;
  Unlisten();
  snapshots.Broken("criu: it has ended without an answer");
  Turns();
  CHECK(tree.SentTo(first).front() == SIGKILL);
  CHECK_FALSE(tree.IsAlive(first));
  CHECK(phase() == Phase::kWaitingForPort);
  CHECK(last().spec.argv == Words{"./server"});
  CHECK(last().pid != first);
  CHECK(keeper.workloads == Words{"./server"});  // the second has no keeper
  CHECK(published.restarts == 0);
  CHECK(log.Count("snapshot.failed") == 1);
  CHECK(Holds(note(), "in the middle of the dump"));
  CHECK_FALSE(published.ready);
  clock.Advance(4900ms);  // the whole startup timeout is there again
  Listen();
  CHECK(phase() == Phase::kServing);
  CHECK(std::count(snapshots.calls.begin(), snapshots.calls.end(), "dump") == 1);
}

TEST_CASE_FIXTURE(Kept,
                  "startup hooks run again after a broken dump only if theirs was broken, too") {
  options.on_enter = {"migrate"};
  snapshots.wants_dump = true;
  KillsWork();
  StartCold();
  const pid_t hook = last().pid;
  ExitLast(ExitStatus::Code(0));
  Turns();
  const bool left_a_server = [] {
    bool it_did = false;
    SUBCASE("nothing of them was left") {}
    SUBCASE("one has left a server behind") { it_did = true; }
    return it_did;
  }();
  const pid_t first = last().pid;
  if (left_a_server) tree.Add(hook + 1000, hook);
  Listen();
  REQUIRE(phase() == Phase::kCheckpointing);
  keeper.Left();
  snapshots.Ready();
  Unlisten();
  snapshots.Broken("the worker has ended");
  tree.Remove(hook + 1000);
  Turns();
  CHECK(last().spec.argv == Words{left_a_server ? "migrate" : "./server"});
  CHECK(last().pid != first);
  CHECK(phase() == (left_a_server ? Phase::kStartupHooks : Phase::kWaitingForPort));
}

TEST_CASE_FIXTURE(Kept, "SIGTERM after a broken dump ends at once what there is") {
  ReachTheDump();
  keeper.Left();
  snapshots.Ready();
  const pid_t first = last().pid;
  snapshots.Broken("the worker has ended");
  Signal(SIGTERM);
  Turns();
  CHECK(phase() == Phase::kStopping);
  CHECK(tree.SentTo(first).back() == SIGKILL);
}

TEST_CASE_FIXTURE(Kept,
                  "a workload that fails while it is dumped is started again, and no dump is "
                  "taken any more") {
  options.restart = Restart::kOnFailure;
  ReachTheDump();
  keeper.Left();
  snapshots.Ready();
  keeper.root_pid = 0;
  Unlisten();
  ExitLast(ExitStatus::Signal(SIGSEGV));
  Turns();
  snapshots.Resumed(Error("the process tree is gone"));
  Turns();
  CHECK(snapshots.Has("cancel"));
  clock.Advance(600ms);
  CHECK(phase() == Phase::kWaitingForPort);
  Listen();
  CHECK(phase() == Phase::kServing);
  CHECK(keeper.workloads == Words{"./server"});  // the second has no keeper
  CHECK(std::count(snapshots.calls.begin(), snapshots.calls.end(), "dump") == 1);
}

TEST_CASE_FIXTURE(Kept, "after a restart before it was ready no dump is taken") {
  options.restart = Restart::kOnFailure;
  snapshots.wants_dump = true;
  StartCold();
  ExitLast(ExitStatus::Code(1));
  clock.Advance(600ms);
  Listen();
  CHECK(phase() == Phase::kServing);
  CHECK_FALSE(snapshots.Has("dump"));
  CHECK(keeper.leaves == 0);
}

TEST_CASE_FIXTURE(Kept, "a keeper that has died takes the dump along") {
  snapshots.wants_dump = true;
  StartCold();
  keeper.root_pid = 0;
  Listen();
  CHECK(phase() == Phase::kServing);
  CHECK(keeper.leaves == 0);
}

TEST_CASE_FIXTURE(Kept,
                  "requests for warming up go to the server one by one, before the keeper leaves") {
  has_gateway = true;
  options.snapshots.warmup = 2;
  ReachTheDump();
  REQUIRE(gateway.probes.size() == 1);
  CHECK(gateway.probes[0].path == "/");
  CHECK(keeper.leaves == 0);
  gateway.AnswerLast(500);  // which is the server's own business
  REQUIRE(gateway.probes.size() == 2);
  CHECK(keeper.leaves == 0);
  SUBCASE("all of them") {
    gateway.AnswerLast(200);
    CHECK(keeper.leaves == 1);
  }
  SUBCASE("until the server ends") {
    ExitLast(ExitStatus::Code(3));
    Turns();
    gateway.AnswerLast(200);
    CHECK(keeper.leaves == 0);
    CHECK(exit_code == 3);
  }
}

// --snapshot create -------------------------------------------------------------------------------

struct Creating : Kept {
  Creating() {
    options.snapshots.folder = "/snapshots";
    options.snapshots.mode = SnapshotMode::kCreate;
  }
  // Until the dump has been proceeded with.
  void DumpIt() {
    ReachTheDump();
    keeper.Left();
    CHECK(snapshots.tree->ends);
    snapshots.Ready();
  }
  // What the dump does to the tree.
  void EndTree() {
    Unlisten();
    keeper.root_pid = 0;
    if (last().spec.argv == Words{"./server"}) ExitLast(ExitStatus::Signal(SIGKILL));
    Turns();
  }
  void TryIt() {
    DumpIt();
    EndTree();
    snapshots.Resumed({});
    CHECK(phase() == Phase::kCheckpointing);
    snapshots.Published({});
    REQUIRE(phase() == Phase::kRestoring);
  }
};

TEST_CASE_FIXTURE(Creating, "a snapshot that is made ends the tree, is restored, and ends with 0") {
  TryIt();
  CHECK(log.Count("snapshot.failed") == 0);
  clock.Advance(30ms);
  tree.Add(kRoot);
  snapshots.Answer(Snapshots::Restored{kRoot, kServer, 320ms, 4096});
  Listen();
  // Without the time of the cold start.
  const auto is_verdict = [](const std::string& call) { return call.starts_with("served "); };
  const auto verdict = std::find_if(snapshots.calls.begin(), snapshots.calls.end(), is_verdict);
  REQUIRE(verdict != snapshots.calls.end());
  CHECK(std::stoi(verdict->substr(7)) >= 30);
  CHECK(std::stoi(verdict->substr(7)) <= 50);
  // It goes on until what it is worth stands in the folder, whoever ends meanwhile.
  CHECK(phase() == Phase::kServing);
  SUBCASE("then it stops") {
    snapshots.Judge(Snapshots::Judgement{"proven", "restored in 30 ms"});
    CHECK(phase() != Phase::kServing);
    EndRestored(ExitStatus::Signal(SIGTERM));
  }
  SUBCASE("the server has ended by itself") {
    EndRestored(ExitStatus::Code(3));
    CHECK_FALSE(exit_code);
    snapshots.Judge(Snapshots::Judgement{"proven", "restored in 30 ms"});
    Turns();
    clock.Advance(20ms);
  }
  CHECK(exit_code == 0);
  CHECK(Holds(stop_reason(), "a cold start takes 320 ms"));
}

TEST_CASE_FIXTURE(Creating, "SIGTERM during the dump lets it end, and then there is none: 122") {
  DumpIt();
  Signal(SIGTERM);
  EndTree();
  CHECK(phase() == Phase::kCheckpointing);
  snapshots.Resumed({});
  Turns();
  CHECK(exit_code == 122);
  CHECK(snapshots.Has("cancel"));
}

TEST_CASE_FIXTURE(Creating, "a snapshot that gains too little ends with 122") {
  TryIt();
  clock.Advance(300ms);
  tree.Add(kRoot);
  snapshots.Answer(Snapshots::Restored{kRoot, kServer, 320ms, 4096});
  Listen();
  SUBCASE("and says so") {
    snapshots.Judge(Snapshots::Judgement{"not-worth-it", "restored in 300 ms"});
    CHECK(Holds(stop_reason(), "not worth it"));
  }
  SUBCASE("and so does one whose worth cannot be noted") {
    snapshots.Judge(Error("no space left"));
    CHECK(Holds(stop_reason(), "cannot be noted: no space left"));
  }
  EndRestored(ExitStatus::Signal(SIGTERM));
  CHECK(exit_code == kExitSnapshotFailed);
}

TEST_CASE_FIXTURE(Creating,
                  "where there is a proven snapshot nothing is started, and it ends with 0") {
  Start();
  snapshots.has_proven = true;
  snapshots.Answer(Error("there is a proven snapshot: restored in 24 ms"));
  Turns();
  CHECK(exit_code == 0);
  CHECK(launcher.started.empty());
  CHECK(Holds(stop_reason(), "there is a proven snapshot: restored in 24 ms"));
}

TEST_CASE_FIXTURE(Creating, "a snapshot of which nothing is known yet is restored as its trial") {
  StartRestored();
  SUBCASE("it serves") {
    Listen();
    CHECK(phase() == Phase::kServing);
    snapshots.Judge(Snapshots::Judgement{"proven", "restored in 24 ms"});
    EndRestored(ExitStatus::Signal(SIGTERM));
    CHECK(exit_code == 0);
  }
  SUBCASE("it does not, and another one is made instead") {
    snapshots.wants_dump = true;
    KillsWork();
    EndRestored(ExitStatus::Signal(SIGSEGV));
    CHECK(snapshots.Has("useless: it ended with signal SIGSEGV"));
    CHECK(origin() == "cold");
    CHECK(phase() == Phase::kWaitingForPort);
    CHECK(last().spec.argv == Words{"./server"});
    Listen();
    CHECK(phase() == Phase::kCheckpointing);
  }
}

TEST_CASE_FIXTURE(Creating, "a server that does not come to be ready is no snapshot: 122") {
  SUBCASE("it ends") {
    options.restart = Restart::kOnFailure;
    StartCold();
    ExitLast(ExitStatus::Code(3));
  }
  SUBCASE("it ends with 0") {
    StartCold();
    ExitLast(ExitStatus::Code(0));
  }
  SUBCASE("it does not listen") {
    StartCold();
    clock.Advance(5s);
    ExitLast(ExitStatus::Signal(SIGTERM));
  }
  SUBCASE("a hook fails") {
    options.on_enter = {"prepare"};
    StartCold();
    ExitLast(ExitStatus::Code(1));
  }
  SUBCASE("there is nothing to start") {
    options.command.clear();
    Start();
  }
  SUBCASE("it is asked to stop") {
    StartCold();
    Signal(SIGTERM);
    ExitLast(ExitStatus::Code(0));
  }
  Turns();
  clock.Advance(20ms);
  CHECK(exit_code == kExitSnapshotFailed);
}

TEST_CASE_FIXTURE(Creating, "a snapshot that cannot be made or restored ends with 122") {
  snapshots.takes_back = false;
  SUBCASE("no dump") {
    DumpIt();
    snapshots.Resumed(Error("Connected TCP socket"));
    CHECK(Holds(stop_reason(), "Connected TCP socket"));
    ExitLast(ExitStatus::Code(0));
  }
  SUBCASE("a keeper that does not leave") {
    ReachTheDump();
    keeper.Left(Error("keeper: it does not leave"));
    ExitLast(ExitStatus::Code(0));
  }
  SUBCASE("not published") {
    DumpIt();
    EndTree();
    snapshots.Resumed({});
    snapshots.Published(Error("no space left"));
    CHECK(Holds(stop_reason(), "no space left"));
  }
  SUBCASE("not restored") {
    TryIt();
    snapshots.Answer(Error("pid 1000 is taken"));
    CHECK(Holds(stop_reason(), "its restore failed: pid 1000 is taken"));
  }
  SUBCASE("not serving") {
    TryIt();
    tree.Add(kRoot);
    snapshots.Answer(Snapshots::Restored{kRoot, kServer, 320ms, 4096});
    clock.Advance(5s);
    CHECK(Holds(snapshots.calls.back(), "useless"));
    CHECK(phase() == Phase::kWaitingForPort);
    snapshots.Judge(Snapshots::Judgement{"unproven", "not ready"});
    CHECK(Holds(stop_reason(), "what was restored did not serve"));
    EndRestored(ExitStatus::Signal(SIGTERM));
  }
  SUBCASE("restored, and dead") {
    TryIt();
    tree.Add(kRoot);
    snapshots.Answer(Snapshots::Restored{kRoot, kServer, 320ms, 4096});
    EndRestored(ExitStatus::Signal(SIGSEGV));
    CHECK_FALSE(exit_code);
    snapshots.Judge(Error("the worker has ended"));
    CHECK(Holds(stop_reason(), "what was restored did not serve"));
  }
  Turns();
  clock.Advance(20ms);
  CHECK(exit_code == kExitSnapshotFailed);
}

TEST_CASE_FIXTURE(Creating, "a hook's server that ends with its dump is no container that ends") {
  options.command.clear();
  options.on_enter = {"start"};
  snapshots.wants_dump = true;
  StartCold();
  tree.Add(test::FakeTreeKeeper::kRoot);
  keeper.holds_anybody = true;
  ExitLast(ExitStatus::Code(0));
  Listen();
  REQUIRE(phase() == Phase::kCheckpointing);
  keeper.Left();
  snapshots.Ready();
  Unlisten();
  tree.Remove(test::FakeTreeKeeper::kRoot);
  keeper.End(ExitStatus::Signal(SIGKILL));
  supervisor->OnChildrenCollected();
  Turns();
  CHECK(phase() == Phase::kCheckpointing);
  snapshots.Resumed({});
  snapshots.Published({});
  CHECK(phase() == Phase::kRestoring);
}

// Servers that are not COMMAND's own process ------------------------------------------------------

TEST_CASE_FIXTURE(Kept,
                  "a server that a hook has started is dumped, and its end is the container's") {
  options.command.clear();
  options.on_enter = {"start"};
  snapshots.wants_dump = true;
  StartCold();
  tree.Add(test::FakeTreeKeeper::kRoot);
  tree.Add(1800, test::FakeTreeKeeper::kRoot);
  keeper.holds_anybody = true;
  ExitLast(ExitStatus::Code(0));
  REQUIRE(phase() == Phase::kWaitingForPort);
  CHECK(keeper.leaves == 1);  // from now on it ends with what it holds
  SUBCASE("while it is waited for") {}
  SUBCASE("while it is dumped") {
    Listen();
    REQUIRE(phase() == Phase::kCheckpointing);
    keeper.Left();
    CHECK(snapshots.tree->workload == 0);
  }
  SUBCASE("while it serves") {
    Listen();
    keeper.Left();
    snapshots.Ready();
    snapshots.Resumed({});
    REQUIRE(phase() == Phase::kServing);
  }
  tree.Remove(1800);
  tree.Remove(test::FakeTreeKeeper::kRoot);
  keeper.End(ExitStatus::Code(6));
  last_orphan = ExitStatus::Code(0);
  supervisor->OnChildrenCollected();
  Turns();
  CHECK(exit_code == 6);
  CHECK(stop_reason() == "its last process ended with exit code 6");
}

TEST_CASE_FIXTURE(Kept, "hooks that have left nobody behind are waited for as without a keeper") {
  options.command.clear();
  options.on_enter = {"start"};
  StartCold();
  tree.Add(test::FakeTreeKeeper::kRoot);
  ExitLast(ExitStatus::Code(0));
  CHECK(keeper.leaves == 0);
  clock.Advance(5s);
  CHECK(phase() == Phase::kStopping);
  CHECK(keeper.leaves == 1);  // or it would never end
  tree.Remove(test::FakeTreeKeeper::kRoot);
  keeper.End(ExitStatus::Code(0));
  supervisor->OnChildrenCollected();
  Turns();
  CHECK(exit_code == kExitStartupTimeout);
}

TEST_CASE_FIXTURE(Kept, "a daemon is followed as without a keeper, signals included") {
  StartCold();
  tree.Add(test::FakeTreeKeeper::kRoot);
  tree.Add(1800);
  keeper.workload_pid = 0;
  ExitLast(ExitStatus::Code(0));  // the keeper has told so, and stays
  CHECK(phase() == Phase::kWaitingForPort);
  CHECK(log.Has("workload.daemonised"));
  CHECK(published.workload_pid == 0);
  Listen();
  Signal(SIGUSR1);
  CHECK(tree.SentTo(1800) == Signals{SIGUSR1});
  tree.Remove(1800);
  tree.Remove(test::FakeTreeKeeper::kRoot);
  keeper.End(ExitStatus::Code(5));
  supervisor->OnChildrenCollected();
  Turns();
  CHECK(exit_code == 5);
}

TEST_CASE_FIXTURE(Kept, "signals reach a daemon whose first process has gone without a word") {
  StartCold();
  Listen();
  tree.Add(1800);
  last().running = false;  // nobody is in its group any more, and nobody has told
  Signal(SIGUSR1);
  CHECK(last().group_signals == Signals{SIGUSR1});
  CHECK(tree.SentTo(1800) == Signals{SIGUSR1});
}

// SIGTERM -----------------------------------------------------------------------------------------

TEST_CASE_FIXTURE(Kept, "SIGTERM during the restore ends at once what there is of it") {
  KillsWork();
  Start();
  tree.Add(kServer);
  Signal(SIGTERM);
  CHECK(snapshots.Has("cancel"));
  CHECK_FALSE(snapshots.on_restored);
  Turns();
  clock.Advance(10ms);
  CHECK(exit_code == 128 + SIGTERM);
  CHECK_FALSE(tree.IsAlive(kServer));
  CHECK(launcher.started.empty());
}

TEST_CASE_FIXTURE(Kept, "SIGTERM while a failed restore is cleared away ends the container") {
  SUBCASE("one that never ran") {
    Start();
    tree.Add(kServer);
    snapshots.Answer(Error("damaged"));
  }
  SUBCASE("one that did not serve") {
    StartRestored();
    clock.Advance(5s);
  }
  KillsWork();  // as late as that
  Signal(SIGTERM);
  Turns();
  clock.Advance(1s);
  CHECK(exit_code == 128 + SIGTERM);
  CHECK(launcher.started.size() <= 1);
}

TEST_CASE_FIXTURE(Kept, "SIGTERM while a restored tree is waited for stops it in order") {
  StartRestored();
  Signal(SIGTERM);
  CHECK(phase() == Phase::kStopping);
  CHECK(tree.SentTo(kServer) == Signals{SIGTERM});
  EndRestored(ExitStatus::Code(0));
  CHECK(exit_code == 0);
}

TEST_CASE_FIXTURE(Kept, "SIGTERM before and during a dump stops the server in order") {
  ReachTheDump();
  const pid_t server = last().pid;
  SUBCASE("before the keeper has left") { Signal(SIGTERM); }
  SUBCASE("before the dump") {
    keeper.Left();
    Signal(SIGTERM);
  }
  SUBCASE("during the dump: it is over first") {
    keeper.Left();
    snapshots.Ready();
    clock.Advance(100ms);
    Signal(SIGTERM);
    clock.Advance(100ms);
    CHECK(phase() == Phase::kCheckpointing);
    CHECK(tree.SentTo(server).empty());
    CHECK_FALSE(snapshots.Has("cancel"));
    SUBCASE("done") { snapshots.Resumed({}); }
    SUBCASE("given up") { snapshots.Resumed(Error("Connected TCP socket")); }
    SUBCASE("it takes too long") { clock.Advance(900ms); }
    SUBCASE("a second one comes") { Signal(SIGTERM); }
  }
  CHECK(phase() == Phase::kStopping);
  CHECK(snapshots.Has("cancel"));
  CHECK(tree.SentTo(last().pid) == Signals{SIGTERM});
  keeper.Left();  // comes late, and changes nothing
  ExitLast(ExitStatus::Code(0));
  Turns();
  CHECK(exit_code == 0);
  CHECK_FALSE(snapshots.dump.on_resumed);
}

TEST_CASE_FIXTURE(Kept,
                  "a server that ends while the stop waits for its dump is not started again") {
  options.restart = Restart::kOnFailure;
  ReachTheDump();
  keeper.Left();
  snapshots.Ready();
  Signal(SIGTERM);
  keeper.root_pid = 0;
  ExitLast(ExitStatus::Code(3));
  Turns();
  CHECK(phase() == Phase::kCheckpointing);
  snapshots.Resumed(Error("the tree is gone"));
  Turns();
  clock.Advance(1s);
  CHECK(exit_code == 3);
  CHECK(launcher.started.size() == 1);
}

TEST_CASE_FIXTURE(Kept, "what a broken dump has left is killed at once if SIGTERM came meanwhile") {
  KillsWork();
  ReachTheDump();
  keeper.Left();
  snapshots.Ready();
  Signal(SIGTERM);
  const pid_t server = last().pid;
  snapshots.Broken("criu: it has ended without an answer");
  CHECK(phase() == Phase::kStopping);
  CHECK_FALSE(tree.SentTo(server).empty());
  CHECK(tree.SentTo(server).back() == SIGKILL);
  Turns();
  CHECK(exit_code == 128 + SIGKILL);
  CHECK(launcher.started.size() == 1);
}

TEST_CASE_FIXTURE(Kept, "a stop without time for a drain does not wait for a dump either") {
  options.exit_grace_period = 0ms;
  ReachTheDump();
  keeper.Left();
  snapshots.Ready();
  Signal(SIGTERM);
  clock.Advance(0ms);
  CHECK(phase() == Phase::kStopping);
  CHECK(snapshots.Has("cancel"));
}

TEST_CASE_FIXTURE(Kept, "SIGTERM during late hooks ends them too") {
  options.on_restore = {"reseed"};
  StartCold();
  Listen();
  const pid_t hook = last().pid;
  Signal(SIGTERM);
  CHECK(phase() == Phase::kStopping);
  CHECK(tree.SentTo(hook) == Signals{SIGTERM});
  Exit(hook, ExitStatus::Signal(SIGTERM));
  Exit(test::FakeLauncher::kFirstPid, ExitStatus::Code(0));
  Turns();
  CHECK(exit_code == 0);
  CHECK(log.Has("hook.cut_off"));
}

TEST_CASE_FIXTURE(Kept, "SIGTERM during a startup hook lets the keeper end with it") {
  options.on_enter = {"migrate"};
  StartCold();
  tree.Add(test::FakeTreeKeeper::kRoot);
  Signal(SIGTERM);
  CHECK(keeper.leaves == 1);
}

TEST_CASE_FIXTURE(Kept, "at a stop a keeper with a workload ends with it, and is told nothing") {
  StartCold();
  Listen();
  Signal(SIGTERM);
  Turns();
  CHECK(phase() == Phase::kStopping);
  CHECK(keeper.leaves == 0);
  ExitLast(ExitStatus::Code(0));
  Turns();
  CHECK(exit_code == 0);
}

TEST_CASE_FIXTURE(Kept, "the stop signal of a restored server goes to its own group") {
  options.stop_signal = SIGQUIT;
  StartRestored();
  Listen();
  Signal(SIGTERM);
  Turns();
  CHECK(tree.SentTo(kServer) == Signals{SIGQUIT});
  CHECK(tree.noted_sessions.count(kServer) == 1);
}

// The data plane ----------------------------------------------------------------------------------

struct KeptFront : Kept {
  KeptFront() {
    has_gateway = true;
    options.listen = ListenAddress{"0.0.0.0", 80};
    options.upstream.port = 8000;
    SetUpstream(options.upstream, options.data_plane.config);
  }
};

TEST_CASE_FIXTURE(KeptFront, "requests are met as while it starts until the restored tree serves") {
  options.on_restore = {"reseed"};
  StartRestored();
  CHECK(gateway.starts >= 1);
  Listen("127.0.0.1");
  CHECK(gateway.carriage() == Carriage::kNotYet);
  ExitLast(ExitStatus::Code(0));
  CHECK(gateway.carriage() == Carriage::kServing);
}

TEST_CASE_FIXTURE(KeptFront, "requests are met as while it starts until the dump is over") {
  ReachTheDump();
  CHECK(gateway.carriage() == Carriage::kNotYet);
  keeper.Left();
  snapshots.Ready();
  CHECK(gateway.carriage() == Carriage::kNotYet);
  snapshots.Resumed({});
  CHECK(gateway.carriage() == Carriage::kServing);
}

TEST_CASE_FIXTURE(KeptFront, "requests are met as while it starts when a restore gives way") {
  KillsWork();
  StartRestored();
  clock.Advance(5s);
  Turns();
  CHECK(phase() == Phase::kWaitingForPort);
  CHECK(gateway.carriage() == Carriage::kNotYet);
  Listen("127.0.0.1");
  CHECK(gateway.carriage() == Carriage::kServing);
}

TEST_CASE_FIXTURE(KeptFront, "a stop during the restore refuses requests") {
  Start();
  Signal(SIGTERM);
  CHECK(gateway.carriage() == Carriage::kDraining);
}

TEST_CASE_FIXTURE(KeptFront, "a drain that is asked for during the dump is in force after it") {
  ReachTheDump();
  supervisor->RequestDrain();
  CHECK(gateway.carriage() == Carriage::kDraining);
  keeper.Left();
  snapshots.Ready();
  snapshots.Resumed({});
  CHECK(phase() == Phase::kServing);
  CHECK(gateway.carriage() == Carriage::kDraining);
  CHECK_FALSE(published.ready);
}

TEST_CASE_FIXTURE(Kept, "a restored tree must answer on --health-path, too") {
  has_gateway = true;
  options.health_path = "/healthz";
  KillsWork();
  StartRestored();
  Listen();
  CHECK(phase() == Phase::kWaitingForPort);
  REQUIRE(gateway.probes.size() == 1);
  SUBCASE("it does") {
    gateway.AnswerLast(200);
    CHECK(phase() == Phase::kServing);
    CHECK(origin() == "restore");
  }
  SUBCASE("it does not: a cold start, which must in its turn") {
    gateway.AnswerLast(500);
    clock.Advance(50ms);
    REQUIRE(gateway.probes.size() == 2);
    clock.Advance(5s);
    Turns();
    CHECK(origin() == "cold");
    CHECK(Holds(snapshots.calls.back(), "GET /healthz answers 500"));
    gateway.AnswerLast(200);  // of the tree that is gone
    CHECK(phase() == Phase::kWaitingForPort);
    Listen();
    REQUIRE(gateway.probes.size() == 3);
    gateway.AnswerLast(200);
    CHECK(phase() == Phase::kServing);
  }
}

}  // namespace
}  // namespace modal::lifecycle

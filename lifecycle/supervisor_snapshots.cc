// The part of the supervisor that has to do with snapshots: from the start until it serves, be the
// tree restored or started cold.

#include <signal.h>

#include <algorithm>
#include <utility>

#include "agent/base/status_board.h"
#include "agent/base/strings.h"
#include "lifecycle/supervisor.h"
#include "snapshot/own_root.h"
#include "snapshot/verdict.h"

namespace modal::lifecycle {
namespace {

constexpr std::string_view kCold = "cold";
constexpr std::string_view kRestore = "restore";
// A restore comes first, and the first answer: what only tells how things stand does not compete
// with them for the CPU.
constexpr Milliseconds kGatewayDelayBesideRestore{250};
constexpr Milliseconds kGatewayDelayAfterRestore{20};
constexpr Milliseconds kVerdictDelay{20};
// Nothing of a failed restore is worth waiting for.
constexpr Milliseconds kNoPatience{0};
constexpr Milliseconds kPortPatience{2000};
constexpr Milliseconds kPortPause{2};
// For CRIU to finish or to give up, when it is asked to stop meanwhile; mostly some 100 suffice.
constexpr Milliseconds kDumpPatience{1000};

}  // namespace

bool Supervisor::IsRestored() const { return BoardText(status_.origin) == kRestore; }

process::Launcher& Supervisor::LauncherForHooks() {
  return parts_.keeper && !dump_broke_ ? parts_.keeper->for_hooks() : parts_.launcher;
}

// One that is started again is not dumped any more.
process::Launcher& Supervisor::LauncherForWorkload() {
  const bool is_first = status_.restarts == 0 && !dump_broke_;
  return parts_.keeper && is_first ? parts_.keeper->for_workload() : parts_.launcher;
}

void Supervisor::NoteSnapshot(const std::string& note) {
  SetBoardText(status_.snapshot_note, note);
  Publish();
}

// Restoring
// ----------------------------------------------------------------------------------------

void Supervisor::EnterRestoring() {
  // Who only attaches to a server has nothing that could be restored.
  attached_ = options_.command.empty() && HooksOf("enter", options_.on_enter).empty();
  SetBoardText(status_.origin, kCold);
  if (attached_ && !TakeBaseline()) return Fire(Trigger::kAgentFailed);
  if (attached_ && IsCreating()) return EndOfCreate("there is no COMMAND to start, and no hook");
  if (attached_) return Fire(Trigger::kRestoreFailed);
  // At the start of the agent nothing has come before its processes.
  restore_began_ = status_.timeline.spans().empty() ? started_ : parts_.clock.Now();
  status_.timeline.Enter(BootStep::kRestore, MicrosecondsOf(restore_began_));
  Publish();
  parts_.snapshots->WatchMemory(
      [this](const Result<PageHelper::AllIn>& all_in) { OnMemory(all_in); });
  parts_.snapshots->Begin();
  sessions_before_ = parts_.tree.Sessions();
  if (!TakeBaseline()) {
    parts_.snapshots->Cancel();
    return Fire(Trigger::kAgentFailed);
  }
  StartRestore();
  if (!parts_.gateway) return;
  // The first answer has to pass it.
  if (Carries()) return parts_.gateway->Start();
  StartGatewayAfter(kGatewayDelayBesideRestore);
}

void Supervisor::StartRestore() {
  parts_.snapshots->Restore(
      [this](const Result<Snapshots::Restored>& restored) { OnRestored(restored); });
}

void Supervisor::OnRestored(const Result<Snapshots::Restored>& restored) {
  if (status_.phase != Phase::kRestoring) return;
  TakeSteps();
  if (!restored && parts_.snapshots->WantsAnotherRestore()) {
    return ClearAway([this] { StartRestore(); });
  }
  SetBoardText(status_.snapshot_key, parts_.snapshots->key());
  if (!restored && parts_.snapshots->HasProven()) {
    is_created_ = true;
    StopBecause("modal-agent", restored.error().message() + "; nothing is to be made", 0);
    return Fire(Trigger::kTerminate);
  }
  if (!restored && tree_is_to_end_) {
    return EndOfCreate("its restore failed: " + restored.error().message());
  }
  if (!restored) {
    parts_.log.Info("snapshot.cold", {{"message", restored.error().message()}});
    NoteSnapshot("cold start: " + restored.error().message());
    return StartCold(Trigger::kRestoreFailed);
  }
  SetBoardText(status_.origin, kRestore);
  status_.restored_ms = SinceStart();
  SetBoardText(status_.snapshot_pages, restored->lazy ? "lazy" : "eager");
  cold_ = restored->cold;
  anything_ran_ = true;
  attached_ = false;
  workload_ =
      parts_.launcher.Adopt(restored->root, [this](ExitStatus status) { OnWorkloadExit(status); });
  restored_group_ = restored->workload;
  workload_session_ = restored_group_ ? restored_group_ : restored->root;
  parts_.tree.NoteSession(workload_session_);
  status_.workload_pid = restored->workload ? restored->workload : restored->root;
  parts_.log.Info("snapshot.restored", {{"pid", status_.workload_pid},
                                        {"root", restored->root},
                                        {"bytes", restored->bytes},
                                        {"pages", restored->lazy ? "lazy" : "eager"},
                                        {"cold_ms", restored->cold},
                                        {"ms", SinceStart()}});
  StartGatewayAfter(kGatewayDelayAfterRestore);
  StartStartupTimeout();
  Fire(Trigger::kRestored);
}

// What is not in never will be, and whoever touches it waits for ever: all of the tree ends at
// once. Even if it has served: the snapshot is no good, the container is.
void Supervisor::OnMemory(const Result<PageHelper::AllIn>& all_in) {
  if (all_in) {
    status_.pages_in_ms = SinceStart();
    return Publish();
  }
  verdict_.reset();
  const std::string why = "lazy pages: " + all_in.error().message();
  parts_.log.Error("snapshot.memory_lost", {{"message", all_in.error().message()}});
  const bool is_up = status_.phase == Phase::kWaitingForPort || status_.phase == Phase::kServing;
  if (is_up && IsRestored() && !restore_end_) {
    Retire(std::move(health_monitor_));
    SetBoardText(status_.listening, "");
    return RestoreCameToNothing(why);
  }
  parts_.snapshots->RestoreFailed(why, nullptr);
  if (status_.phase == Phase::kDraining) parts_.tree.SignalOutside({}, SIGKILL);
}

// The tree ran, but nobody was served: no reason not to serve now.
void Supervisor::RestoreCameToNothing(const std::string& why) {
  parts_.log.Warn("snapshot.useless", {{"message", why}});
  verdict_.reset();
  status_.timeline.Fail();
  Retire(std::move(port_wait_));
  Retire(std::move(unix_wait_));
  if (late_hooks_) late_hooks_->Cancel();
  Retire(std::move(late_hooks_));
  startup_probe_.reset();
  startup_timeout_.reset();
  ++port_waits_;
  if (tree_is_to_end_) {
    awaits_judgement_ = true;
    return parts_.snapshots->RestoreFailed(
        why, [this, why](const auto&) { EndOfCreate("what was restored did not serve: " + why); });
  }
  const char* what = status_.startup_done ? "went no further: " : "did not serve: ";
  NoteSnapshot(Concat("cold start: the restored server ", what, why));
  SetBoardText(status_.origin, kCold);
  SetBoardText(status_.snapshot_pages, "");
  useless_ = why;
  StartCold(Trigger::kRestoreFailed);
}

// Whatever a restore or a dump has left is cleared away first.
void Supervisor::StartCold(Trigger then) {
  ClearAway([this, then] { Fire(then); });
}

// Files too; nobody is to take its end for the server's.
void Supervisor::ClearAway(std::function<void()> then) {
  workload_.reset();
  workload_exit_.reset();
  workload_status_.reset();
  workload_session_ = 0;
  status_.workload_pid = 0;
  restore_end_ = std::make_unique<WorkloadEnd>(parts_.clock, parts_.tree, sessions_before_, SIGKILL,
                                               kNoPatience, [this, then] {
                                                 Retire(std::move(restore_end_));
                                                 parts_.snapshots->ReleaseMemory();
                                                 TakeBackFiles(then);
                                               });
}

void Supervisor::TakeBackFiles(std::function<void()> then) {
  const Clock::TimePoint limit = parts_.clock.Now() + kPortPatience;
  const std::string why = std::exchange(useless_, "");
  if (why.empty()) return AwaitFreePort(then, limit);
  parts_.snapshots->RestoreFailed(
      why, [this, then, limit](const Result<Snapshots::Judgement>& judged) {
        if (!judged) parts_.log.Warn("snapshot.failed", {{"message", judged.error().message()}});
        AwaitFreePort(then, limit);
      });
}

// Sockets outlive by a moment whoever held them: on their way from CRIU to the processes that it
// was about to restore, or with threads that are a little later. It was free before.
void Supervisor::AwaitFreePort(const std::function<void()>& then, Clock::TimePoint limit) {
  const Result<std::vector<health::ListeningSocket>> listeners = parts_.table.Listeners(0);
  const bool is_taken = !attached_ && listeners && FindTaken(*listeners);
  if (!is_taken || parts_.clock.Now() >= limit) return then();
  port_look_ = parts_.clock.After(kPortPause, [this, then, limit] { AwaitFreePort(then, limit); });
}

// Ready
// --------------------------------------------------------------------------------------------

// The port is open, and --health-path answers.
void Supervisor::OnReady() {
  startup_timeout_.reset();
  startup_probe_.reset();
  const bool dumps = parts_.snapshots && parts_.keeper && parts_.keeper->root() != 0 &&
                     !IsRestored() && status_.restarts == 0 && !dump_broke_ &&
                     parts_.snapshots->WantsDump();
  if (dumps) return Fire(Trigger::kDumpDue);
  RunLateHooks();
}

// It works, and nobody gains by it: no other container will ever find what is about to be made.
void Supervisor::WarnOfOwnRoot() {
  if (options_.snapshots.mode != SnapshotMode::kAuto) return;
  const std::string& folder = options_.snapshots.folder;
  const std::optional<snapshot::FolderPlace> place = snapshot::LookAtPlace(folder);
  if (!place || !snapshot::EndsWithContainer(*place)) return;
  parts_.log.Warn("snapshot.not_shared",
                  {{"message", Concat("no other container finds the snapshots in ", folder,
                                      ": it is part of this container; mount a volume there (-v "
                                      "VOLUME:",
                                      folder, ")")}});
}

void Supervisor::EnterCheckpointing() {
  EnterStep(BootStep::kDump);
  WarnOfOwnRoot();
  quiesce_began_ = parts_.clock.Now();
  Retire(std::move(port_wait_));
  Retire(std::move(unix_wait_));
  WarmUp(options_.snapshots.warmup);
}

// One request after the other; what they are answered is the server's own business.
void Supervisor::WarmUp(uint32_t left) {
  if (status_.phase != Phase::kCheckpointing) return;
  if (left == 0 || !parts_.gateway) {
    const bool has_warmed_up = options_.snapshots.warmup > 0 && parts_.gateway;
    if (has_warmed_up) AddStep(BootStep::kDumpWarmup, quiesce_began_);
    quiesce_began_ = parts_.clock.Now();
    return parts_.keeper->Leave([this](const Result<void>& result) { OnKeeperLeft(result); });
  }
  const std::string path = options_.health_path.empty() ? "/" : options_.health_path;
  parts_.gateway->Start();
  parts_.gateway->Probe(probe_address_, ServerPort(), path, options_.startup_timeout,
                        [this, alive = alive_, left](const ProbeResult&) {
                          if (*alive) WarmUp(left - 1);
                        });
}

// From here on the tree holds nothing that leads to us but its standard descriptors.
void Supervisor::OnKeeperLeft(const Result<void>& left) {
  if (status_.phase != Phase::kCheckpointing) return;
  if (!left) return OnDumped(left);
  Snapshots::Tree tree;
  tree.root = parts_.keeper->root();
  tree.ends = IsCreating();
  if (tree.root == 0) return;  // it has ended; what follows from that is on its way
  tree.workload = parts_.keeper->workload();
  tree.listening = BoardText(status_.listening);
  cold_ = Milliseconds(SinceStart() - status_.total_ms[static_cast<size_t>(Phase::kRestoring)]);
  tree.cold = cold_;
  tree.hooks = Milliseconds(status_.total_ms[static_cast<size_t>(Phase::kStartupHooks)]);
  Snapshots::DumpEvents events;
  events.on_ready = [this] {
    if (!dump_began_) AddStep(BootStep::kDumpQuiesce, quiesce_began_);
    dump_began_ = parts_.clock.Now();
    tree_is_to_end_ = IsCreating();
    criu_dumps_ = true;
    parts_.snapshots->Proceed();
  };
  events.on_published = [this](const Result<void>& published) { OnPublished(published); };
  events.on_resumed = [this](const Result<void>& dumped) { OnDumped(dumped); };
  events.on_broken = [this](const Error& error) { OnDumpBroken(error); };
  parts_.snapshots->Dump(tree, std::move(events));
}

void Supervisor::OnDumped(const Result<void>& dumped) {
  if (status_.phase != Phase::kCheckpointing) return;
  DumpEnded(dumped ? "" : dumped.error().message());
  if (stop_after_dump_) return Fire(Trigger::kTerminate);
  if (!dumped && IsCreating()) return EndOfCreate(dumped.error().message());
  // Created: the tree has ended, and comes back once the snapshot can be found.
  if (IsCreating()) return;
  // Whoever has ended meanwhile has done so by himself.
  if (exit_waits_) WorkloadExited();
  OnChildrenCollected();
  if (status_.phase == Phase::kCheckpointing) RunLateHooks();
}

void Supervisor::DumpEnded(const std::string& problem) {
  criu_dumps_ = false;
  TakeSteps();
  if (dump_began_) {
    status_.dump_ms =
        std::chrono::duration_cast<Milliseconds>(parts_.clock.Now() - *dump_began_).count();
  }
  if (problem.empty()) return;
  // Somebody else has been quicker: nothing is wrong, and nothing is missing.
  const bool is_declined = !dump_began_ && !parts_.snapshots->WantsDump();
  if (!dump_began_) AddStep(BootStep::kDumpQuiesce, quiesce_began_, !is_declined);
  if (is_declined) {
    parts_.log.Info("snapshot.declined", {{"message", problem}});
    return NoteSnapshot("not taken: " + problem);
  }
  status_.timeline.Fail();
  parts_.log.Warn("snapshot.failed", {{"message", problem}});
  NoteSnapshot("no snapshot: " + problem);
}

// Asked to stop. Whoever loses CRIU while it is inside of him may crash before he hears of the
// stop: first it gets out, in the time that a drain would have had. False: it is not inside.
bool Supervisor::LetDumpEnd() {
  const Milliseconds patience = std::min(kDumpPatience, plan_.drain_delay + plan_.drain_grace);
  if (status_.phase != Phase::kCheckpointing || !criu_dumps_) return false;
  stop_after_dump_ = parts_.clock.After(patience, [this] { Fire(Trigger::kTerminate); });
  return true;
}

// CRIU works from inside of what it dumps: whatever that holds now, it has served nobody yet, and
// does not.
void Supervisor::OnDumpBroken(const Error& error) {
  if (status_.phase != Phase::kCheckpointing) return;
  dump_broke_ = true;
  const char* then = stop_after_dump_ ? "ended" : "started again";
  DumpEnded(Concat(error.message(), ", in the middle of the dump: what it has left is ", then));
  if (stop_after_dump_) return Fire(Trigger::kTerminate);
  if (IsCreating()) return EndOfCreate(error.message());
  const bool hooks_too = options_.command.empty() || parts_.tree.AnythingLeftInside(hook_sessions_);
  SetBoardText(status_.listening, "");
  StartCold(hooks_too ? Trigger::kStartAgain : Trigger::kLaunchAgain);
}

void Supervisor::OnPublished(const Result<void>& published) {
  TakeSteps();
  if (!published) {
    parts_.log.Warn("snapshot.failed", {{"message", published.error().message()}});
    NoteSnapshot("no snapshot: " + published.error().message());
    if (IsCreating()) EndOfCreate(published.error().message());
    return;
  }
  NoteSnapshot("taken in this container");
  if (status_.phase == Phase::kCheckpointing && IsCreating()) Fire(Trigger::kTrialDue);
}

// What serves now: a restored tree's time decides what its snapshot is worth.
void Supervisor::NoteServed() {
  if (!IsRestored()) {
    if (IsCreating()) {
      EndOfCreate("there is no snapshot: " + std::string(BoardText(status_.snapshot_note)));
    }
    return;
  }
  // Without a trial all of the agent's start belongs to it.
  const Milliseconds ready =
      tree_is_to_end_
          ? std::chrono::duration_cast<Milliseconds>(parts_.clock.Now() - restore_began_)
          : Milliseconds(SinceStart());
  if (!IsCreating()) {
    verdict_ = parts_.clock.After(
        kVerdictDelay, [this, ready] { parts_.snapshots->RestoreServed(ready, nullptr); });
    return;
  }
  awaits_judgement_ = true;
  parts_.snapshots->RestoreServed(
      ready, [this, ready](const Result<Snapshots::Judgement>& judged) { OnTried(ready, judged); });
}

// --snapshot create: what the trial has shown stands in the folder, where others find it.
void Supervisor::OnTried(Milliseconds ready, const Result<Snapshots::Judgement>& judged) {
  awaits_judgement_ = false;
  if (!judged) {
    return EndOfCreate("what its trial has shown cannot be noted: " + judged.error().message());
  }
  if (judged->standing != snapshot::StandingName(snapshot::Standing::kProven)) {
    return EndOfCreate(Concat("its restore takes ", ready.count(), " ms, a cold start ",
                              cold_.count(), " ms: not worth it"));
  }
  is_created_ = true;
  StopBecause("modal-agent",
              Concat("the snapshot ", parts_.snapshots->key(), " is made and tried: restored in ",
                     ready.count(), " ms, a cold start takes ", cold_.count(), " ms"),
              0);
  Fire(Trigger::kTerminate);
}

// --snapshot create: the container ends without a snapshot that is worth restoring.
void Supervisor::EndOfCreate(const std::string& problem) {
  awaits_judgement_ = false;
  parts_.log.Error("snapshot.create_failed", {{"message", problem}});
  StopBecause("modal-agent", "no snapshot to be used: " + problem, kExitSnapshotFailed);
  Fire(Trigger::kTerminate);
}

void Supervisor::RunLateHooks() {
  std::vector<Hook> hooks = HooksOf("restore", options_.on_restore);
  if (hooks.empty()) return Fire(Trigger::kPortOpen);
  EnterStep(BootStep::kLateHooks);
  late_hooks_ = std::make_unique<HookRunner>(
      parts_.loop, parts_.clock, parts_.launcher, parts_.log, std::move(hooks),
      HookRunner::Options{options_.hook_timeout, true, BaseSpec()},
      [this](const HookRunner::Outcome& outcome) { OnLateHooksDone(outcome); });
  late_hooks_->Run();
}

void Supervisor::OnLateHooksDone(const HookRunner::Outcome& outcome) {
  status_.hooks_run += outcome.run;
  status_.hooks_failed += outcome.failed;
  NoteSessions(late_hooks_->sessions());
  if (outcome.failed == 0) return Fire(Trigger::kPortOpen);
  StopBecause("a hook after the start", outcome.first_failure, kExitHookFailed);
  Fire(Trigger::kHookFailed);
}

}  // namespace modal::lifecycle

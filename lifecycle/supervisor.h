// Carries a container from its start to its stop: decides by the phase table what comes next, and
// has the parts do it (hooks, workload, port wait, health checks, drain, shutdown).
//
// With --listen the gateway is told at each step how to meet requests (health::Carriage).
//
// Lives on the loop. Start() is called once; OnSignal() and OnChildrenCollected() bring what the
// kernel says. `on_finished` runs once, from the loop, with the exit code: nothing is left then but
// the gateway, which is told to end. All parts outlive the supervisor.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/event/loop.h"
#include "agent/event/signals.h"
#include "agent/process/launcher.h"
#include "healthcheck/port_wait.h"
#include "healthcheck/socket_table.h"
#include "healthcheck/status.h"
#include "healthcheck/unix_wait.h"
#include "lifecycle/backoff.h"
#include "lifecycle/drain.h"
#include "lifecycle/gateway.h"
#include "lifecycle/gateway_drain.h"
#include "lifecycle/health_monitor.h"
#include "lifecycle/hook_runner.h"
#include "lifecycle/keeper_launcher.h"
#include "lifecycle/options.h"
#include "lifecycle/phase_table.h"
#include "lifecycle/process_tree.h"
#include "lifecycle/reload.h"
#include "lifecycle/seat.h"
#include "lifecycle/shutdown.h"
#include "lifecycle/snapshotter.h"
#include "lifecycle/stop_plan.h"
#include "lifecycle/workload_end.h"

namespace modal::lifecycle {

class Supervisor {
 public:
  struct Parts {
    event::Loop& loop;
    Clock& clock;
    Log& log;
    process::Launcher& launcher;
    ProcessTree& tree;
    health::SocketTable& table;
    health::SocketOwners& owners;
    Gateway* gateway;  // null: there is none
    // Puts the status where others can read it.
    std::function<void(const health::AgentStatus&)> publish;
    // How the orphan that was reaped last had ended: all that is known about a daemon.
    std::function<ExitStatus()> last_orphan;
    // Fills in the counters that others keep.
    std::function<void(health::AgentStatus&)> count;
    // The settings, read again; only what may change while we run is taken over.
    // Also puts into `changed` the names of what it has changed elsewhere.
    std::function<Result<Options>(std::vector<std::string>& changed)> reload;
    std::set<uint64_t> own_listeners = {};  // inodes of the sockets on which we listen ourselves
    // With snapshots; both or none.
    Snapshots* snapshots = nullptr;
    TreeKeeper* keeper = nullptr;
    std::string no_snapshots = {};  // why there are none, though they were asked for
    // When the agent was started, from which all times are counted; nothing: now.
    std::optional<Clock::TimePoint> started = {};
  };

  // `seat`: where we sit at this moment. With a terminal the workload stays in our session, and
  // has the foreground if we would have it.
  Supervisor(Options options, Parts parts, std::function<Seat()> seat,
             std::function<void(int)> on_finished);
  ~Supervisor();

  void Start();
  void OnSignal(const event::SignalEvent& signal);
  void OnChildrenCollected();

  // `modal-agent drain`: not ready from now on, but up until somebody stops us.
  void RequestDrain();
  Result<ReloadOutcome> Reload();
  const health::AgentStatus& status();
  Phase phase() const { return status_.phase; }
  // The workload's process group, or 0: for job control on a terminal.
  pid_t workload_group() const { return workload_ ? workload_->pid() : 0; }

 private:
  // Phases.
  void Fire(Trigger trigger);
  void SetPhase(Phase phase);
  void EnterStep(BootStep step);
  void AddStep(BootStep step, Clock::TimePoint began, bool failed = false);
  void TakeSteps();
  void Enter(Phase phase, Phase from);
  void EnterRestoring();
  void StartRestore();
  void EnterStartupHooks();
  void EnterLaunching();
  void EnterWaitingForPort();
  void EnterCheckpointing();
  void WarnOfOwnRoot();
  void EnterServing();
  void EnterDraining();
  void EnterStopping(Phase from);
  void EnterStopped();

  // The start.
  bool TakeBaseline();
  std::optional<std::string> FindTaken(const std::vector<health::ListeningSocket>& listeners);
  void StartStartupTimeout();
  void StartGatewaySoon();
  void StartGatewayAfter(Milliseconds delay);
  void NoteSessions(const std::vector<pid_t>& sessions);
  void OnHooksDone(const HookRunner::Outcome& outcome);
  void LaunchWorkload();
  void OnStartupTimeout();
  void WaitForPort();
  void WaitForUnixSocket();
  void OnPortOpen(const health::PortVerdict& verdict);
  void OnUnixSocketOpen();
  void OnServerFound(const std::string& address);
  void ProbeUntilHealthy();
  void OnStartupProbe(const ProbeResult& result);
  void SetNote(LogLevel level, const std::string& note);

  // Snapshots (supervisor_snapshots.cc).
  void OnRestored(const Result<Snapshots::Restored>& restored);
  void OnMemory(const Result<PageHelper::AllIn>& all_in);
  void RestoreCameToNothing(const std::string& why);
  void StartCold(Trigger then);
  void ClearAway(std::function<void()> then);
  void TakeBackFiles(std::function<void()> then);
  void AwaitFreePort(const std::function<void()>& then, Clock::TimePoint limit);
  void OnReady();
  void OnKeeperLeft(const Result<void>& left);
  void WarmUp(uint32_t left);
  void OnDumped(const Result<void>& dumped);
  void OnDumpBroken(const Error& error);
  void DumpEnded(const std::string& problem);
  bool LetDumpEnd();
  void OnPublished(const Result<void>& published);
  bool IsCreating() const { return options_.snapshots.creates(); }
  // Who ends now may be ended by CRIU: what has come of the dump is known soon.
  bool IsBeingDumped() const {
    return status_.phase == Phase::kCheckpointing && (tree_is_to_end_ || criu_dumps_);
  }
  void NoteServed();
  void OnTried(Milliseconds ready, const Result<Snapshots::Judgement>& judged);
  void EndOfCreate(const std::string& problem);
  void RunLateHooks();
  void OnLateHooksDone(const HookRunner::Outcome& outcome);
  void NoteSnapshot(const std::string& note);
  bool IsRestored() const;
  process::Launcher& LauncherForHooks();
  process::Launcher& LauncherForWorkload();

  // The data plane.
  bool Carries() const { return parts_.gateway && options_.listen; }
  // The port at which the server is; 0: at none of this host's.
  uint16_t ServerPort() const;
  std::optional<std::string> CheckListens();
  void SetCarriage(health::Carriage carriage);
  void CarryAsIn(Phase phase);
  void RefuseRequests();
  void FollowServer();
  void DescribeDataPlane();
  Result<void> ReconfigureGateway(const Options& options);
  void OnEverybodyGone();
  void StopGateway();

  // The workload.
  void OnWorkloadExit(ExitStatus status);
  void WorkloadExited();
  bool HasDaemonised();
  bool IsToRestart(ExitStatus status) const;
  void RestartWorkload();
  void LaunchAgain();
  void OnUnhealthy(const std::string& why);
  void StartHealthMonitor();
  void Forward(int signal);
  bool ForwardToWorkload(int signal);

  // The stop.
  void Terminate(const event::SignalEvent& signal);
  void PlanTheStop();
  void StopBecause(const std::string& by, const std::string& reason, int exit_code);
  void AnnounceStop();
  int FinalExitCode() const;

  // Destroys a part on the next turn of the loop: it may be what has called us.
  template <class Part>
  void Retire(std::unique_ptr<Part> part) {
    if (!part) return;
    retired_.emplace_back(std::move(part));
    retire_ = parts_.clock.After(Milliseconds(0), [this] { retired_.clear(); });
  }
  // The executables of a folder of the hooks folder, then these command lines.
  std::vector<Hook> HooksOf(const std::string& folder, const std::vector<std::string>& lines);
  process::LaunchSpec BaseSpec() const;
  int64_t SinceStart() const;
  int64_t MicrosecondsOf(Clock::TimePoint time) const;
  void Publish();

  Options options_;
  Parts parts_;
  std::function<Seat()> seat_;
  std::function<void(int)> on_finished_;
  health::AgentStatus status_ = health::NewAgentStatus();
  Clock::TimePoint started_;

  bool attached_ = false;      // no COMMAND and no hooks: whatever listens is the server
  bool anything_ran_ = false;  // hooks or workload: then exit handlers have something to clean up
  bool daemonised_ = false;    // the workload's first process has returned and left others
  bool stop_announced_ = false;
  int terminations_ = 0;       // SIGTERM and SIGINT so far
  int first_termination_ = 0;  // which of them came first
  int exit_code_ = -1;         // decided by what ended us; -1: the workload's own
  std::optional<ExitStatus> workload_status_;
  pid_t workload_session_ = 0;  // stays after its leader has gone
  pid_t restored_group_ = 0;    // the server's own, in a restored tree; 0: a hook has started it
  std::vector<pid_t> hook_sessions_;  // or groups, below a keeper
  std::string probe_address_ = "127.0.0.1";
  health::Carriage carriage_ = health::Carriage::kNotYet;
  bool refuses_ = false;  // `modal-agent drain`, and its delay is over
  bool gateway_stopped_ = false;
  bool drained_ = false;     // nothing was in flight when the workload was told to stop
  uint32_t port_waits_ = 0;  // answers to probes of an earlier wait are not about this workload
  StopPlan plan_{};
  std::set<uint64_t> before_;       // listeners that stood before we started anything
  health::AnySocketOwner anybody_;  // attached: whoever listens is the server
  Backoff backoff_{Milliseconds(500), Milliseconds(30000)};
  Clock::TimePoint serving_since_{};

  std::unique_ptr<HookRunner> enter_hooks_;
  std::unique_ptr<HookRunner> late_hooks_;
  std::vector<pid_t> sessions_before_;        // of those who ran here before the restore
  std::unique_ptr<WorkloadEnd> restore_end_;  // clears away what a failed restore has left
  std::optional<Clock::TimePoint> dump_began_;
  Clock::TimePoint quiesce_began_{};
  Clock::TimePoint restore_began_{};
  std::string useless_;  // why nothing came of what was restored; it is being ended
  bool criu_dumps_ = false;
  bool exit_waits_ = false;        // the workload has ended, and the dump has not
  bool dump_broke_ = false;        // in the middle, and there will be no other
  bool tree_is_to_end_ = false;    // with its dump
  Milliseconds cold_{};            // what the start that was dumped had taken
  bool awaits_judgement_ = false;  // --snapshot create: the trial is over, whoever ends now
  bool is_created_ = false;        // --snapshot create: there is a snapshot that is worth it
  std::unique_ptr<process::Process> workload_;
  std::unique_ptr<WorkloadEnd> workload_end_;
  std::unique_ptr<health::PortWait> port_wait_;
  std::unique_ptr<health::UnixWait> unix_wait_;
  std::unique_ptr<HealthMonitor> health_monitor_;
  std::unique_ptr<Drain> drain_;
  std::unique_ptr<GatewayDrain> gateway_drain_;
  std::unique_ptr<HookRunner> exit_hooks_;
  std::unique_ptr<Shutdown> shutdown_;

  std::unique_ptr<Timer> gateway_start_;
  std::unique_ptr<Timer> startup_timeout_;
  std::unique_ptr<Timer> startup_probe_;
  std::unique_ptr<Timer> port_look_;
  std::unique_ptr<Timer> verdict_;          // that it has served is noted then
  std::unique_ptr<Timer> stop_after_dump_;  // asked to stop; at its limit at the latest
  std::unique_ptr<Timer> restart_;
  std::unique_ptr<Timer> workload_exit_;
  std::unique_ptr<Timer> refuse_;
  std::unique_ptr<Timer> last_words_;
  std::unique_ptr<Timer> retire_;
  std::vector<std::shared_ptr<void>> retired_;
  std::shared_ptr<bool> alive_;
};

}  // namespace modal::lifecycle

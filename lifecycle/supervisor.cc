#include "lifecycle/supervisor.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <tuple>

#include "agent/base/status_board.h"
#include "agent/base/strings.h"

namespace modal::lifecycle {
namespace {

// The workload's exec comes first: nothing that can wait competes with it for the CPU.
constexpr Milliseconds kGatewayDelay{2};
constexpr Milliseconds kStartupProbePause{50};
// For the gateway to end what is in flight, after the grace.
constexpr Milliseconds kCut{500};
// A workload that has served this long has recovered: its next restart comes quickly again.
constexpr Milliseconds kRecovered{30000};

int64_t UnixMilliseconds() {
  return std::chrono::duration_cast<Milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// Where a health check reaches a listener from inside: on loopback, unless it is bound elsewhere.
std::string ProbeAddress(const SocketAddress& local, bool v6_only) {
  if (local.is_any()) return v6_only ? "::1" : "127.0.0.1";
  return local.host();
}

// Signals that are about this process itself, whoever they come from.
bool IsOurOwn(int signal) {
  return signal == SIGCHLD || signal == SIGPIPE || signal == SIGXFSZ || signal == SIGXCPU;
}

process::SessionMode SessionFor(Seat seat) {
  switch (seat) {
    case Seat::kNone:
      return process::SessionMode::kNewSession;
    case Seat::kBackground:
      return process::SessionMode::kNewGroup;
    case Seat::kForeground:
      return process::SessionMode::kForegroundGroup;
  }
  return process::SessionMode::kNewSession;
}

std::string SenderOf(const event::SignalEvent& signal) {
  if (signal.from_kernel) return SignalName(signal.number) + " from the terminal";
  if (signal.sender_pid == 0) return SignalName(signal.number) + " from outside";
  return Concat(SignalName(signal.number), " from pid ", signal.sender_pid, " (uid ",
                signal.sender_uid, ")");
}

}  // namespace

Supervisor::Supervisor(Options options, Parts parts, std::function<Seat()> seat,
                       std::function<void(int)> on_finished)
    : options_(std::move(options)),
      parts_(std::move(parts)),
      seat_(std::move(seat)),
      on_finished_(std::move(on_finished)),
      started_(parts_.started.value_or(parts_.clock.Now())),
      alive_(std::make_shared<bool>(true)) {
  SetBoardText(status_.version, MODAL_VERSION);
  SetBoardText(status_.command, ShellJoin(options_.command));
  status_.agent_pid = ::getpid();
  status_.started_unix_ms = UnixMilliseconds();
  status_.port = ServerPort();
  status_.failure_threshold = options_.health_threshold;
  if (options_.snapshots.on()) {
    SetBoardText(status_.origin, "cold");
    SetBoardText(status_.snapshot_note, parts_.no_snapshots);
  }
  DescribeDataPlane();
}

Supervisor::~Supervisor() { *alive_ = false; }

// Phases ------------------------------------------------------------------------------------------

void Supervisor::Start() {
  PlanTheStop();
  const Phase first = parts_.snapshots ? Phase::kRestoring : Phase::kStartupHooks;
  SetPhase(first);
  Enter(first, first);
}

void Supervisor::Fire(Trigger trigger) {
  const Phase from = status_.phase;
  const std::optional<Phase> next = Next(from, trigger);
  if (!next) {
    return parts_.log.Debug("lifecycle.ignored", {{"phase", health::PhaseName(from)},
                                                  {"trigger", TriggerName(trigger)}});
  }
  SetPhase(*next);
  parts_.log.Info("lifecycle.phase", {{"from", health::PhaseName(from)},
                                      {"to", health::PhaseName(*next)},
                                      {"trigger", TriggerName(trigger)},
                                      {"ms", SinceStart()}});
  Enter(*next, from);
}

// Before the log says so: whoever reads there that we are Serving finds us ready.
void Supervisor::SetPhase(Phase phase) {
  health::EnterPhase(status_, phase, SinceStart());
  const bool ends = phase == Phase::kDraining || phase == Phase::kStopping;
  if (ends) status_.timeline.End(MicrosecondsOf(parts_.clock.Now()));
  status_.ready = phase == Phase::kServing && !status_.drain_requested;
  if (phase == Phase::kServing) {
    status_.startup_done = true;
    status_.live = true;
    SetBoardText(status_.waiting_note, "");
    if (status_.ready_ms < 0) status_.ready_ms = SinceStart();
  }
  Publish();
  CarryAsIn(phase);
}

// Steps of the boot: what is shown as the timeline.
void Supervisor::EnterStep(BootStep step) {
  status_.timeline.Enter(step, MicrosecondsOf(parts_.clock.Now()));
  Publish();
}

// A part that ends now.
void Supervisor::AddStep(BootStep step, Clock::TimePoint began, bool failed) {
  const int64_t now = MicrosecondsOf(parts_.clock.Now());
  status_.timeline.Add({step, failed ? 1U : 0U, MicrosecondsOf(began), now}, now);
}

// What the worker has told of.
void Supervisor::TakeSteps() {
  const int64_t zero = -MicrosecondsOf(Clock::TimePoint());
  const int64_t now = MicrosecondsOf(parts_.clock.Now());
  for (BootSpan step : parts_.snapshots->TakeSteps()) {
    step.begin_us = std::clamp(step.begin_us, zero, zero + now) - zero;
    step.end_us = std::clamp(step.end_us, zero, zero + now) - zero;
    status_.timeline.Add(step, now);
  }
}

void Supervisor::Enter(Phase phase, Phase from) {
  switch (phase) {
    case Phase::kStartupHooks:
      return EnterStartupHooks();
    case Phase::kLaunching:
      return EnterLaunching();
    case Phase::kWaitingForPort:
      return EnterWaitingForPort();
    case Phase::kServing:
      return EnterServing();
    case Phase::kDraining:
      return EnterDraining();
    case Phase::kStopping:
      return EnterStopping(from);
    case Phase::kStopped:
      return EnterStopped();
    case Phase::kRestoring:
      return EnterRestoring();
    case Phase::kCheckpointing:
      return EnterCheckpointing();
  }
}

// The start ---------------------------------------------------------------------------------------

void Supervisor::EnterStartupHooks() {
  std::vector<Hook> hooks = HooksOf("enter", options_.on_enter);
  attached_ = options_.command.empty() && hooks.empty();
  if (!TakeBaseline()) return Fire(Trigger::kAgentFailed);
  if (hooks.empty()) return Fire(Trigger::kHooksDone);

  EnterStep(BootStep::kHooks);
  anything_ran_ = true;
  if (parts_.gateway) parts_.gateway->Start();
  enter_hooks_ = std::make_unique<HookRunner>(
      parts_.loop, parts_.clock, LauncherForHooks(), parts_.log, std::move(hooks),
      HookRunner::Options{options_.hook_timeout, true, BaseSpec()},
      [this](const HookRunner::Outcome& outcome) { OnHooksDone(outcome); });
  enter_hooks_->Run();
}

bool Supervisor::TakeBaseline() {
  // Our own are never the workload's.
  before_ = parts_.own_listeners;
  if (attached_) return true;
  Result<std::vector<health::ListeningSocket>> listeners = parts_.table.Listeners(0);
  if (!listeners) {
    StopBecause("modal-agent", "cannot look for listening sockets: " + listeners.error().message(),
                kExitAgentError);
    return false;
  }
  const std::optional<std::string> taken = FindTaken(*listeners);
  for (const health::ListeningSocket& socket : *listeners) before_.insert(socket.inode);
  if (!taken) return true;
  StopBecause("modal-agent", *taken, kExitAgentError);
  return false;
}

// Somebody who is where the server is to be.
std::optional<std::string> Supervisor::FindTaken(
    const std::vector<health::ListeningSocket>& listeners) {
  const Upstream& upstream = options_.upstream;
  if (Carries() && upstream.kind == Upstream::Kind::kElsewhere) return std::nullopt;
  if (Carries() && upstream.kind == Upstream::Kind::kUnixSocket) {
    if (health::CheckUnixListens(upstream.path)) return std::nullopt;
    return Concat(upstream.ToString(), " is already taken: something listens there since before ",
                  "the start; end it, or choose another path with --upstream");
  }
  const uint16_t port = ServerPort();
  for (const health::ListeningSocket& socket : listeners) {
    if (port == 0 || socket.local.port() != port) continue;
    // Our own --listen may have the same port of another address.
    if (Carries() && parts_.own_listeners.count(socket.inode) != 0) continue;
    const bool by_upstream = Carries() && !upstream.is_default;
    return Concat("port ", port, " is already taken: something listens on ",
                  socket.local.ToString(),
                  " since before the start; end it, or choose another port with ",
                  by_upstream ? "--upstream" : "--port");
  }
  return std::nullopt;
}

void Supervisor::OnHooksDone(const HookRunner::Outcome& outcome) {
  status_.hooks_run += outcome.run;
  status_.hooks_failed += outcome.failed;
  NoteSessions(enter_hooks_->sessions());
  if (outcome.failed == 0) return Fire(Trigger::kHooksDone);
  StopBecause("a startup hook", outcome.first_failure, kExitHookFailed);
  Fire(Trigger::kHookFailed);
}

void Supervisor::NoteSessions(const std::vector<pid_t>& sessions) {
  for (const pid_t session : sessions) {
    const auto end = hook_sessions_.end();
    if (std::find(hook_sessions_.begin(), end, session) == end) hook_sessions_.push_back(session);
    parts_.tree.NoteSession(session);
  }
}

void Supervisor::EnterLaunching() {
  EnterStep(BootStep::kExec);
  if (status_.restarts > 0) return RestartWorkload();
  if (!options_.command.empty()) return LaunchWorkload();
  StartStartupTimeout();
  StartGatewaySoon();
  // What the hooks have left is the server, and when it ends so does its keeper.
  if (parts_.keeper && parts_.keeper->HoldsAnybody()) parts_.keeper->Leave(nullptr);
  Fire(Trigger::kLaunched);
}

void Supervisor::StartStartupTimeout() {
  // Runs on through restarts until the workload has served once.
  if (startup_timeout_) return;
  startup_timeout_ = parts_.clock.After(options_.startup_timeout, [this] { OnStartupTimeout(); });
}

void Supervisor::LaunchWorkload() {
  StartStartupTimeout();
  process::LaunchSpec spec = BaseSpec();
  spec.argv = options_.command;
  spec.session = SessionFor(seat_());
  Result<std::unique_ptr<process::Process>> process =
      LauncherForWorkload().Launch(spec, [this](ExitStatus status) { OnWorkloadExit(status); });
  if (!process) {
    const int code = process.error().exit_code();
    std::string why = "cannot start COMMAND: " + process.error().message();
    if (code == kExitNotFound && !options_.not_found_hint.empty()) {
      why += "; " + options_.not_found_hint;
    }
    StopBecause("modal-agent", why, code ? code : kExitAgentError);
    return Fire(Trigger::kLaunchFailed);
  }
  anything_ran_ = true;
  daemonised_ = false;
  workload_ = *std::move(process);
  workload_session_ = workload_->pid();
  parts_.tree.NoteSession(workload_session_);
  workload_status_.reset();
  status_.workload_pid = workload_->pid();
  parts_.log.Info("workload.start",
                  {{"pid", workload_->pid()}, {"command", ShellJoin(options_.command)}});
  StartGatewaySoon();
  Fire(Trigger::kLaunched);
}

void Supervisor::StartGatewaySoon() { StartGatewayAfter(kGatewayDelay); }

void Supervisor::StartGatewayAfter(Milliseconds delay) {
  if (!parts_.gateway) return;
  gateway_start_ = parts_.clock.After(delay, [this] { parts_.gateway->Start(); });
}

void Supervisor::EnterWaitingForPort() {
  EnterStep(BootStep::kPort);
  ++port_waits_;
  if (!Carries()) return WaitForPort();
  switch (options_.upstream.kind) {
    case Upstream::Kind::kPort:
      return WaitForPort();
    case Upstream::Kind::kUnixSocket:
      return WaitForUnixSocket();
    case Upstream::Kind::kElsewhere:
      // Nobody in here can see whether it listens.
      probe_address_ =
          options_.upstream.name.empty() ? options_.upstream.address : options_.upstream.name;
      return OnServerFound(options_.upstream.ToString());
  }
}

void Supervisor::WaitForPort() {
  health::PortWait::Options options{ServerPort(), Carries(), before_};
  health::SocketOwners& owners = attached_ ? anybody_ : parts_.owners;
  port_wait_ = std::make_unique<health::PortWait>(
      parts_.clock, parts_.table, owners, std::move(options),
      [this](const health::PortVerdict& verdict) { OnPortOpen(verdict); },
      [this](health::PortWait::Gravity gravity, const std::string& note) {
        SetNote(gravity == health::PortWait::Gravity::kWrong ? LogLevel::kWarn : LogLevel::kInfo,
                note);
      });
  port_wait_->Start();
}

void Supervisor::WaitForUnixSocket() {
  unix_wait_ = std::make_unique<health::UnixWait>(
      parts_.clock, options_.upstream.path, [this] { OnUnixSocketOpen(); },
      [this](const std::string& note) { SetNote(LogLevel::kInfo, note); });
  unix_wait_->Start();
}

void Supervisor::OnPortOpen(const health::PortVerdict& verdict) {
  probe_address_ = ProbeAddress(verdict.socket.local, verdict.v6_only);
  FollowServer();
  OnServerFound(verdict.socket.local.ToString());
}

void Supervisor::OnUnixSocketOpen() {
  const std::string where = options_.upstream.ToString();
  // What we may as root, the gateway may not.
  if (::geteuid() == 0 && !NobodyMayConnect(options_.upstream.path)) {
    parts_.log.Warn(
        "upstream.permission",
        {{"message", Concat("the gateway, which runs as user nobody, may not connect to ", where,
                            "; let the server give it mode 0666")}});
  }
  OnServerFound(where);
}

void Supervisor::OnServerFound(const std::string& address) {
  SetBoardText(status_.listening, address);
  parts_.log.Info("port.open", {{"address", address}, {"ms", SinceStart()}});
  if (options_.health_path.empty()) return OnReady();
  if (parts_.gateway) parts_.gateway->Start();
  ProbeUntilHealthy();
}

void Supervisor::ProbeUntilHealthy() {
  parts_.gateway->Probe(probe_address_, ServerPort(), options_.health_path, options_.health_timeout,
                        [this, alive = alive_, wait = port_waits_](const ProbeResult& result) {
                          if (*alive && wait == port_waits_) OnStartupProbe(result);
                        });
}

void Supervisor::OnStartupProbe(const ProbeResult& result) {
  if (status_.phase != Phase::kWaitingForPort) return;
  if (result.ok()) return OnReady();
  SetNote(LogLevel::kInfo, result.status ? Concat("the port is open, but GET ",
                                                  options_.health_path, " answers ", result.status)
                                         : Concat("the port is open, but GET ",
                                                  options_.health_path, ": ", result.error));
  startup_probe_ = parts_.clock.After(kStartupProbePause, [this] { ProbeUntilHealthy(); });
}

void Supervisor::SetNote(LogLevel level, const std::string& note) {
  if (BoardText(status_.waiting_note) ==
      std::string_view(note).substr(0, sizeof status_.waiting_note - 1)) {
    return;
  }
  SetBoardText(status_.waiting_note, note);
  if (!note.empty()) parts_.log.Write(level, "port.note", {{"message", note}});
  Publish();
}

void Supervisor::OnStartupTimeout() {
  std::string why = Concat("not ready within ", options_.startup_timeout.count(), " ms");
  if (port_wait_) port_wait_->LookNow();
  if (unix_wait_) unix_wait_->LookNow();
  if (!startup_timeout_) return;  // it opened this very moment
  const std::string_view note = BoardText(status_.waiting_note);
  why += note.empty() ? Concat(": nothing listens on port ", ServerPort()) : Concat(": ", note);
  if (attached_) why += "; there is no COMMAND to start";
  if (seat_() == Seat::kForeground) {
    // Somebody sits there and sees it; a shell never listens on any port.
    return parts_.log.Warn("startup.slow", {{"message", why}});
  }
  if (IsRestored() && !status_.startup_done) return RestoreCameToNothing(why);
  parts_.log.Error("startup.timeout", {{"message", why}});
  StopBecause("modal-agent", why, kExitStartupTimeout);
  Fire(Trigger::kStartupTimeout);
}

// Serving -----------------------------------------------------------------------------------------

void Supervisor::EnterServing() {
  startup_timeout_.reset();
  startup_probe_.reset();
  EnterStep(BootStep::kServing);
  serving_since_ = parts_.clock.Now();
  parts_.log.Info("lifecycle.ready",
                  {{"address", BoardText(status_.listening)}, {"ms", SinceStart()}});
  Retire(std::move(port_wait_));
  Retire(std::move(unix_wait_));
  StartHealthMonitor();
  if (parts_.snapshots && status_.restarts == 0) NoteServed();
}

void Supervisor::StartHealthMonitor() {
  Retire(std::move(health_monitor_));
  HealthMonitor::Options options{ServerPort(),
                                 probe_address_,
                                 options_.health_path,
                                 options_.health_interval,
                                 options_.health_timeout,
                                 options_.health_threshold,
                                 before_,
                                 Carries()};
  if (Carries() && options_.upstream.kind != Upstream::Kind::kPort) {
    options.instead_of_port = [this] { return CheckListens(); };
  }
  health_monitor_ = std::make_unique<HealthMonitor>(
      parts_.clock, parts_.log, parts_.table, parts_.gateway, std::move(options),
      [this, checks = status_.checks,
       failures = status_.check_failures](const HealthMonitor::Report& report) {
        status_.checks = checks + report.checks;
        status_.check_failures = failures + report.failures;
        status_.consecutive_failures = report.consecutive;
        status_.last_check_ms = SinceStart();
        SetBoardText(status_.last_failure, report.last_failure);
        Publish();
      },
      [this](const std::string& why) { OnUnhealthy(why); });
  health_monitor_->Start();
}

void Supervisor::OnUnhealthy(const std::string& why) {
  status_.live = false;
  parts_.log.Error("health.unhealthy", {{"message", why}});
  if (options_.restart == Restart::kOnFailure && !options_.command.empty()) {
    ++status_.restarts;
    return Fire(Trigger::kRestart);
  }
  StopBecause("health checks", Concat(options_.health_threshold, " checks in a row failed: ", why),
              kExitUnhealthy);
  Fire(Trigger::kUnhealthy);
}

void Supervisor::RequestDrain() {
  if (status_.drain_requested) return;
  parts_.log.Info("lifecycle.drain_requested", {});
  status_.drain_requested = true;
  status_.ready = false;
  Publish();
  if (!Carries()) return;
  if (options_.drain_delay.count() == 0) return RefuseRequests();
  refuse_ = parts_.clock.After(options_.drain_delay, [this] { RefuseRequests(); });
}

Result<ReloadOutcome> Supervisor::Reload() {
  std::vector<std::string> changed;
  Result<Options> fresh = parts_.reload(changed);
  if (!fresh) {
    parts_.log.Error("config.reload_failed",
                     {{"message", fresh.error().message() + "; the old settings stay in force"}});
    return std::move(fresh.error());
  }
  const auto checks = [](const Options& options) {
    return std::tie(options.health_path, options.health_interval, options.health_timeout,
                    options.health_threshold);
  };
  const Options old = options_;
  // Whoever asks the server for the path is started with the agent, or not at all.
  const bool path_waits = !parts_.gateway && !fresh->health_path.empty();
  if (path_waits) fresh->health_path.clear();
  Options running = options_;
  ReloadOutcome outcome = TakeOver(*fresh, running);
  if (Result<void> told = ReconfigureGateway(running); !told) {
    parts_.log.Error("config.reload_failed",
                     {{"message", told.error().message() + "; the old settings stay in force"}});
    return std::move(told.error());
  }
  options_ = std::move(running);
  DescribeDataPlane();
  if (path_waits) outcome.waiting.emplace_back("health-path");
  outcome.changed.insert(outcome.changed.end(), changed.begin(), changed.end());
  status_.failure_threshold = options_.health_threshold;
  if (!stop_announced_) {
    PlanTheStop();
  }
  parts_.log.Info("config.reloaded", {{"changed", Join(outcome.changed, ", ")}});
  if (!outcome.waiting.empty()) {
    const std::string names = Join(outcome.waiting, ", ");
    parts_.log.Warn("config.waiting",
                    {{"message", "changed, but in force only from the next start on: " + names},
                     {"settings", names}});
  }
  // A reload that changes nothing about the checks neither puts them off nor forgets failures.
  const bool other_checks = checks(options_) != checks(old);
  if (status_.phase == Phase::kServing && other_checks) StartHealthMonitor();
  Publish();
  return outcome;
}

// The data plane ----------------------------------------------------------------------------------

uint16_t Supervisor::ServerPort() const {
  if (!Carries()) return options_.port;
  return options_.upstream.kind == Upstream::Kind::kUnixSocket ? uint16_t{0}
                                                               : options_.upstream.port;
}

// Nothing if the server still listens, as far as anybody in here can tell.
std::optional<std::string> Supervisor::CheckListens() {
  if (Carries() && options_.upstream.kind == Upstream::Kind::kElsewhere) return std::nullopt;
  if (Carries() && options_.upstream.kind == Upstream::Kind::kUnixSocket) {
    return health::CheckUnixListens(options_.upstream.path);
  }
  return health::CheckPortListens(parts_.table, ServerPort(), before_, Carries());
}

void Supervisor::CarryAsIn(Phase phase) {
  using health::Carriage;
  switch (phase) {
    case Phase::kServing:
      return SetCarriage(refuses_ ? Carriage::kDraining : Carriage::kServing);
    case Phase::kDraining:
      return;  // after the delay; GatewayDrain knows
    case Phase::kStopping:
      if (!drained_) SetCarriage(Carriage::kDraining);
      return;
    case Phase::kStopped:
      return;
    default:
      return SetCarriage(refuses_ ? Carriage::kDraining : Carriage::kNotYet);
  }
}

void Supervisor::SetCarriage(health::Carriage carriage) {
  if (!Carries() || carriage == carriage_) return;
  carriage_ = carriage;
  parts_.gateway->SetCarriage(carriage, nullptr);
}

void Supervisor::RefuseRequests() {
  refuses_ = true;
  CarryAsIn(status_.phase);
}

// Nobody chose the upstream: it is wherever the server listens, be that on [::1] alone.
void Supervisor::FollowServer() {
  Upstream& upstream = options_.upstream;
  if (!Carries() || !upstream.is_default || upstream.address == probe_address_) return;
  upstream.address = probe_address_;
  SetUpstream(upstream, options_.data_plane.config);
  DescribeDataPlane();
  const Result<void> told = parts_.gateway->Reconfigure(options_.data_plane);
  if (!told) parts_.log.Error("gateway.failed", {{"message", told.error().message()}});
}

void Supervisor::DescribeDataPlane() {
  if (!Carries()) return;
  const Upstream listen{.address = options_.listen->address, .port = options_.listen->port};
  SetBoardText(status_.listen, listen.ToString());
  SetBoardText(status_.upstream, options_.upstream.ToString());
  status_.max_concurrency = options_.data_plane.config.max_concurrency;
  status_.target_concurrency = options_.data_plane.config.target_concurrency;
}

// Also when nothing has changed: the access log may have been moved away.
Result<void> Supervisor::ReconfigureGateway(const Options& options) {
  return Carries() ? parts_.gateway->Reconfigure(options.data_plane) : Result<void>();
}

// Answers of a server that has ended by itself may still be on their way to clients.
void Supervisor::OnEverybodyGone() {
  const bool gateway_gone = !Carries() || gateway_stopped_;
  if (drained_ || gateway_gone) return Fire(Trigger::kAllGone);
  last_words_ = parts_.clock.After(plan_.cut, [this] { Fire(Trigger::kAllGone); });
  parts_.gateway->SetCarriage(health::Carriage::kDraining, [this, alive = alive_] {
    if (*alive && status_.phase == Phase::kStopping) Fire(Trigger::kAllGone);
  });
}

void Supervisor::StopGateway() {
  gateway_stopped_ = true;
  if (parts_.gateway) parts_.gateway->Stop();
}

// The workload ------------------------------------------------------------------------------------

void Supervisor::OnWorkloadExit(ExitStatus status) {
  workload_status_ = status;
  const pid_t pid = std::exchange(status_.workload_pid, 0);
  parts_.log.Info("workload.exit", {{"pid", pid}, {"status", status.ToString()}});
  // It is still a zombie; what follows from its end can wait until it has been reaped.
  workload_exit_ = parts_.clock.After(Milliseconds(0), [this] { WorkloadExited(); });
}

void Supervisor::WorkloadExited() {
  workload_.reset();
  Publish();
  if (awaits_judgement_) return;
  exit_waits_ = IsBeingDumped();
  if (exit_waits_) return;
  if (status_.phase == Phase::kWaitingForPort && IsRestored() && !status_.startup_done) {
    return RestoreCameToNothing("it ended with " + workload_status_->ToString());
  }
  if (status_.phase != Phase::kWaitingForPort && status_.phase != Phase::kCheckpointing &&
      status_.phase != Phase::kServing) {
    return Fire(Trigger::kWorkloadExited);
  }
  if (HasDaemonised()) {
    daemonised_ = true;
    return parts_.log.Info("workload.daemonised",
                           {{"message", "COMMAND has returned and left processes that go on"}});
  }
  if (IsToRestart(*workload_status_)) {
    if (status_.phase == Phase::kCheckpointing) parts_.snapshots->Cancel();
    ++status_.restarts;
    return Fire(Trigger::kRestart);
  }
  StopBecause("the workload", "ended by itself with " + workload_status_->ToString(),
              workload_status_->AsShellCode());
  Fire(Trigger::kWorkloadExited);
}

bool Supervisor::IsToRestart(ExitStatus status) const {
  if (options_.restart != Restart::kOnFailure || status.ok() || IsCreating()) return false;
  if (options_.command.empty()) return false;  // a hook has started it, and would have to again
  // Somebody sits at the terminal and has ended it (^C, ^\, a closed window): no failure.
  return seat_() == Seat::kNone ||
         (status.signal != SIGINT && status.signal != SIGQUIT && status.signal != SIGHUP);
}

bool Supervisor::HasDaemonised() {
  // What a hook has left running is not the workload's.
  if (!workload_status_->ok() || !parts_.tree.AnythingLeftOutside(hook_sessions_)) return false;
  // While it starts, whoever is left may still open the port; later it must be holding it.
  return status_.phase == Phase::kWaitingForPort || !CheckListens();
}

void Supervisor::OnChildrenCollected() {
  if (workload_end_) workload_end_->ChildrenCollected();
  const std::optional<ExitStatus> keeper_end =
      parts_.keeper ? parts_.keeper->TakeEnd() : std::nullopt;
  if (shutdown_) return shutdown_->ChildrenCollected();
  if (restore_end_) return restore_end_->ChildrenCollected();
  // A restored tree has one root, whoever has started what in it.
  const bool follows_children =
      !workload_ && (daemonised_ || (options_.command.empty() && !attached_));
  const bool is_up = status_.phase == Phase::kWaitingForPort ||
                     status_.phase == Phase::kCheckpointing || status_.phase == Phase::kServing;
  if (!follows_children || !is_up || IsBeingDumped() || awaits_judgement_) return;
  // A daemon is over when the workload's processes are; without COMMAND a hook's are the server.
  if (daemonised_ ? parts_.tree.AnythingLeftOutside(hook_sessions_) : parts_.tree.AnythingLeft()) {
    return;
  }
  const ExitStatus status = keeper_end ? *keeper_end : parts_.last_orphan();
  if (daemonised_ && IsToRestart(status)) {
    parts_.log.Info("workload.exit", {{"pid", 0}, {"status", status.ToString()}});
    ++status_.restarts;
    return Fire(Trigger::kRestart);
  }
  StopBecause("the workload", "its last process ended with " + status.ToString(),
              status.AsShellCode());
  Fire(Trigger::kWorkloadExited);
}

void Supervisor::RestartWorkload() {
  // What is left of the workload goes first.
  Retire(std::move(port_wait_));
  Retire(std::move(unix_wait_));
  Retire(std::move(health_monitor_));
  if (late_hooks_) late_hooks_->Cancel();
  Retire(std::move(late_hooks_));
  startup_probe_.reset();
  SetBoardText(status_.listening, "");
  if (parts_.snapshots) SetBoardText(status_.origin, "cold");
  Publish();
  const bool has_recovered =
      status_.startup_done && parts_.clock.Now() - serving_since_ >= kRecovered;
  if (has_recovered) backoff_.Reset();
  const Milliseconds delay = backoff_.Next();
  parts_.log.Warn("workload.restart", {{"restarts", status_.restarts}, {"delay_ms", delay}});
  workload_end_ = std::make_unique<WorkloadEnd>(
      parts_.clock, parts_.tree, hook_sessions_, options_.stop_signal, options_.stop_timeout,
      [this, delay] { restart_ = parts_.clock.After(delay, [this] { LaunchAgain(); }); });
}

void Supervisor::LaunchAgain() {
  workload_end_.reset();
  if (parts_.snapshots) parts_.snapshots->ReleaseMemory();
  LaunchWorkload();
}

void Supervisor::Forward(int signal) {
  parts_.log.Debug("signal.forward", {{"signal", SignalName(signal)}});
  if (workload_ && ForwardToWorkload(signal)) return;
  // A daemon has sessions of its own; so may a server that a hook has started.
  const bool hook_is_server = options_.command.empty();
  parts_.tree.SignalOutside(hook_is_server ? std::vector<pid_t>() : hook_sessions_, signal);
}

// False: its first process has gone, unseen by us, and others go on.
bool Supervisor::ForwardToWorkload(int signal) {
  // A restored tree may be led by its keeper.
  if (IsRestored()) {
    return restored_group_ != 0 && parts_.tree.SignalGroup(restored_group_, signal);
  }
  Result<bool> sent = workload_->SignalGroup(signal);
  if (!sent) parts_.log.Warn("signal.failed", {{"message", sent.error().message()}});
  return !sent || *sent;
}

// Signals -----------------------------------------------------------------------------------------

void Supervisor::OnSignal(const event::SignalEvent& signal) {
  if (IsOurOwn(signal.number)) return;
  if (signal.number == SIGTERM || signal.number == SIGINT) return Terminate(signal);
  if (signal.number == SIGHUP) (void)Reload();
  Forward(signal.number);
}

void Supervisor::Terminate(const event::SignalEvent& signal) {
  ++terminations_;
  const std::string sender = SenderOf(signal);
  parts_.log.Info("signal.stop", {{"by", sender}, {"count", terminations_}});
  if (terminations_ == 1) {
    first_termination_ = signal.number;
    StopBecause(sender, "asked to stop", -1);
    if (!LetDumpEnd()) Fire(Trigger::kTerminate);
    return;
  }
  if (stop_after_dump_) return Fire(Trigger::kTerminate);
  if (terminations_ == 2) return Fire(Trigger::kTerminateAgain);
  if (status_.phase == Phase::kDraining) Fire(Trigger::kTerminateAgain);
  if (shutdown_) shutdown_->KillNow("asked to stop for the third time");
}

// The stop ----------------------------------------------------------------------------------------

// The first reason is the one that counts.
void Supervisor::StopBecause(const std::string& by, const std::string& reason, int exit_code) {
  if (status_.stop_by[0] != '\0') return;
  SetBoardText(status_.stop_by, by);
  SetBoardText(status_.stop_reason, reason);
  exit_code_ = exit_code;
  if (exit_code == kExitAgentError || exit_code == kExitNotFound ||
      exit_code == kExitNotExecutable) {
    if (by == "modal-agent") parts_.log.Error("agent.error", {{"message", reason}});
  }
}

void Supervisor::PlanTheStop() {
  plan_ = PlanStop({options_.drain_delay, options_.exit_grace_period, options_.stop_timeout,
                    Carries() ? kCut : Milliseconds(0)},
                   options_.stop_budget);
}

void Supervisor::AnnounceStop() {
  if (stop_announced_) return;
  stop_announced_ = true;
  const bool drains = status_.phase == Phase::kDraining;
  const Milliseconds longest = drains ? plan_.Longest() : plan_.stop_timeout + plan_.cut;
  status_.stop_longest_ms = static_cast<int32_t>(longest.count());
  parts_.log.Info("lifecycle.stop", {{"by", BoardText(status_.stop_by)},
                                     {"reason", BoardText(status_.stop_reason)},
                                     {"longest_ms", longest}});
  Publish();
}

void Supervisor::EnterDraining() {
  AnnounceStop();
  Retire(std::move(health_monitor_));
  if (Carries()) {
    const bool refuses_already = carriage_ == health::Carriage::kDraining;
    gateway_drain_ = std::make_unique<GatewayDrain>(
        parts_.clock, parts_.log, *parts_.gateway,
        GatewayDrain::Options{refuses_already ? Milliseconds(0) : plan_.drain_delay,
                              plan_.drain_grace, plan_.cut},
        [this] {
          drained_ = true;
          Fire(Trigger::kDrained);
        });
    gateway_drain_->Begin();
    return Publish();
  }
  drain_ = std::make_unique<Drain>(
      parts_.clock, parts_.log, Drain::Options{plan_.drain_delay, plan_.drain_grace},
      [this]() -> size_t {
        Result<std::vector<health::Connection>> connections =
            parts_.table.Connections(options_.port);
        // Where nobody can tell, something may be in flight: then the whole grace is given.
        const size_t count = connections ? health::CountInFlight(*connections) : 1;
        if (count != status_.connections_draining) {
          status_.connections_draining = static_cast<uint32_t>(count);
          Publish();
        }
        return count;
      },
      [this] { Fire(Trigger::kDrained); });
  drain_->Begin();
}

std::vector<Hook> Supervisor::HooksOf(const std::string& folder,
                                      const std::vector<std::string>& lines) {
  std::vector<Hook> hooks;
  if (!options_.hooks_dir.empty()) {
    hooks = HooksFromFolder(options_.hooks_dir + "/" + folder, parts_.log);
  }
  for (const std::string& line : lines) hooks.push_back(HookFromCommandLine(line));
  return hooks;
}

void Supervisor::EnterStopping(Phase from) {
  if (from != Phase::kDraining) AnnounceStop();
  if (!parts_.tree.CanTellApart()) StopGateway();
  if (parts_.snapshots) parts_.snapshots->Cancel();
  if (late_hooks_) {
    NoteSessions(late_hooks_->sessions());
    late_hooks_->Cancel();
  }
  // Half of a restore does not know what a signal is, and what came of it has served nobody.
  const bool is_worthless =
      from == Phase::kRestoring || restore_end_ || (dump_broke_ && from == Phase::kCheckpointing);
  restore_end_.reset();
  port_look_.reset();
  stop_after_dump_.reset();
  // A keeper that has no workload to end with ends when nobody is left.
  if (parts_.keeper && parts_.keeper->workload() == 0) parts_.keeper->Leave(nullptr);
  if (enter_hooks_) {
    NoteSessions(enter_hooks_->sessions());
    enter_hooks_->Cancel();
  }
  Retire(std::move(port_wait_));
  Retire(std::move(unix_wait_));
  Retire(std::move(health_monitor_));
  Retire(std::move(drain_));
  Retire(std::move(gateway_drain_));
  refuse_.reset();
  startup_timeout_.reset();
  startup_probe_.reset();
  gateway_start_.reset();
  restart_.reset();
  workload_end_.reset();

  HookRunner::Options how{std::min(options_.hook_timeout, plan_.stop_timeout), false, BaseSpec()};
  std::vector<Hook> handlers =
      anything_ran_ ? HooksOf("exit", options_.on_exit) : std::vector<Hook>();
  if (!handlers.empty()) {
    exit_hooks_ = std::make_unique<HookRunner>(parts_.loop, parts_.clock, parts_.launcher,
                                               parts_.log, std::move(handlers), std::move(how),
                                               [this](const HookRunner::Outcome& outcome) {
                                                 status_.hooks_run += outcome.run;
                                                 status_.hooks_failed += outcome.failed;
                                                 shutdown_->ExitHandlersDone();
                                               });
  }
  shutdown_ =
      std::make_unique<Shutdown>(parts_.clock, parts_.log, parts_.tree, exit_hooks_.get(),
                                 Shutdown::Options{plan_.stop_timeout, options_.stop_signal,
                                                   workload_session_, [this] { StopGateway(); }},
                                 [this] { OnEverybodyGone(); });
  shutdown_->Begin();
  if (is_worthless && parts_.tree.AnythingLeft()) shutdown_->KillNow("a restore was under way");
}

void Supervisor::EnterStopped() {
  // A workload that ended together with everything else may still have its exit to tell.
  workload_exit_.reset();
  last_words_.reset();
  const int code = FinalExitCode();
  status_.exit_code = code;
  Publish();
  StopGateway();
  if (IsCreating() && !is_created_ && exit_code_ != kExitSnapshotFailed) {
    parts_.log.Error(
        "snapshot.create_failed",
        {{"message", Concat("no snapshot was made: stopped by ", BoardText(status_.stop_by), ": ",
                            BoardText(status_.stop_reason))}});
  }
  parts_.log.Info("agent.exit", {{"code", code},
                                 {"by", BoardText(status_.stop_by)},
                                 {"reason", BoardText(status_.stop_reason)},
                                 {"ms", SinceStart()}});
  on_finished_(code);
}

int Supervisor::FinalExitCode() const {
  if (IsCreating()) return is_created_ ? 0 : int{kExitSnapshotFailed};
  if (exit_code_ >= 0) return exit_code_;
  // Asked to stop: the workload's own status, if it came to run.
  const int without_workload = status_.startup_done ? 0 : 128 + first_termination_;
  const int code = workload_status_ ? workload_status_->AsShellCode() : without_workload;
  const auto& success = options_.success_exit_codes;
  return std::find(success.begin(), success.end(), code) != success.end() ? 0 : code;
}

// Odds and ends -----------------------------------------------------------------------------------

process::LaunchSpec Supervisor::BaseSpec() const {
  process::LaunchSpec spec;
  spec.environment = options_.environment;
  spec.workdir = options_.workdir;
  spec.credentials = options_.credentials;
  spec.limits = options_.limits;
  spec.no_new_privileges = options_.no_new_privileges;
  spec.capabilities = options_.capabilities;
  spec.seccomp = options_.seccomp ? &*options_.seccomp : nullptr;
  return spec;
}

int64_t Supervisor::SinceStart() const {
  return std::chrono::duration_cast<Milliseconds>(parts_.clock.Now() - started_).count();
}

int64_t Supervisor::MicrosecondsOf(Clock::TimePoint time) const {
  return std::chrono::duration_cast<Microseconds>(time - started_).count();
}

const health::AgentStatus& Supervisor::status() {
  parts_.count(status_);
  status_.updated_ms = SinceStart();
  if (gateway_drain_) {
    status_.connections_draining = static_cast<uint32_t>(InFlight(*parts_.gateway));
  }
  return status_;
}

void Supervisor::Publish() { parts_.publish(status()); }

}  // namespace modal::lifecycle

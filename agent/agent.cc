#include "agent/agent.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "agent/base/control_protocol.h"
#include "agent/base/json_writer.h"
#include "agent/base/strings.h"
#include "agent/event/listener.h"
#include "agent/preload_file.h"
#include "agent/process/terminal.h"
#include "agent/snapshot_parts.h"
#include "healthcheck/status_json.h"

namespace modal {
namespace {

// The control socket is for people and scripts: it comes after the workload's exec.
constexpr Milliseconds kControlDelay{2};
// A reader of the log that is alive gets the last words within this; a dead one delays nothing
// more.
constexpr int kLastWordsMs = 200;
// For what the workload has said last: with snapshots it may have to come through us.
constexpr int kLastOutputMs = 2000;

// Our own binary, of which the helpers are personalities. The launcher knows what to do without
// /proc.
constexpr const char* kOwnExecutable = "/proc/self/exe";

// Our stdin, if it is the terminal at which somebody started us; else -1.
int ControllingTerminal() {
  const bool is_ours =
      process::IsTerminal(STDIN_FILENO) && process::ForegroundGroup(STDIN_FILENO).has_value();
  return is_ours ? STDIN_FILENO : -1;
}

// Connections wait here while a gateway is replaced.
constexpr int kDataBacklog = 4096;

Result<UniqueFd> OpenAdminListener(const lifecycle::ListenAddress& where) {
  Result<SocketAddress> address = SocketAddress::Parse(where.address, where.port);
  if (!address) return std::move(address.error());
  return event::ListenOn(*address);
}

// What a command that changes something is answered with; `error` is empty if it worked.
std::string Reply(std::string_view error) {
  JsonWriter json;
  json.BeginObject().Key("ok").Bool(error.empty());
  if (!error.empty()) json.Key("error").String(error);
  return json.EndObject().Take();
}

void List(JsonWriter& json, std::string_view key, const std::vector<std::string>& names) {
  json.Key(key).BeginArray();
  for (const std::string& name : names) json.String(name);
  json.EndArray();
}

std::string ReloadReply(const lifecycle::ReloadOutcome& outcome) {
  JsonWriter json;
  json.BeginObject().Key("ok").Bool(true);
  List(json, "changed", outcome.changed);
  List(json, "waiting", outcome.waiting);
  return json.EndObject().Take();
}

// For Docker's HEALTHCHECK and its like: does it serve, and is it well?
std::string HealthReply(const health::AgentStatus& status) {
  const bool healthy = status.phase == health::Phase::kServing && status.live;
  std::string_view reason;
  if (!healthy) {
    reason = !status.live          ? BoardText(status.last_failure)
             : status.startup_done ? BoardText(status.stop_reason)
                                   : BoardText(status.waiting_note);
  }
  JsonWriter json;
  json.BeginObject().Key("healthy").Bool(healthy);
  json.Key("phase").String(health::PhaseName(status.phase));
  json.Key("reason").String(reason);
  return json.EndObject().Take();
}

}  // namespace

Agent::Agent(event::Loop& loop, Invocation invocation,
             std::function<Result<Invocation>()> parse_again)
    : invocation_(std::move(invocation)),
      parse_again_(std::move(parse_again)),
      is_process_1_(::getpid() == 1),
      exit_code_(kExitAgentError),
      loop_(loop),
      clock_(loop_),
      started_(clock_.Now()),
      sink_(STDERR_FILENO),
      pump_(clock_, sink_),
      log_(pump_, invocation_.log_format, invocation_.log_level),
      launcher_(reaper_),
      tree_(log_, reaper_, is_process_1_) {
  pump_.set_log(&log_);
}

int Agent::Run() {
  for (const std::string& warning : invocation_.warnings) {
    log_.Warn("config.warning", {{"message", warning}});
  }
  log_.Info("agent.start", {{"version", MODAL_VERSION},
                            {"pid", ::getpid()},
                            {"process_1", is_process_1_},
                            {"command", ShellJoin(invocation_.options.command)}});
  if (Result<void> set_up = SetUp(); !set_up) {
    log_.Error("agent.error", {{"message", set_up.error().message()}});
    if (set_up.error().exit_code() != 0) exit_code_ = set_up.error().exit_code();
  } else {
    supervisor_->Start();
    if (!control_) control_start_ = clock_.After(kControlDelay, [this] { StartControl(); });
    CollectChildren();  // orphans that were there before us
    loop_.Run();
  }
  if (output_) output_->FlushFor(kLastOutputMs);
  sink_.FlushFor(kLastWordsMs);
  return exit_code_;
}

Result<void> Agent::SetUp() {
  if (!is_process_1_ && !process::BecomeSubreaper()) {
    log_.Warn("agent.subreaper",
              {{"message", "cannot become a subreaper: orphans of the workload will be lost"}});
  }
  // First of all, for CRIU takes its time to start.
  if (Result<void> made = MakeSnapshots(); !made) return made;
  Result<std::unique_ptr<event::Signals>> signals =
      event::Signals::Watch(loop_, [this](const event::SignalEvent& signal) { OnSignal(signal); });
  if (!signals) return std::move(signals.error());
  signals_ = *std::move(signals);

  Result<BoardMapping> board =
      BoardMapping::CreateToWrite("agent-status", sizeof(BoardLayout<health::AgentStatus>));
  if (!board) return std::move(board.error());
  board_ = std::make_unique<BoardWriter<health::AgentStatus>>(*std::move(board));

  if (Result<void> made = MakeGateway(); !made) return made;
  job_control_ =
      std::make_unique<lifecycle::JobControl>(reaper_, ControllingTerminal(), is_process_1_);
  const lifecycle::Options& options = invocation_.options;
  supervisor_ = std::make_unique<lifecycle::Supervisor>(
      options,
      lifecycle::Supervisor::Parts{
          loop_, clock_, log_, launcher_, tree_, table_, owners_, gateway_.get(),
          [this](const health::AgentStatus& status) { board_->Publish(status); },
          [this] { return reaper_.last_orphan(); },
          [this](health::AgentStatus& status) { Count(status); },
          [this](std::vector<std::string>& changed) { return Reload(changed); }, own_listeners_,
          snapshots_.get(), keeper_.get(), no_snapshots_, started_},
      [this] { return job_control_->seat(); },
      [this](int exit_code) {
        exit_code_ = exit_code;
        loop_.Stop();
      });
  reaper_.set_on_collected([this] { supervisor_->OnChildrenCollected(); });
  // Hooks may well use it; a server is not held up for it.
  if (!options.on_enter.empty()) StartControl();
  return {};
}

// Without what they need there are none, and everything else is as ever; unless it was all about
// one.
Result<void> Agent::MakeSnapshots() {
  lifecycle::Options& options = invocation_.options;
  if (!options.snapshots.on()) return {};
  const auto off = [this, &options](const std::string& why) -> Result<void> {
    no_snapshots_ = "no snapshots: " + why;
    if (options.snapshots.creates()) return Error(no_snapshots_).WithExitCode(kExitSnapshotFailed);
    log_.Warn("snapshot.off", {{"message", no_snapshots_}});
    return {};
  };
  if (ControllingTerminal() >= 0) {
    return off("standard input is a terminal, which a restored server would not have");
  }
  const char* path = ::getenv("PATH");
  Result<lifecycle::Snapshotter::Options> made =
      MakeSnapshotOptions(options, path ? path : "", kOwnExecutable);
  if (!made) return off(made.error().message());
  Result<std::unique_ptr<lifecycle::WorkloadOutput>> output =
      lifecycle::WorkloadOutput::Make(loop_, clock_);
  if (!output) return off(output.error().message());
  output_ = *std::move(output);
  if (Result<void> hidden = HideIoUring(options); !hidden) {
    log_.Debug("snapshot.preload", {{"message", hidden.error().message()}});
  }
  // The same in each container that is to take the tree over.
  options.capabilities = made->job.inputs.capabilities;
  keeper_ = std::make_unique<lifecycle::KeeperLauncher>(loop_, clock_, launcher_, log_,
                                                        kOwnExecutable, output_->standard());
  snapshots_ = std::make_unique<lifecycle::Snapshotter>(
      loop_, clock_, launcher_, tree_, log_, *std::move(made),
      std::array<int, 2>{output_->standard()[1], output_->standard()[2]});
  // Who only attaches to a server has nothing that could be restored.
  if (!options.command.empty()) snapshots_->Begin();
  return {};
}

Result<void> Agent::MakeGateway() {
  const lifecycle::Options& options = invocation_.options;
  lifecycle::GatewayProcess::Listeners listeners;
  // These first: where both want the same port, the admin endpoints give way by default.
  Result<std::vector<UniqueFd>> data = OpenDataListeners();
  if (!data) return std::move(data.error()).While("--listen");
  listeners.data = *std::move(data);
  Result<std::vector<UniqueFd>> admin = OpenAdminListeners();
  if (!admin) return std::move(admin.error());
  listeners.admin = *std::move(admin);
  if (listeners.admin.empty() && listeners.data.empty() && options.health_path.empty()) return {};

  for (const std::vector<UniqueFd>* some : {&listeners.admin, &listeners.data}) {
    for (const UniqueFd& listener : *some) {
      struct stat info {};
      if (::fstat(listener.get(), &info) == 0) own_listeners_.insert(info.st_ino);
    }
  }
  gateway_ = std::make_unique<lifecycle::GatewayProcess>(loop_, clock_, launcher_, tree_, log_,
                                                         std::move(listeners), board_->mapping(),
                                                         kOwnExecutable);
  return gateway_->Reconfigure(options.data_plane);
}

Result<std::vector<UniqueFd>> Agent::OpenDataListeners() {
  std::vector<UniqueFd> listeners;
  const lifecycle::Options& options = invocation_.options;
  if (!options.listen) return listeners;
  Result<SocketAddress> address =
      SocketAddress::Parse(options.listen->address, options.listen->port);
  if (!address) return std::move(address.error());
  const uint32_t threads = options.data_plane.config.threads;
  // Sockets that share a port share it with those of another agent too. One that does not tells
  // whether the port is free.
  Result<UniqueFd> first = event::ListenOn(*address, {.backlog = kDataBacklog});
  if (!first) return std::move(first.error());
  if (threads == 1) {
    listeners.push_back(*std::move(first));
    return listeners;
  }
  first->Reset();
  for (uint32_t i = 0; i < threads; ++i) {
    Result<UniqueFd> listener =
        event::ListenOn(*address, {.backlog = kDataBacklog, .reuse_port = true});
    if (!listener) return std::move(listener.error());
    listeners.push_back(*std::move(listener));
  }
  return listeners;
}

Result<std::vector<UniqueFd>> Agent::OpenAdminListeners() {
  std::vector<UniqueFd> listeners;
  const lifecycle::Options& options = invocation_.options;
  if (!options.admin) return listeners;
  Result<UniqueFd> listener =
      Error(Concat("port ", options.port, " is the application port (--port)"));
  // With a gateway in front the server may well be on the same port of another address.
  if (options.listen || options.admin->port != options.port) {
    listener = OpenAdminListener(*options.admin);
  }
  if (listener) {
    listeners.push_back(*std::move(listener));
    return listeners;
  }
  if (!options.admin_is_default) return std::move(listener.error()).While("--admin");
  log_.Warn("admin.off", {{"message", Concat("no admin endpoints: ", listener.error().message(),
                                             "; choose another address with --admin, or off")}});
  return listeners;
}

void Agent::StartControl() {
  const char* runtime_dir = ::getenv("XDG_RUNTIME_DIR");
  const std::vector<std::string> paths =
      ControlSocketPaths(invocation_.options.control, runtime_dir ? runtime_dir : "", ::geteuid());
  Result<std::unique_ptr<lifecycle::ControlServer>> control = lifecycle::ControlServer::Listen(
      loop_, clock_, paths, [this](const std::string& command) { return Answer(command); });
  if (!control) {
    return log_.Warn("control.off", {{"message",
                                      "no control socket, so the subcommands will not reach this "
                                      "agent: " +
                                          control.error().message()}});
  }
  control_ = *std::move(control);
  log_.Debug("control.open", {{"path", control_->path()}});
}

std::string Agent::Answer(const std::string& command) {
  const health::AgentStatus& status = supervisor_->status();
  if (command == kControlStatus) {
    const std::optional<health::GatewayStatus> gateway =
        gateway_ ? gateway_->status() : std::nullopt;
    return health::StatusJson(status, gateway ? &*gateway : nullptr);
  }
  if (command == kControlHealth) return HealthReply(status);
  if (command == kControlDrain) {
    supervisor_->RequestDrain();
    return Reply("");
  }
  if (command == kControlReload) {
    const Result<lifecycle::ReloadOutcome> reloaded = supervisor_->Reload();
    return reloaded ? ReloadReply(*reloaded) : Reply(reloaded.error().message());
  }
  return Reply(Concat("unknown command: ", command));
}

void Agent::OnSignal(const event::SignalEvent& signal) {
  if (signal.number == SIGCHLD) return CollectChildren();
  if (job_control_->OnSignal(signal, supervisor_->workload_group())) return;
  supervisor_->OnSignal(signal);
}

void Agent::CollectChildren() {
  job_control_->ChildrenChanged(supervisor_->workload_group());
  collect_again_.reset();
  if (reaper_.Collect()) {
    collect_again_ = clock_.After(Milliseconds(0), [this] { CollectChildren(); });
  }
}

void Agent::Count(health::AgentStatus& status) {
  const uint64_t by_keeper = keeper_ ? keeper_->orphans_reaped() : 0;
  status.orphans_reaped = reaper_.orphans_reaped() + by_keeper;
  status.log_lines_lost = sink_.lost_lines();
  status.gateway_restarts = gateway_ ? gateway_->restarts() : 0;
}

Result<lifecycle::Options> Agent::Reload(std::vector<std::string>& changed) {
  Result<Invocation> fresh = parse_again_();
  if (!fresh) return std::move(fresh.error());
  if (fresh->log_format != invocation_.log_format) changed.emplace_back("log-format");
  if (fresh->log_level != invocation_.log_level) changed.emplace_back("log-level");
  invocation_.log_format = fresh->log_format;
  invocation_.log_level = fresh->log_level;
  log_.Reconfigure(fresh->log_format, fresh->log_level);
  return std::move(fresh->options);
}

}  // namespace modal

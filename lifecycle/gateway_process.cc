#include "lifecycle/gateway_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

#include "agent/base/passed_descriptors.h"
#include "agent/base/strings.h"

namespace modal::lifecycle {
namespace {

using health::Carriage;
using health::GatewayReply;
using health::GatewayRequest;

// The user "nobody" and the group "nogroup" of Linux (the kernel's overflow ids).
constexpr uid_t kNobody = 65534;
// One that has worked this long is not in a loop of failures.
constexpr Milliseconds kStable{10000};
// The gateway keeps the time of a probe; this is for a gateway that hangs.
constexpr Milliseconds kProbeSlack{1000};

}  // namespace

GatewayProcess::GatewayProcess(event::Loop& loop, Clock& clock, process::Launcher& launcher,
                               ProcessTree& tree, Log& log, Listeners listeners,
                               const BoardMapping& agent_board, std::string executable)
    : loop_(loop),
      clock_(clock),
      launcher_(launcher),
      tree_(tree),
      log_(log),
      listeners_(std::move(listeners)),
      agent_board_(agent_board),
      executable_(std::move(executable)) {}

GatewayProcess::~GatewayProcess() { Stop(); }

void GatewayProcess::Start() {
  if (stopped_ || process_) return;
  // Without the right to change user (not root, capabilities dropped) it runs as what we are.
  if (as_nobody_ && ::geteuid() != 0) as_nobody_ = false;
  Result<void> launched = Launch(as_nobody_);
  if (!launched && as_nobody_) {
    log_.Debug("gateway.user", {{"message", launched.error().message()}});
    as_nobody_ = false;
    launched = Launch(false);
  }
  if (launched) return;
  log_.Error("gateway.failed", {{"message", launched.error().message()}});
  StartAgainLater();
}

Result<void> GatewayProcess::Launch(bool as_nobody) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
    return Error::FromErrno("gateway: socketpair", errno);
  }
  UniqueFd ours(pair[0]);
  UniqueFd theirs(pair[1]);
  Result<BoardMapping> board =
      BoardMapping::CreateToRead("gateway-status", sizeof(BoardLayout<health::GatewayStatus>));
  if (!board) return std::move(board.error()).While("gateway");
  UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));

  process::LaunchSpec spec = Spec();
  if (null) spec.fds.push_back({null.get(), 0});
  spec.fds.push_back({theirs.get(), health::kGatewayChannelFd});
  spec.fds.push_back({board->fd(), health::kGatewayOwnBoardFd});
  if (as_nobody) {
    spec.credentials = process::Credentials{kNobody, kNobody, {kNobody}, "nobody", "/"};
  }

  Result<std::unique_ptr<process::Process>> process =
      launcher_.Launch(spec, [this](ExitStatus status) { OnExit(status); });
  if (!process) return std::move(process.error()).While("gateway");
  Result<std::unique_ptr<event::Poller>> poller =
      event::Poller::Watch(loop_, ours.get(), [this](event::Poller::Ready) { OnReply(); });
  if (!poller) return std::move(poller.error()).While("gateway");

  process_ = *std::move(process);
  tree_.SpareHelper(process_->pid());
  poller_ = *std::move(poller);
  poller_->WaitFor(true, false);
  channel_ = std::move(ours);
  board_ = std::make_unique<BoardReader<health::GatewayStatus>>(*std::move(board));
  started_ = clock_.Now();
  log_.Info("gateway.start", {{"pid", process_->pid()}});
  SendCarriage();
  return {};
}

process::LaunchSpec GatewayProcess::Spec() const {
  process::LaunchSpec spec;
  spec.executable = executable_;
  spec.argv = {health::kGatewayArgv0, std::to_string(listeners_.admin.size()),
               std::to_string(listeners_.data.size())};
  spec.session = process::SessionMode::kNewSession;
  spec.fds.push_back({agent_board_.fd(), health::kGatewayAgentBoardFd});
  spec.fds.push_back({config_.get(), health::kGatewayConfigFd});
  spec.fds.push_back({access_log_.get(), health::kGatewayAccessLogFd});
  int next = health::kGatewayFirstListenerFd;
  for (const UniqueFd& listener : listeners_.admin) spec.fds.push_back({listener.get(), next++});
  for (const UniqueFd& listener : listeners_.data) spec.fds.push_back({listener.get(), next++});
  // A connection takes a descriptor or two; shells and container engines leave 1024 of them.
  rlimit files{};
  if (!listeners_.data.empty() && ::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    spec.limits.push_back({RLIMIT_NOFILE, {files.rlim_max, files.rlim_max}});
  }
  spec.capabilities = 0;
  spec.no_new_privileges = true;
  spec.parent_death_signal = SIGKILL;
  return spec;
}

void GatewayProcess::Stop() {
  stopped_ = true;
  again_.reset();
  probes_.clear();
  on_drained_ = nullptr;
  drained_.reset();
  poller_.reset();
  channel_.Reset();
  if (process_) (void)process_->Signal(SIGKILL);
}

void GatewayProcess::OnExit(ExitStatus status) {
  tree_.ForgetHelper(process_->pid());
  log_.Write(stopped_ ? LogLevel::kDebug : LogLevel::kError, "gateway.exit",
             {{"pid", process_->pid()}, {"status", status.ToString()}});
  process_.reset();
  poller_.reset();
  channel_.Reset();
  if (stopped_) return;
  FailAll("the gateway ended with " + status.ToString());
  DrainedSoon();
  if (clock_.Now() - started_ >= kStable) backoff_.Reset();
  StartAgainLater();
}

void GatewayProcess::StartAgainLater() {
  again_ = clock_.After(backoff_.Next(), [this] {
    ++restarts_;
    Start();
  });
}

void GatewayProcess::Probe(const std::string& address, uint16_t port, const std::string& path,
                           Milliseconds timeout,
                           std::function<void(const ProbeResult&)> on_result) {
  const uint32_t id = ++last_probe_;
  PendingProbe& probe = probes_[id];
  probe.on_result = std::move(on_result);

  GatewayRequest request{};
  request.kind = GatewayRequest::Kind::kProbe;
  request.id = id;
  request.timeout_ms = static_cast<uint32_t>(timeout.count());
  request.port = port;
  SetBoardText(request.address, address);
  SetBoardText(request.path, path);
  std::string why;
  if (!channel_) {
    why = "the gateway is not running";
  } else if (!Send(request)) {
    why = Concat("the gateway takes no request: ", ::strerror(errno));
  }
  const Milliseconds wait = why.empty() ? timeout + kProbeSlack : Milliseconds(0);
  if (why.empty()) why = Concat("no answer within ", timeout.count(), " ms");
  probe.timeout = clock_.After(wait, [this, id, why] { Finish(id, {0, why}); });
}

bool GatewayProcess::Send(const GatewayRequest& request) {
  return ::send(channel_.get(), &request, sizeof request, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

void GatewayProcess::SetCarriage(Carriage carriage, std::function<void()> on_drained) {
  if (stopped_) return;
  carriage_ = carriage;
  ++carriage_id_;
  on_drained_ = std::move(on_drained);
  drained_.reset();
  SendCarriage();
  // Nobody runs, so nothing is in flight.
  if (!process_) DrainedSoon();
}

void GatewayProcess::SendCarriage() {
  if (!channel_ || listeners_.data.empty()) return;
  GatewayRequest request{};
  request.kind = GatewayRequest::Kind::kCarriage;
  request.id = carriage_id_;
  request.carriage = carriage_;
  if (Send(request)) return;
  log_.Error("gateway.failed",
             {{"message", Concat("the gateway takes no message: ", ::strerror(errno))}});
}

Result<void> GatewayProcess::Reconfigure(const DataPlane& data_plane) {
  // The gateway cannot open files.
  const bool by_name = data_plane.config.upstream_name[0] != '\0';
  Result<UniqueFd> config = SealConfig(data_plane.config, data_plane.tokens,
                                       by_name ? event::ReadNameFiles() : event::NameFiles());
  if (!config) return std::move(config.error());
  Result<UniqueFd> access_log = OpenAccessLog(data_plane.access_log);
  if (!access_log) return std::move(access_log.error());
  config_ = *std::move(config);
  access_log_ = *std::move(access_log);
  if (!channel_ || listeners_.data.empty()) return {};
  return SendConfig();
}

Result<void> GatewayProcess::SendConfig() {
  GatewayRequest request{};
  request.kind = GatewayRequest::Kind::kConfig;
  const int descriptors[] = {config_.get(), access_log_.get()};
  const ssize_t sent = SendWithDescriptors(channel_.get(), std::as_bytes(std::span(&request, 1)),
                                           descriptors, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent >= 0) return {};
  return Error::FromErrno("the gateway takes no new settings", errno);
}

void GatewayProcess::Drained() {
  drained_.reset();
  const auto on_drained = std::exchange(on_drained_, nullptr);
  if (on_drained) on_drained();
}

void GatewayProcess::DrainedSoon() {
  if (on_drained_) drained_ = clock_.After(Milliseconds(0), [this] { Drained(); });
}

void GatewayProcess::OnReply() {
  GatewayReply reply{};
  const ssize_t size = ::recv(channel_.get(), &reply, sizeof reply, MSG_TRUNC | MSG_DONTWAIT);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (size <= 0) {  // it is ending; OnExit() says how
    poller_->WaitFor(false, false);
    return;
  }
  if (size != static_cast<ssize_t>(sizeof reply)) {
    log_.Warn("gateway.garbage",
              {{"message", "a reply of the wrong size was dropped"}, {"bytes", size}});
    return;
  }
  switch (reply.kind) {
    case GatewayReply::Kind::kProbe:
      return Finish(reply.id, {reply.status, std::string(BoardText(reply.error))});
    case GatewayReply::Kind::kDrained:
      if (reply.id == carriage_id_) Drained();
      return;
  }
  log_.Warn("gateway.garbage", {{"message", "a reply of an unknown kind was dropped"},
                                {"kind", static_cast<uint32_t>(reply.kind)}});
}

void GatewayProcess::Finish(uint32_t id, const ProbeResult& result) {
  const auto found = probes_.find(id);
  if (found == probes_.end()) return;
  const PendingProbe probe = std::move(found->second);
  probes_.erase(found);
  probe.on_result(result);
}

void GatewayProcess::FailAll(const std::string& why) {
  while (!probes_.empty()) Finish(probes_.begin()->first, {0, why});
}

std::optional<health::GatewayStatus> GatewayProcess::status() const {
  return board_ ? board_->Read() : std::nullopt;
}

}  // namespace modal::lifecycle

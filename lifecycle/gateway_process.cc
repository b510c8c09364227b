#include "lifecycle/gateway_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "agent/base/strings.h"

namespace modal::lifecycle {
namespace {

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
                               ProcessTree& tree, Log& log, std::vector<UniqueFd> listeners,
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

  process::LaunchSpec spec;
  spec.executable = executable_;
  spec.argv = {health::kGatewayArgv0, std::to_string(listeners_.size())};
  spec.session = process::SessionMode::kNewSession;
  if (null) spec.fds.push_back({null.get(), 0});
  spec.fds.push_back({theirs.get(), health::kGatewayChannelFd});
  spec.fds.push_back({agent_board_.fd(), health::kGatewayAgentBoardFd});
  spec.fds.push_back({board->fd(), health::kGatewayOwnBoardFd});
  for (size_t i = 0; i < listeners_.size(); ++i) {
    spec.fds.push_back(
        {listeners_[i].get(), health::kGatewayFirstListenerFd + static_cast<int>(i)});
  }
  if (as_nobody)
    spec.credentials = process::Credentials{kNobody, kNobody, {kNobody}, "nobody", "/"};
  spec.capabilities = 0;
  spec.no_new_privileges = true;
  spec.parent_death_signal = SIGKILL;

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
  return {};
}

void GatewayProcess::Stop() {
  stopped_ = true;
  again_.reset();
  probes_.clear();
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
  request.id = id;
  request.timeout_ms = static_cast<uint32_t>(timeout.count());
  request.port = port;
  SetBoardText(request.address, address);
  SetBoardText(request.path, path);
  std::string why;
  if (!channel_) {
    why = "the gateway is not running";
  } else if (::send(channel_.get(), &request, sizeof request, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
    why = Concat("the gateway takes no request: ", ::strerror(errno));
  }
  const Milliseconds wait = why.empty() ? timeout + kProbeSlack : Milliseconds(0);
  if (why.empty()) why = Concat("no answer within ", timeout.count(), " ms");
  probe.timeout = clock_.After(wait, [this, id, why] { Finish(id, {0, why}); });
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
  Finish(reply.id, {reply.status, std::string(BoardText(reply.error))});
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

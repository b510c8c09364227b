#include "lifecycle/keeper_launcher.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "agent/base/exit_status.h"
#include "agent/base/status_board.h"
#include "agent/base/strings.h"
#include "agent/process/process_table.h"

namespace modal::lifecycle {
namespace {

Error AgentError(std::string message) {
  return Error("keeper: " + std::move(message)).WithExitCode(kExitAgentError);
}

Result<bool> Send(pid_t target, int signal) {
  if (::kill(target, signal) == 0) return true;
  if (errno == ESRCH) return false;
  return Error::FromErrno(Concat("send ", SignalName(signal), " to ", target), errno);
}

// Who is given none starts where we are, and to that a relative one is; the keeper is elsewhere.
std::string WorkdirOf(const process::LaunchSpec& spec) {
  std::error_code ignored;
  const std::filesystem::path here = std::filesystem::current_path(ignored);
  return spec.workdir.empty() ? here.string() : (here / spec.workdir).string();
}

}  // namespace

// A child of the keeper. Its zombie is the keeper's to reap; until its exit was told, the pid is
// taken to be its own.
class KeeperLauncher::KeptProcess : public process::Process {
 public:
  KeptProcess(KeeperLauncher& owner, uint32_t id, pid_t pid, process::ExitCallback on_exit)
      : owner_(&owner), id_(id), pid_(pid), on_exit_(std::move(on_exit)) {
    owner.children_[id] = this;
  }
  ~KeptProcess() override {
    if (owner_) owner_->children_.erase(id_);
  }
  KeptProcess(const KeptProcess&) = delete;
  KeptProcess& operator=(const KeptProcess&) = delete;

  pid_t pid() const override { return pid_; }
  Result<bool> Signal(int number) override {
    if (has_ended_) return false;
    return Send(pid_, number);
  }
  Result<bool> SignalGroup(int number) override { return Send(-pid_, number); }

  void Exited(ExitStatus status) {
    has_ended_ = true;
    Disown();
    const process::ExitCallback on_exit = std::move(on_exit_);  // which may destroy us
    if (on_exit) on_exit(status);
  }
  void Disown() {
    if (owner_) owner_->children_.erase(id_);
    owner_ = nullptr;
  }

 private:
  KeeperLauncher* owner_;
  uint32_t id_;
  pid_t pid_;
  process::ExitCallback on_exit_;
  bool has_ended_ = false;
};

KeeperLauncher::KeeperLauncher(event::Loop& loop, Clock& clock, process::Launcher& launcher,
                               Log& log, std::string executable, std::array<int, 3> standard)
    : loop_(loop),
      clock_(clock),
      launcher_(launcher),
      log_(log),
      executable_(std::move(executable)),
      standard_(standard) {}

KeeperLauncher::~KeeperLauncher() {
  while (!children_.empty()) children_.begin()->second->Disown();
}

Result<std::unique_ptr<process::Process>> KeeperLauncher::Launch(const process::LaunchSpec& spec,
                                                                 process::ExitCallback on_exit,
                                                                 bool is_main) {
  if (!keeper_) {
    if (Result<void> started = StartKeeper(spec); !started) return std::move(started.error());
  }
  if (!channel_) return AgentError("it was told to leave, and starts nothing any more");
  const uint32_t id = ++last_id_;
  if (Result<void> asked = Ask(spec, id, is_main); !asked) return std::move(asked.error());
  const Result<KeeperReply> answer = AwaitAnswer(id);
  if (!answer) return answer.error();
  if (answer->kind == KeeperReply::Kind::kFailed) {
    const int code = answer->exit_code ? answer->exit_code : int{kExitAgentError};
    return Error(std::string(BoardText(answer->error))).WithExitCode(code);
  }
  // Its word is not enough to send signals to: a group of 1 would be everybody.
  const std::optional<process::ProcessInfo> child = process::LookAtProcess(answer->pid);
  if (answer->pid <= 1 || (child && child->parent != keeper_->pid())) {
    return AgentError("it named a process that is none of its children");
  }
  if (is_main) {
    main_id_ = id;
    main_pid_ = answer->pid;
  }
  return std::unique_ptr<process::Process>(
      new KeptProcess(*this, id, answer->pid, std::move(on_exit)));
}

Result<void> KeeperLauncher::StartKeeper(const process::LaunchSpec& spec) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
    return std::move(Error::FromErrno("keeper: socketpair", errno)).WithExitCode(kExitAgentError);
  }
  UniqueFd ours(pair[0]);
  const UniqueFd theirs(pair[1]);
  process::LaunchSpec keeper = spec;
  keeper.executable = executable_;
  keeper.argv = {kKeeperArgv0};
  keeper.environment.clear();
  keeper.workdir = "/";
  keeper.session = process::SessionMode::kNewSession;
  keeper.fds.clear();
  for (int fd = 0; fd < 3; ++fd) keeper.fds.push_back({standard_[static_cast<size_t>(fd)], fd});
  keeper.fds.push_back({theirs.get(), kKeeperChannelFd});
  Result<std::unique_ptr<process::Process>> process =
      launcher_.Launch(keeper, [this](ExitStatus status) { OnKeeperExit(status); });
  if (!process) return std::move(process.error()).While("keeper");
  Result<std::unique_ptr<event::Poller>> poller =
      event::Poller::Watch(loop_, ours.get(), [this](event::Poller::Ready) { OnReadable(); });
  if (!poller) return std::move(poller.error()).While("keeper");
  keeper_ = *std::move(process);
  poller_ = *std::move(poller);
  poller_->WaitFor(true, false);
  channel_ = std::move(ours);
  log_.Debug("keeper.start", {{"pid", keeper_->pid()}});
  return {};
}

Result<void> KeeperLauncher::Ask(const process::LaunchSpec& spec, uint32_t id, bool is_main) {
  const Result<UniqueFd> words = SealLaunch({spec.argv, spec.environment, WorkdirOf(spec)});
  if (!words) return words.error();
  KeeperRequest request{};
  request.kind = KeeperRequest::Kind::kLaunch;
  request.id = id;
  request.is_main = is_main ? 1 : 0;
  std::vector<int> fds = {words->get()};
  for (const process::FdMapping& mapping : spec.fds) {
    if (request.fd_count == request.theirs.size()) return AgentError("too many descriptors");
    request.theirs[request.fd_count++] = mapping.theirs;
    fds.push_back(mapping.ours);
  }
  if (SendRequest(channel_.get(), request, fds)) return {};
  return AgentError(Concat("it takes no request: ", ::strerror(errno)));
}

Result<KeeperReply> KeeperLauncher::AwaitAnswer(uint32_t id) {
  const Clock::TimePoint limit = clock_.Now() + kPatience;
  while (true) {
    const auto left = std::chrono::duration_cast<Milliseconds>(limit - clock_.Now()).count();
    pollfd readable{channel_.get(), POLLIN, 0};
    const int ready = left > 0 ? ::poll(&readable, 1, static_cast<int>(left)) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return AgentError(Concat("no answer within ", kPatience.count(), " ms"));
    KeeperReply reply{};
    const Taken taken = TakeReply(reply);
    if (taken == Taken::kNothing) continue;
    if (taken == Taken::kEnd) return AgentError("it has ended");
    if (reply.id == id && reply.kind != KeeperReply::Kind::kExited) return reply;
    if (reply.kind != KeeperReply::Kind::kExited) continue;  // the answer to one that gave up
    early_.push_back(reply);
    early_turn_ = clock_.After(Milliseconds(0), [this] {
      for (const KeeperReply& exited : std::exchange(early_, {})) OnExited(exited);
    });
  }
}

// Whatever is not exactly one reply in size is the end. Numbers of orphans are noted on the way:
// more than a socket holds are a keeper that would keep us busy.
KeeperLauncher::Taken KeeperLauncher::TakeReply(KeeperReply& reply) {
  constexpr int kMostNumbers = 1000;
  for (int numbers = 0; numbers < kMostNumbers;) {
    const ssize_t got = ::recv(channel_.get(), &reply, sizeof reply, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return Taken::kNothing;
    if (got != static_cast<ssize_t>(sizeof reply)) return Taken::kEnd;
    if (reply.kind != KeeperReply::Kind::kReaped) return Taken::kReply;
    orphans_ = std::max(orphans_, reply.orphans);
    ++numbers;
  }
  return Taken::kNothing;
}

// A launch in the same turn of the loop may have taken what was there.
void KeeperLauncher::OnReadable() {
  KeeperReply reply{};
  const Taken taken = TakeReply(reply);
  if (taken == Taken::kEnd) return ChannelClosed();
  if (taken == Taken::kReply && reply.kind == KeeperReply::Kind::kExited) OnExited(reply);
}

void KeeperLauncher::OnExited(const KeeperReply& reply) {
  const auto child = children_.find(reply.id);
  if (child == children_.end()) return;
  if (reply.id == main_id_) main_pid_ = 0;
  ExitStatus status;
  status.code = reply.status_code;
  status.signal = reply.status_signal;
  child->second->Exited(status);
}

// The keeper's end is reported by the Reaper.
void KeeperLauncher::ChannelClosed() {
  poller_.reset();
  channel_.Reset();
  Left({});
}

void KeeperLauncher::Left(const Result<void>& left) {
  left_turn_.reset();
  if (const OnLeft on_left = std::exchange(on_left_, nullptr)) on_left(left);
}

void KeeperLauncher::Leave(OnLeft on_left) {
  on_left_ = std::move(on_left);
  if (!channel_) {
    if (keeper_) left_turn_ = clock_.After(Milliseconds(0), [this] { Left({}); });
    return;
  }
  KeeperRequest request{};
  request.kind = KeeperRequest::Kind::kLeave;
  // If it does not go out, the end of our writing says the same.
  if (!SendRequest(channel_.get(), request, {})) ::shutdown(channel_.get(), SHUT_WR);
  left_turn_ = clock_.After(kPatience, [this] {
    Left(AgentError(Concat("it does not leave within ", kPatience.count(), " ms")));
  });
}

bool KeeperLauncher::HoldsAnybody() const {
  if (!keeper_) return false;
  const Result<std::vector<process::ProcessInfo>> all = process::ListProcesses();
  if (!all) return true;  // nobody can tell
  return std::any_of(all->begin(), all->end(), [this](const process::ProcessInfo& process) {
    return process.parent == keeper_->pid() && process.state != 'Z';
  });
}

// What it has said before its end still counts. Whoever is told may launch again, and gets another
// keeper: all of this one's is cleared away first.
void KeeperLauncher::OnKeeperExit(ExitStatus status) {
  log_.Debug("keeper.exit", {{"pid", keeper_->pid()}, {"status", status.ToString()}});
  std::vector<KeeperReply> last_words = std::exchange(early_, {});
  KeeperReply reply{};
  while (channel_ && TakeReply(reply) == Taken::kReply) {
    if (reply.kind == KeeperReply::Kind::kExited) last_words.push_back(reply);
  }
  orphans_before_ += std::exchange(orphans_, 0);
  keeper_.reset();
  poller_.reset();
  channel_.Reset();
  early_turn_.reset();
  left_turn_.reset();
  on_left_ = nullptr;
  main_pid_ = 0;
  std::vector<uint32_t> untold;
  for (const auto& [id, child] : children_) untold.push_back(id);
  for (const KeeperReply& word : last_words) OnExited(word);
  bool anybody = false;
  for (const uint32_t id : untold) {
    const auto child = children_.find(id);
    if (child == children_.end()) continue;
    anybody = true;
    child->second->Exited(status);
  }
  if (!anybody) end_ = status;
}

}  // namespace modal::lifecycle

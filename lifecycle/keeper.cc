#include "lifecycle/keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/status_board.h"
#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"
#include "agent/process/launcher.h"
#include "agent/process/process_table.h"
#include "agent/process/reaper.h"
#include "lifecycle/keeper_protocol.h"

namespace modal::lifecycle {
namespace {

void Say(std::string_view message) {
  ::dprintf(STDERR_FILENO, "%s: %.*s\n", kKeeperArgv0, static_cast<int>(message.size()),
            message.data());
}

// Ends this process as another one has ended.
[[noreturn]] void EndLike(ExitStatus status) {
  if (status.signal == 0) ::_exit(status.code);
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  ::signal(status.signal, SIG_DFL);
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, status.signal);
  ::kill(::getpid(), status.signal);
  ::sigprocmask(SIG_UNBLOCK, &only, nullptr);
  ::_exit(128 + status.signal);
}

class Keeper {
 public:
  explicit Keeper(UniqueFd channel) : channel_(std::move(channel)), launcher_(reaper_) {}

  Result<void> ListenUntilToldToLeave();
  [[noreturn]] void KeepAlone();

 private:
  struct Child {
    uint32_t id;
    bool is_main;
    std::unique_ptr<process::Process> process;
  };

  bool TakeRequest();  // false: there will be no more
  void Launch(ReceivedRequest& received);
  Result<process::LaunchSpec> SpecOf(const ReceivedRequest& received);
  void OnExit(std::list<Child>::iterator child, ExitStatus status);
  void Reply(const KeeperReply& reply);
  void TellOrphans();
  void CollectAll();
  bool HasDaemons() const;
  void EndIfOver();

  UniqueFd channel_;
  process::Reaper reaper_;
  process::ProcessLauncher launcher_;
  std::list<Child> children_;
  std::vector<pid_t> hooks_;  // their groups
  std::optional<ExitStatus> main_status_;
  KeeperReply main_exit_{};
  bool left_daemons_ = false;
  uint64_t told_orphans_ = 0;
};

Result<void> Keeper::ListenUntilToldToLeave() {
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  const UniqueFd signals(::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals) return Error::FromErrno("signalfd", errno);
  while (channel_) {
    const bool has_to_tell = reaper_.orphans_reaped() != told_orphans_;
    const auto events = static_cast<short>(has_to_tell ? POLLIN | POLLOUT : POLLIN);
    pollfd ready[2] = {{channel_.get(), events, 0}, {signals.get(), POLLIN, 0}};
    if (::poll(ready, 2, -1) < 0) {
      if (errno == EINTR) continue;
      return Error::FromErrno("poll", errno);
    }
    signalfd_siginfo taken;
    while (::read(signals.get(), &taken, sizeof taken) > 0) {
    }
    CollectAll();
    const bool is_asked = (ready[0].revents & ~POLLOUT) != 0;
    if (is_asked && !TakeRequest()) channel_.Reset();
  }
  return {};
}

bool Keeper::TakeRequest() {
  std::optional<ReceivedRequest> received = ReceiveRequest(channel_.get());
  if (!received || received->request.kind != KeeperRequest::Kind::kLaunch) return false;
  Launch(*received);
  return true;
}

Result<process::LaunchSpec> Keeper::SpecOf(const ReceivedRequest& received) {
  const KeeperRequest& request = received.request;
  if (received.fds.size() != size_t{1} + request.fd_count) {
    return Error("the limit of open files (RLIMIT_NOFILE) is reached");
  }
  Result<LaunchWords> words = ReadLaunch(received.fds[0].get());
  if (!words) return std::move(words.error());
  process::LaunchSpec spec;
  spec.argv = std::move(words->argv);
  spec.environment = std::move(words->environment);
  spec.workdir = std::move(words->workdir);
  // The workload leads a session of its own, so that it can be dumped without us. The rest is in
  // ours: a hook that has ended leaves no session behind that has lost its leader.
  spec.session =
      request.is_main ? process::SessionMode::kNewSession : process::SessionMode::kNewGroup;
  for (size_t i = 0; i < request.fd_count && i < request.theirs.size(); ++i) {
    spec.fds.push_back({received.fds[i + 1].get(), request.theirs[i]});
  }
  return spec;
}

void Keeper::Launch(ReceivedRequest& received) {
  KeeperReply reply{};
  reply.id = received.request.id;
  const auto child =
      children_.insert(children_.end(), {reply.id, received.request.is_main != 0, nullptr});
  Result<process::LaunchSpec> spec = SpecOf(received);
  Result<std::unique_ptr<process::Process>> process =
      spec ? launcher_.Launch(*spec, [this, child](ExitStatus status) { OnExit(child, status); })
           : Result<std::unique_ptr<process::Process>>(
                 std::move(spec.error()).WithExitCode(kExitAgentError));
  if (!process) {
    children_.erase(child);
    reply.kind = KeeperReply::Kind::kFailed;
    reply.exit_code = process.error().exit_code();
    SetBoardText(reply.error, process.error().message());
    return Reply(reply);
  }
  child->process = *std::move(process);
  reply.kind = KeeperReply::Kind::kLaunched;
  reply.pid = child->process->pid();
  if (!child->is_main) hooks_.push_back(reply.pid);
  Reply(reply);
}

// It is still a zombie: whoever hears of it may still signal its group.
void Keeper::OnExit(std::list<Child>::iterator child, ExitStatus status) {
  KeeperReply reply{};
  reply.kind = KeeperReply::Kind::kExited;
  reply.id = child->id;
  reply.pid = child->process->pid();
  reply.status_code = status.code;
  reply.status_signal = status.signal;
  if (child->is_main) {
    main_status_ = status;
    main_exit_ = reply;
  } else {
    Reply(reply);
  }
  children_.erase(child);
}

void Keeper::Reply(const KeeperReply& reply) {
  if (!channel_) return;
  // The supervisor reads them as they come; one that does not is gone.
  if (::send(channel_.get(), &reply, sizeof reply, MSG_NOSIGNAL) < 0) channel_.Reset();
}

// Whoever reads slowly gets one number for many.
void Keeper::TellOrphans() {
  const uint64_t orphans = reaper_.orphans_reaped();
  if (!channel_ || orphans == told_orphans_) return;
  KeeperReply reply{};
  reply.kind = KeeperReply::Kind::kReaped;
  reply.orphans = static_cast<uint32_t>(std::min<uint64_t>(orphans, UINT32_MAX));
  if (::send(channel_.get(), &reply, sizeof reply, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) {
    told_orphans_ = orphans;
  } else if (errno != EAGAIN) {
    channel_.Reset();
  }
}

void Keeper::CollectAll() {
  while (reaper_.Collect()) {
  }
  TellOrphans();
  EndIfOver();
}

// Whether anything is left that the workload has started and not a hook.
bool Keeper::HasDaemons() const {
  const Result<std::vector<process::ProcessInfo>> all = process::ListProcesses();
  if (!all) return reaper_.HasChildrenBeside([](pid_t) { return true; });
  const std::vector<process::ProcessInfo> left = process::DescendantsOf(::getpid(), *all);
  return std::any_of(left.begin(), left.end(), [this](const process::ProcessInfo& process) {
    return process.state != 'Z' &&
           std::find(hooks_.begin(), hooks_.end(), process.group) == hooks_.end();
  });
}

void Keeper::EndIfOver() {
  if (main_status_) {
    if (!main_status_->ok()) EndLike(*main_status_);
    if (HasDaemons()) {
      if (!std::exchange(left_daemons_, true)) Reply(main_exit_);
      return;
    }
    EndLike(left_daemons_ ? reaper_.last_orphan() : *main_status_);
  }
  const bool is_alone =
      !channel_ && children_.empty() && !reaper_.HasChildrenBeside([](pid_t) { return false; });
  if (is_alone) EndLike(reaper_.last_orphan());
}

// No descriptor, no timer, nothing to be waited for but the end of a child: as little as can be for
// a dump to hold.
void Keeper::KeepAlone() {
  while (true) {
    CollectAll();
    siginfo_t ended{};
    if (::waitid(P_ALL, 0, &ended, WEXITED | WNOWAIT) == 0 || errno == EINTR) continue;
    EndLike(main_status_.value_or(reaper_.last_orphan()));  // ECHILD: nobody is left
  }
}

}  // namespace

int RunKeeper(std::span<char* const> argv) {
  if (argv.size() != 1 || ::fcntl(kKeeperChannelFd, F_SETFD, FD_CLOEXEC) != 0) {
    Say("modal-agent starts this itself, with descriptors of its own");
    return kExitAgentError;
  }
  // All signals are blocked; a supervisor that goes away is seen on the channel.
  if (!process::BecomeSubreaper()) Say("cannot become a subreaper: daemons will not be dumped");
  Keeper keeper{UniqueFd(kKeeperChannelFd)};
  if (const Result<void> listened = keeper.ListenUntilToldToLeave(); !listened) {
    Say(listened.error().message());
    return kExitAgentError;
  }
  keeper.KeepAlone();
}

}  // namespace modal::lifecycle

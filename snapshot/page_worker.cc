#include "snapshot/page_worker.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>

#include "agent/base/exit_status.h"
#include "agent/base/status_board.h"
#include "snapshot/page_server.h"

namespace modal::snapshot {
namespace {

using Instant = std::chrono::steady_clock;

Result<UniqueFd> TakeOver(int number) {
  if (::fcntl(number, F_SETFD, FD_CLOEXEC) == 0) return UniqueFd(number);
  return Error("modal-agent starts this itself, with descriptors of its own");
}

void AwaitEvent(int fd, short event) {
  pollfd polled{fd, event, 0};
  while (::poll(&polled, 1, -1) < 0 && errno == EINTR) {
  }
}

void AwaitHangUp(int channel) { AwaitEvent(channel, 0); }

[[noreturn]] void Hold(int server, int channel) {
  ::prctl(PR_SET_NAME, "modal-holder");
  AwaitEvent(server, POLLIN);
  AwaitHangUp(channel);
  ::_exit(0);
}

// Shares our descriptors, and nothing else; a child of our parent's, as we are.
Result<pid_t> StartHolder(int channel) {
  UniqueFd self(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  if (!self) return Error::FromErrno("pidfd_open", errno);
  constexpr unsigned long kFlags = CLONE_FILES | CLONE_PARENT;
  const auto pid = static_cast<pid_t>(::syscall(SYS_clone, kFlags, nullptr, nullptr, nullptr, 0));
  if (pid < 0) return Error::FromErrno("clone", errno);
  if (pid == 0) Hold(self.get(), channel);
  // Stays open for the holder's sake: the table is one.
  (void)self.Release();
  return pid;
}

class Reports {
 public:
  explicit Reports(int channel) : channel_(channel) {}

  void Holder(pid_t pid) const {
    PagesReport report{};
    report.kind = PagesReport::Kind::kHolder;
    report.pid = pid;
    Send(report);
  }
  void End(const Result<void>& served, const PageServer::Counts& counts) const {
    PagesReport report{};
    report.kind = served ? PagesReport::Kind::kDone : PagesReport::Kind::kFailed;
    report.pages = counts.pages;
    report.faults = counts.faults;
    report.ms =
        std::chrono::duration_cast<std::chrono::milliseconds>(Instant::now() - began_).count();
    if (!served) SetBoardText(report.reason, served.error().message());
    Send(report);
  }

 private:
  void Send(const PagesReport& report) const {
    (void)::send(channel_, &report, sizeof report, MSG_NOSIGNAL);
  }

  int channel_;
  Instant::time_point began_ = Instant::now();
};

Result<void> Work() {
  Result<UniqueFd> channel = TakeOver(kPagesChannelFd);
  if (!channel) return std::move(channel.error());
  Result<UniqueFd> listener = TakeOver(kPagesListenerFd);
  if (!listener) return std::move(listener.error());
  Result<UniqueFd> folder = TakeOver(kPagesFolderFd);
  if (!folder) return std::move(folder.error());
  const Reports reports(channel->get());
  PageServer server(*std::move(listener), *std::move(folder), channel->get());
  const Result<pid_t> holder = StartHolder(channel->get());
  if (holder) reports.Holder(*holder);
  const Result<void> served = holder ? server.Serve() : Result<void>(holder.error());
  reports.End(served, server.counts());
  if (served) {
    // The holder ends with us.
    ::shutdown(channel->get(), SHUT_RDWR);
    return {};
  }
  AwaitHangUp(channel->get());
  return {};
}

}  // namespace

int RunPageWorker(std::span<char* const> argv) {
  const Result<void> done = argv.size() == 1 ? Work() : Error("it takes no arguments");
  if (!done) ::dprintf(STDERR_FILENO, "%s: %s\n", kPagesArgv0, done.error().message().c_str());
  return done ? 0 : kExitAgentError;
}

}  // namespace modal::snapshot

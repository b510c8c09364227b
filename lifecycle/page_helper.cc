#include "lifecycle/page_helper.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "agent/base/exit_status.h"
#include "agent/base/status_board.h"
#include "agent/base/strings.h"

namespace modal::lifecycle {
namespace {

using snapshot::PagesReport;

Result<UniqueFd> Listen(const std::string& work_dir) {
  const std::string path = Concat(work_dir, "/", snapshot::kPagesSocket);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return Error(path + ": too long a name");
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!listener) return Error::FromErrno("socket", errno);
  const bool listens =
      ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
      ::listen(listener.get(), 1) == 0;
  if (!listens) return Error::FromErrno(path, errno);
  return listener;
}

}  // namespace

PageHelper::PageHelper(event::Loop& loop, process::Launcher& launcher, ProcessTree& tree, Log& log,
                       OnEnd on_end)
    : loop_(loop), launcher_(launcher), tree_(tree), log_(log), on_end_(std::move(on_end)) {}

PageHelper::~PageHelper() {
  Release();
  for (const process::Process* process : {server_.get(), holder_.get()}) {
    if (process) tree_.ForgetHelper(process->pid());
  }
}

Result<void> PageHelper::Start(const std::string& executable, const std::string& work_dir) {
  Result<UniqueFd> listener = Listen(work_dir);
  if (!listener) return std::move(listener.error());
  const UniqueFd folder(::open(work_dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return Error::FromErrno(work_dir, errno);
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
    return Error::FromErrno("socketpair", errno);
  }
  channel_.Reset(pair[0]);
  const UniqueFd theirs(pair[1]);
  Result<std::unique_ptr<event::Poller>> poller =
      event::Poller::Watch(loop_, channel_.get(), [this](event::Poller::Ready) { OnReadable(); });
  if (!poller) return std::move(poller.error());
  poller_ = *std::move(poller);
  poller_->WaitFor(true, false);
  // No parent-death signal: without us it goes on until all is in.
  process::LaunchSpec spec;
  spec.executable = executable;
  spec.argv = {snapshot::kPagesArgv0};
  spec.workdir = "/";
  spec.fds.push_back({theirs.get(), snapshot::kPagesChannelFd});
  spec.fds.push_back({listener->get(), snapshot::kPagesListenerFd});
  spec.fds.push_back({folder.get(), snapshot::kPagesFolderFd});
  Result<std::unique_ptr<process::Process>> server =
      launcher_.Launch(spec, [this](ExitStatus status) { OnServerExit(status); });
  if (!server) return std::move(server.error());
  server_ = *std::move(server);
  tree_.SpareHelper(server_->pid());
  return {};
}

void PageHelper::OnReadable() {
  while (TakeReport()) {
  }
}

// False: there is none at this moment.
bool PageHelper::TakeReport() {
  if (!channel_) return false;
  PagesReport report{};
  ssize_t got = 0;
  do {
    got = ::recv(channel_.get(), &report, sizeof report, MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  if (got == static_cast<ssize_t>(sizeof report)) {
    OnReport(report);
    return true;
  }
  // It has closed its end: what it had to say is said, and its exit comes.
  if (got >= 0 || errno != EAGAIN) poller_.reset();
  return false;
}

void PageHelper::OnReport(const PagesReport& report) {
  switch (report.kind) {
    case PagesReport::Kind::kHolder:
      holder_ = launcher_.Adopt(report.pid, [this](ExitStatus) { OnHolderExit(); });
      return tree_.SpareHelper(report.pid);
    case PagesReport::Kind::kDone:
      return End(AllIn{report.pages, report.faults, Milliseconds(report.ms)});
    case PagesReport::Kind::kFailed:
      return End(Error(std::string(BoardText(report.reason))));
  }
}

void PageHelper::OnServerExit(ExitStatus status) {
  tree_.ForgetHelper(server_->pid());
  log_.Debug("snapshot.helper",
             {{"name", "pages"}, {"pid", server_->pid()}, {"status", status.ToString()}});
  server_.reset();
  OnReadable();
  if (on_end_) End(Error("the page server has ended with " + status.ToString()));
}

void PageHelper::OnHolderExit() {
  tree_.ForgetHelper(holder_->pid());
  holder_.reset();
}

void PageHelper::End(const Result<AllIn>& result) {
  if (const OnEnd on_end = std::exchange(on_end_, nullptr)) on_end(result);
}

// Both end with the channel; what a stuck one would hold is nobody's any more.
void PageHelper::Release() {
  on_end_ = nullptr;
  poller_.reset();
  channel_.Reset();
  for (process::Process* process : {server_.get(), holder_.get()}) {
    if (process) (void)process->Signal(SIGKILL);
  }
}

}  // namespace modal::lifecycle

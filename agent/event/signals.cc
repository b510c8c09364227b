#include "agent/event/signals.h"

#include <signal.h>
#include <sys/signalfd.h>

#include <array>
#include <cerrno>

namespace modal::event {
namespace {

sigset_t WatchedSignals() {
  sigset_t set;
  sigfillset(&set);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS}) {
    sigdelset(&set, fault);
  }
  return set;
}

}  // namespace

void BlockSignals() {
  const sigset_t set = WatchedSignals();
  ::sigprocmask(SIG_SETMASK, &set, nullptr);
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  ::sigaction(SIGCHLD, &action, nullptr);
}

void UnblockSignals() {
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

Result<std::unique_ptr<Signals>> Signals::Watch(Loop& loop,
                                                std::function<void(const SignalEvent&)> on_signal) {
  const sigset_t set = WatchedSignals();
  std::unique_ptr<Signals> signals(new Signals);
  signals->fd_ = UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals->fd_) return Error::FromErrno("signalfd", errno);
  signals->on_signal_ = std::move(on_signal);
  Signals* self = signals.get();
  Result<std::unique_ptr<Poller>> poller =
      Poller::Watch(loop, signals->fd_.get(), [self](Poller::Ready) { self->Read(); });
  if (!poller) return std::move(poller.error()).While("signals");
  signals->poller_ = *std::move(poller);
  signals->poller_->WaitFor(true, false);
  return signals;
}

void Signals::Read() {
  std::array<signalfd_siginfo, 16> batch;
  const ssize_t size = ::read(fd_.get(), batch.data(), sizeof batch);
  if (size <= 0) return;
  for (size_t i = 0; i < static_cast<size_t>(size) / sizeof batch[0]; ++i) {
    const signalfd_siginfo& info = batch[i];
    on_signal_({static_cast<int>(info.ssi_signo), static_cast<pid_t>(info.ssi_pid), info.ssi_uid,
                info.ssi_code > 0});
  }
}

}  // namespace modal::event

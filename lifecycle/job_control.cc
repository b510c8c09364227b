#include "lifecycle/job_control.h"

#include <signal.h>
#include <unistd.h>

#include "agent/process/terminal.h"

namespace modal::lifecycle {
namespace {

bool IsInOurSession(pid_t pid) { return ::getsid(pid) == ::getsid(0); }

// As a program stops that has never heard of SIGTSTP; returns when it has been continued, or at
// once where the kernel ignores that signal (an orphaned process group).
void StopHere() {
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTSTP);
  ::sigprocmask(SIG_UNBLOCK, &stop, nullptr);
  ::sigprocmask(SIG_BLOCK, &stop, nullptr);
}

}  // namespace

JobControl::JobControl(process::Reaper& reaper, int terminal, bool is_process_1)
    : reaper_(reaper), terminal_(terminal), is_process_1_(is_process_1) {}

JobControl::~JobControl() {
  if (seat() == Seat::kForeground) process::SetForegroundGroup(terminal_, ::getpgrp());
}

Seat JobControl::seat() {
  if (terminal_ < 0) return Seat::kNone;
  // `fg` need not tell us. The way back is always through a stop, of which we know.
  if (process::ForegroundGroup(terminal_) == ::getpgrp()) in_foreground_ = true;
  return in_foreground_ ? Seat::kForeground : Seat::kBackground;
}

void JobControl::ChildrenChanged(pid_t workload) {
  if (workload == 0 || is_process_1_ || terminal_ < 0) return;
  const std::optional<int> signal = reaper_.StopSignalOf(workload);
  if (!signal) return;
  // It was in the background and wants the terminal, which has become ours since.
  const bool wants_terminal = *signal == SIGTTIN || *signal == SIGTTOU;
  if (wants_terminal && HandOver(workload)) {
    ::kill(-workload, SIGCONT);
    return;
  }
  // The whole job stops, as it does for the shell: a pipeline, sudo, the script that has called us.
  ::kill(0, SIGTSTP);
  StopWith(workload);
}

bool JobControl::OnSignal(const event::SignalEvent& signal, pid_t workload) {
  if (is_process_1_) return false;
  if (signal.number == SIGCONT) {
    in_foreground_ = in_foreground_ && process::ForegroundGroup(terminal_) == workload;
    HandOver(workload);
    return false;
  }
  if (signal.number != SIGTSTP || !signal.from_kernel) return false;
  // ^Z for our group, so the workload did not get it. In our session it is asked, and may know what
  // to do first; its own stop then stops us. In a session of its own nothing but SIGSTOP stops it.
  if (workload != 0 && IsInOurSession(workload)) {
    ::kill(-workload, SIGTSTP);
    return true;
  }
  if (workload != 0) ::kill(-workload, SIGSTOP);
  ::raise(SIGTSTP);
  StopWith(workload);
  return true;
}

// The terminal goes to the workload if it is ours to give.
bool JobControl::HandOver(pid_t workload) {
  if (workload == 0 || !IsInOurSession(workload)) return false;
  if (process::ForegroundGroup(terminal_) != ::getpgrp()) return false;
  in_foreground_ = true;
  return process::SetForegroundGroup(terminal_, workload);
}

// With a SIGTSTP pending. Returns when the shell has continued us, with the terminal (`fg`) or
// without (`bg`).
void JobControl::StopWith(pid_t workload) {
  if (seat() == Seat::kForeground) process::SetForegroundGroup(terminal_, ::getpgrp());
  in_foreground_ = false;
  StopHere();
  HandOver(workload);
  if (workload != 0) ::kill(-workload, SIGCONT);
}

}  // namespace modal::lifecycle

#include "lifecycle/job_control.h"

#include <signal.h>
#include <unistd.h>

#include "agent/process/terminal.h"

namespace modal::lifecycle {

JobControl::JobControl(process::Reaper& reaper, int terminal, bool is_process_1)
    : reaper_(reaper), terminal_(terminal), is_process_1_(is_process_1) {}

JobControl::~JobControl() { process::SetForegroundGroup(terminal_, ::getpgrp()); }

void JobControl::ChildrenChanged(pid_t workload) {
  if (workload == 0 || is_process_1_ || !reaper_.HasStopped(workload)) return;
  process::SetForegroundGroup(terminal_, ::getpgrp());
  ::raise(SIGSTOP);
  // Here again after SIGCONT: `fg` has given us the terminal, `bg` has not.
  if (process::ForegroundGroup(terminal_) == ::getpgrp()) {
    process::SetForegroundGroup(terminal_, workload);
  }
  ::kill(-workload, SIGCONT);
}

}  // namespace modal::lifecycle

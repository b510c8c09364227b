// Job control on a terminal: the workload has the foreground, and the shell above us knows us
// alone.
//
// When the workload stops (^Z), we take the terminal back and stop ourselves, so that the shell
// gets it; when the shell continues us, the workload is continued, with the terminal if we have it.
// As process 1 there is no shell above: the workload stays stopped until somebody continues it.
#pragma once

#include <sys/types.h>

#include "agent/process/reaper.h"

namespace modal::lifecycle {

class JobControl {
 public:
  // `terminal` is the descriptor of the terminal; `reaper` outlives this.
  JobControl(process::Reaper& reaper, int terminal, bool is_process_1);
  // Puts our own group into the foreground again.
  ~JobControl();

  // Call on each SIGCHLD, before the reaper collects. `workload` is its process group.
  void ChildrenChanged(pid_t workload);

 private:
  process::Reaper& reaper_;
  int terminal_;
  bool is_process_1_;
};

}  // namespace modal::lifecycle

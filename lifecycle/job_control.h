// Job control: the shell above us knows us alone, and what it and the person at the terminal do to
// us is meant for the workload.
//
// With a terminal on stdin the workload is a process group of our session, and has the foreground
// whenever we would have it. Who has it is asked at the moment when it matters: a job that was
// started with & may be brought there by `fg` later, and `bg` takes it away. When the workload
// stops (^Z), we take the terminal back and stop as well, so that the shell gets it; when the shell
// continues us, the workload is continued. Without a terminal the workload has a session of its own
// and hears nothing of ^Z: then we stop it ourselves.
//
// Where no shell could continue us (our process group is orphaned) the kernel ignores our own stop,
// and the workload goes on as well. As process 1 there is no shell above either: the workload stays
// stopped until somebody continues it.
#pragma once

#include <sys/types.h>

#include "agent/event/signals.h"
#include "agent/process/reaper.h"
#include "lifecycle/seat.h"

namespace modal::lifecycle {

class JobControl {
 public:
  // `terminal` is the descriptor of our controlling terminal, -1 if there is none; `reaper`
  // outlives this.
  JobControl(process::Reaper& reaper, int terminal, bool is_process_1);
  // Puts our own group into the foreground again, if it was the workload that had it.
  ~JobControl();

  // Where we sit now.
  Seat seat();
  // Call on each SIGCHLD, before the reaper collects. `workload` is its process group, or 0.
  void ChildrenChanged(pid_t workload);
  // Call for each signal to us; true if it was for us alone.
  bool OnSignal(const event::SignalEvent& signal, pid_t workload);

 private:
  bool HandOver(pid_t workload);
  void StopWith(pid_t workload);

  process::Reaper& reaper_;
  int terminal_;
  bool is_process_1_;
  bool in_foreground_ = false;  // ours, or given by us to the workload
};

}  // namespace modal::lifecycle

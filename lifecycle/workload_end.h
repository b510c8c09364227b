// Ends what is left of the workload before it is started again: its stop signal, time, then
// SIGKILL.
//
// The workload is everything below us but what the hooks have left running (and the helpers): also
// what has made itself a session of its own. `on_ended` runs once, from the loop, when none of it
// is left.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "agent/base/clock.h"
#include "lifecycle/process_tree.h"

namespace modal::lifecycle {

class WorkloadEnd {
 public:
  WorkloadEnd(Clock& clock, ProcessTree& tree, std::vector<pid_t> hook_sessions, int stop_signal,
              Milliseconds timeout, std::function<void()> on_ended);

  void ChildrenCollected() { Check(); }

 private:
  void Check();

  Clock& clock_;
  ProcessTree& tree_;
  std::vector<pid_t> hook_sessions_;
  std::function<void()> on_ended_;
  bool killing_ = false;
  std::unique_ptr<Timer> timeout_;
  std::unique_ptr<Timer> check_;
};

}  // namespace modal::lifecycle

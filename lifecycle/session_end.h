// Ends one session of processes (the workload's, before it is started again): its stop signal,
// time, then SIGKILL. `on_ended` runs once, from the loop, when none of its processes is left.
#pragma once

#include <functional>
#include <memory>

#include "agent/base/clock.h"
#include "lifecycle/process_tree.h"

namespace modal::lifecycle {

class SessionEnd {
 public:
  SessionEnd(Clock& clock, ProcessTree& tree, pid_t session, int stop_signal, Milliseconds timeout,
             std::function<void()> on_ended);

  void ChildrenCollected() { Check(); }

 private:
  void Check();

  Clock& clock_;
  ProcessTree& tree_;
  pid_t session_;
  std::function<void()> on_ended_;
  bool killing_ = false;
  std::unique_ptr<Timer> timeout_;
  std::unique_ptr<Timer> check_;
};

}  // namespace modal::lifecycle

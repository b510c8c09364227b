// Ends everything below the agent: SIGTERM and time, then SIGKILL.
//
// Begin() sends SIGTERM to everything left (the workload's group gets --stop-signal instead) and
// starts the exit handlers at the same moment. What appears while we wait (a wrapper that starts
// its server anew) is told as well, once each. `on_gone` runs once, from the loop or from inside
// Begin(): when the handlers have returned and nothing is left, at the latest after the timeout and
// the SIGKILL that follows it. It never waits when nothing is left.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "lifecycle/hook_runner.h"
#include "lifecycle/process_tree.h"

namespace modal::lifecycle {

class Shutdown {
 public:
  struct Options {
    Milliseconds timeout;
    int stop_signal;         // for the workload's group
    pid_t workload_session;  // 0: there is none
    // Runs before the first SIGKILL, which as process 1 takes the helpers along. May be empty.
    std::function<void()> before_kill = nullptr;
  };

  // `exit_handlers` may be null. The tree's collected children are reported by ChildrenCollected().
  Shutdown(Clock& clock, Log& log, ProcessTree& tree, HookRunner* exit_handlers, Options options,
           std::function<void()> on_gone);

  void Begin();
  void ExitHandlersDone();
  void ChildrenCollected();
  // The timeout is over, or somebody will not wait for it.
  void KillNow(const std::string& why);

 private:
  // The workload is told to end by another signal than everybody else.
  bool HasOwnSignal() const;
  void Sweep();
  void SweepSoon();
  void SweepAfter(Milliseconds pause);
  void Check();
  void KillAgain();
  void Finish();

  Clock& clock_;
  Log& log_;
  ProcessTree& tree_;
  HookRunner* exit_handlers_;
  Options options_;
  std::function<void()> on_gone_;
  bool handlers_running_ = false;
  bool killing_ = false;
  Clock::TimePoint killing_since_{};
  std::unique_ptr<Timer> timeout_;
  Milliseconds sweep_pause_{};
  std::unique_ptr<Timer> sweep_;
  std::unique_ptr<Timer> kill_again_;
  std::unique_ptr<Timer> turn_;
};

}  // namespace modal::lifecycle

#include "lifecycle/phase_table.h"

namespace modal::lifecycle {

std::string_view TriggerName(Trigger trigger) {
  switch (trigger) {
    case Trigger::kRestored:
      return "restored";
    case Trigger::kRestoreFailed:
      return "not-restored";
    case Trigger::kHooksDone:
      return "hooks-done";
    case Trigger::kHookFailed:
      return "hook-failed";
    case Trigger::kLaunched:
      return "launched";
    case Trigger::kLaunchFailed:
      return "launch-failed";
    case Trigger::kPortOpen:
      return "port-open";
    case Trigger::kStartAgain:
      return "start-again";
    case Trigger::kLaunchAgain:
      return "launch-again";
    case Trigger::kTrialDue:
      return "trial-due";
    case Trigger::kDumpDue:
      return "dump-due";
    case Trigger::kStartupTimeout:
      return "startup-timeout";
    case Trigger::kTerminate:
      return "terminate";
    case Trigger::kTerminateAgain:
      return "terminate-again";
    case Trigger::kUnhealthy:
      return "unhealthy";
    case Trigger::kRestart:
      return "restart";
    case Trigger::kWorkloadExited:
      return "workload-exited";
    case Trigger::kAgentFailed:
      return "agent-failed";
    case Trigger::kDrained:
      return "drained";
    case Trigger::kAllGone:
      return "all-gone";
  }
  return "unknown";
}

}  // namespace modal::lifecycle

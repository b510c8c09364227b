// The phases of a container's life and what moves it from one to the next. Pure: Next() decides,
// Supervisor::Enter() does.
//
//   StartupHooks → Launching → WaitingForPort → Serving → Draining → Stopping → Stopped
//        └── Restoring ─────────────┘   └ Checkpointing ┘
#pragma once

#include <array>
#include <optional>
#include <string_view>

#include "healthcheck/status.h"

namespace modal::lifecycle {

using health::Phase;

enum class Trigger {
  kRestored,        // a snapshot has been restored, and runs
  kRestoreFailed,   // there is none, or it came to nothing: a cold start
  kHooksDone,       // every startup hook returned 0
  kHookFailed,      // one did not, or ran into --hook-timeout
  kLaunched,        // COMMAND runs, or there is none to run
  kLaunchFailed,    // COMMAND could not be executed
  kPortOpen,        // the port is reachable, and --health-path answers
  kDumpDue,         // the same, and a snapshot is to be taken before anybody is served
  kTrialDue,        // the snapshot is made, its tree has ended, and its restore is to be tried
  kStartAgain,      // a dump was broken off in the tree, which has ended: the whole start again
  kLaunchAgain,     // the same, but nothing that a hook has started was in it: COMMAND again
  kStartupTimeout,  // it was not within --startup-timeout
  kTerminate,       // a first SIGTERM or SIGINT
  kTerminateAgain,  // a second one
  kUnhealthy,       // --health-threshold failures in a row
  kRestart,         // the workload failed, and --restart says to start it again
  kWorkloadExited,  // the workload ended by itself
  kAgentFailed,     // the agent itself cannot go on
  kDrained,         // nothing is in flight, or the grace is over
  kAllGone,         // no process is left, and exit handlers are done
};

std::string_view TriggerName(Trigger trigger);

struct Transition {
  Phase from;
  Trigger trigger;
  Phase to;
};

inline constexpr std::array kTransitions{
    Transition{Phase::kRestoring, Trigger::kRestored, Phase::kWaitingForPort},
    Transition{Phase::kRestoring, Trigger::kRestoreFailed, Phase::kStartupHooks},
    Transition{Phase::kRestoring, Trigger::kTerminate, Phase::kStopping},
    Transition{Phase::kRestoring, Trigger::kAgentFailed, Phase::kStopping},

    Transition{Phase::kStartupHooks, Trigger::kHooksDone, Phase::kLaunching},
    Transition{Phase::kStartupHooks, Trigger::kHookFailed, Phase::kStopping},
    Transition{Phase::kStartupHooks, Trigger::kTerminate, Phase::kStopping},
    Transition{Phase::kStartupHooks, Trigger::kAgentFailed, Phase::kStopping},

    Transition{Phase::kLaunching, Trigger::kLaunched, Phase::kWaitingForPort},
    Transition{Phase::kLaunching, Trigger::kLaunchFailed, Phase::kStopping},
    Transition{Phase::kLaunching, Trigger::kStartupTimeout, Phase::kStopping},
    Transition{Phase::kLaunching, Trigger::kTerminate, Phase::kStopping},
    Transition{Phase::kLaunching, Trigger::kAgentFailed, Phase::kStopping},

    Transition{Phase::kWaitingForPort, Trigger::kPortOpen, Phase::kServing},
    Transition{Phase::kWaitingForPort, Trigger::kDumpDue, Phase::kCheckpointing},
    Transition{Phase::kWaitingForPort, Trigger::kRestoreFailed, Phase::kStartupHooks},
    Transition{Phase::kWaitingForPort, Trigger::kHookFailed, Phase::kStopping},
    Transition{Phase::kWaitingForPort, Trigger::kStartupTimeout, Phase::kStopping},
    Transition{Phase::kWaitingForPort, Trigger::kRestart, Phase::kLaunching},
    Transition{Phase::kWaitingForPort, Trigger::kWorkloadExited, Phase::kStopping},
    Transition{Phase::kWaitingForPort, Trigger::kTerminate, Phase::kStopping},
    Transition{Phase::kWaitingForPort, Trigger::kAgentFailed, Phase::kStopping},

    Transition{Phase::kCheckpointing, Trigger::kPortOpen, Phase::kServing},
    Transition{Phase::kCheckpointing, Trigger::kTrialDue, Phase::kRestoring},
    Transition{Phase::kCheckpointing, Trigger::kStartAgain, Phase::kStartupHooks},
    Transition{Phase::kCheckpointing, Trigger::kLaunchAgain, Phase::kLaunching},
    Transition{Phase::kCheckpointing, Trigger::kHookFailed, Phase::kStopping},
    Transition{Phase::kCheckpointing, Trigger::kRestart, Phase::kLaunching},
    Transition{Phase::kCheckpointing, Trigger::kWorkloadExited, Phase::kStopping},
    Transition{Phase::kCheckpointing, Trigger::kTerminate, Phase::kStopping},
    Transition{Phase::kCheckpointing, Trigger::kAgentFailed, Phase::kStopping},

    Transition{Phase::kServing, Trigger::kTerminate, Phase::kDraining},
    Transition{Phase::kServing, Trigger::kUnhealthy, Phase::kDraining},
    Transition{Phase::kServing, Trigger::kRestart, Phase::kLaunching},
    Transition{Phase::kServing, Trigger::kRestoreFailed, Phase::kStartupHooks},
    Transition{Phase::kServing, Trigger::kWorkloadExited, Phase::kStopping},
    Transition{Phase::kServing, Trigger::kAgentFailed, Phase::kStopping},

    Transition{Phase::kDraining, Trigger::kDrained, Phase::kStopping},
    Transition{Phase::kDraining, Trigger::kTerminateAgain, Phase::kStopping},
    Transition{Phase::kDraining, Trigger::kWorkloadExited, Phase::kStopping},

    Transition{Phase::kStopping, Trigger::kAllGone, Phase::kStopped},
};

constexpr std::optional<Phase> Next(Phase from, Trigger trigger) {
  for (const Transition& transition : kTransitions) {
    if (transition.from == from && transition.trigger == trigger) return transition.to;
  }
  return std::nullopt;
}

static_assert(Next(Phase::kServing, Trigger::kTerminate) == Phase::kDraining);
static_assert(Next(Phase::kWaitingForPort, Trigger::kTerminate) == Phase::kStopping);
static_assert(!Next(Phase::kStopped, Trigger::kTerminate));

}  // namespace modal::lifecycle

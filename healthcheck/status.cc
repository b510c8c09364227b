#include "healthcheck/status.h"

#include <algorithm>
#include <iterator>

namespace modal::health {
namespace {

constexpr std::string_view kPhaseNames[] = {
    "StartupHooks",  "Restoring", "Launching", "WaitingForPort", "Serving",
    "Checkpointing", "Draining",  "Stopping",  "Stopped",
};
static_assert(std::size(kPhaseNames) == kPhaseCount);

}  // namespace

std::string_view PhaseName(Phase phase) {
  const auto number = static_cast<uint32_t>(phase);
  return number < kPhaseCount ? kPhaseNames[number] : "Unknown";
}

AgentStatus NewAgentStatus() {
  AgentStatus status{};
  std::fill(std::begin(status.entered_ms), std::end(status.entered_ms), -1);
  status.ready_ms = -1;
  status.last_check_ms = -1;
  status.live = true;
  status.stop_longest_ms = -1;
  status.exit_code = -1;
  status.restored_ms = -1;
  status.dump_ms = -1;
  status.pages_in_ms = -1;
  return status;
}

void EnterPhase(AgentStatus& status, Phase phase, int64_t now_ms) {
  const auto left = static_cast<size_t>(status.phase);
  if (status.entered_ms[left] >= 0) {
    status.spent_ms[left] = now_ms - status.entered_ms[left];
    status.total_ms[left] += status.spent_ms[left];
  }
  status.phase = phase;
  status.entered_ms[static_cast<size_t>(phase)] = now_ms;
  status.spent_ms[static_cast<size_t>(phase)] = 0;
}

}  // namespace modal::health

// How long each part of a stop may take. Pure.
//
// --stop-budget caps drain and stop together: where they would take longer, every part is scaled
// down in the same proportion.
#pragma once

#include <cstdint>
#include <optional>

#include "agent/base/clock.h"

namespace modal::lifecycle {

struct StopPlan {
  Milliseconds drain_delay;   // from "not ready" to "no new request"
  Milliseconds drain_grace;   // for requests in flight
  Milliseconds stop_timeout;  // from SIGTERM to SIGKILL
  // With a gateway in front of the server: for clients to be told, when the grace is over, or when
  // the server has ended by itself.
  Milliseconds cut{};

  constexpr Milliseconds Longest() const { return drain_delay + drain_grace + cut + stop_timeout; }
};

constexpr StopPlan PlanStop(StopPlan wanted, std::optional<Milliseconds> budget) {
  const Milliseconds total = wanted.Longest();
  if (!budget || total <= *budget || total.count() == 0) return wanted;
  // In floating point: months times months of milliseconds fit into no integer.
  const auto scaled = [&](Milliseconds part) {
    return Milliseconds(static_cast<int64_t>(static_cast<double>(part.count()) *
                                             static_cast<double>(budget->count()) /
                                             static_cast<double>(total.count())));
  };
  return {scaled(wanted.drain_delay), scaled(wanted.drain_grace), scaled(wanted.stop_timeout),
          scaled(wanted.cut)};
}

}  // namespace modal::lifecycle

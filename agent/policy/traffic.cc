#include "agent/policy/traffic.h"

#include <algorithm>
#include <type_traits>

namespace modal::policy {

// One is the other with atomics in it, so that they can be added up cell by cell.
static_assert(sizeof(TrafficStatus) == sizeof(TrafficCounters));
static_assert(sizeof(TrafficStatus) % sizeof(uint64_t) == 0);
static_assert(std::is_trivially_copyable_v<TrafficStatus>);
static_assert(std::is_standard_layout_v<TrafficCounters>);

std::string_view RefusalName(Refusal refusal) {
  constexpr std::array<std::string_view, kRefusalCount> kNames{
      "not_ready",        "draining",         "unauthorized",    "forbidden",
      "rate_limited",     "queue_full",       "queue_timeout",   "bad_request",
      "request_timeout",  "header_too_large", "body_too_large",  "message_too_large",
      "upstream_connect", "upstream_answer",  "connect_timeout", "first_byte_timeout",
      "idle_timeout",     "total_timeout"};
  const auto index = static_cast<size_t>(refusal);
  return index < kNames.size() ? kNames[index] : "unknown";
}

void Observe(BasicHistogram<Counter>& histogram, uint64_t microseconds) {
  const auto* const bound =
      std::lower_bound(kLatencyBounds.begin(), kLatencyBounds.end(), microseconds);
  histogram.buckets[bound - kLatencyBounds.begin()].Add(1);
  histogram.sum_us.Add(microseconds);
}

void AddTo(TrafficStatus& sum, const TrafficCounters& counters) {
  auto* const to = reinterpret_cast<uint64_t*>(&sum);
  const auto* const from = reinterpret_cast<const Counter*>(&counters);
  for (size_t i = 0; i < sizeof sum / sizeof(uint64_t); ++i) to[i] += from[i].value();
}

}  // namespace modal::policy

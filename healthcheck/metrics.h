// The status in Prometheus' text format (version 0.0.4).
//
// Every name starts with `modal_agent_`; counters end in `_total`; durations are in seconds. A
// metric whose value is not known yet is left out, with its HELP and TYPE lines. Names are stable.
// `now_unix_ms` is the time of the scrape, in milliseconds since 1970.
#pragma once

#include <string>
#include <string_view>

#include "healthcheck/status.h"

namespace modal::health {

inline constexpr std::string_view kMetricsContentType = "text/plain; version=0.0.4; charset=utf-8";

std::string Metrics(const AgentStatus& status, const GatewayStatus* gateway, int64_t now_unix_ms);

}  // namespace modal::health

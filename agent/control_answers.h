// What the agent's answers mean, for people. Pure.
//
// The text comes from a running agent, which may be of another version: a key that is missing or of
// another type is left out of what is shown, never an error. Text that is no JSON object is one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace modal {

struct HealthAnswer {
  bool healthy = false;
  std::string line;  // "healthy (Serving)", "not healthy (WaitingForPort): nothing listens ..."
};
Result<HealthAnswer> ReadHealthAnswer(std::string_view json);

// The answers to `drain` and `reload`, as lines for people: an Error with the agent's own words if
// it refused.
Result<std::string> ReadDrainAnswer(std::string_view json);
Result<std::string> ReadReloadAnswer(std::string_view json);

// The status as lines of "name  value".
Result<std::string> StatusTable(std::string_view json, int64_t now_unix_ms);

// How the server came to be, and the steps of that as bars, for a terminal of this width.
Result<std::string> TimelineText(std::string_view json, size_t width);

}  // namespace modal

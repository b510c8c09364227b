// Files for --env-file, in the format of `docker run --env-file`. Pure.
//
//   # a comment (only where # is the first character that is not blank)
//   GREETING=hello world     the value is everything after the first =, quotes and blanks included
//   EMPTY=
//   API_KEY                  no =: taken over from the agent's own environment, if it is there
//
// Blanks before a name are skipped. A name holds no blanks.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace modal {

struct EnvironmentEntry {
  std::string name;
  std::optional<std::string> value;  // empty: take it over
};

// In the order of the file. Errors read "NAME:LINE: ..." and hold no values.
Result<std::vector<EnvironmentEntry>> ParseEnvFile(std::string_view text, const std::string& name);

// One NAME=value or NAME, as after --env.
Result<EnvironmentEntry> ParseEnvironmentEntry(std::string_view text);

}  // namespace modal

// The option words, parsed: which flags were used, with which values. The only place that knows
// the library for it.
#pragma once

#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/cli_words.h"
#include "agent/config.h"
#include "agent/snapshot_request.h"

namespace modal {

struct ParsedOptions {
  std::vector<FlagUse> flags;
  std::string environment;  // --environment of `token`
  PruneWords prune;         // of `snapshot prune`
  bool json = false;
  bool timeline = false;  // of `status`
  bool help = false;
  bool version = false;
};

// An Error names the option: one that is unknown (with the nearest), that this subcommand does not
// take, or that lacks its value.
Result<ParsedOptions> ParseOptionWords(const CommandWords& words);

// Whether the subcommand of this name (CommandWords; empty: none) takes that setting; likewise
// --json.
bool TakesSetting(std::string_view name, const Setting& setting);
bool TakesJson(std::string_view name);

}  // namespace modal

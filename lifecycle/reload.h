// What a reload does with each setting: takes it over at once, or leaves it for the next start.
#pragma once

#include <string>
#include <vector>

#include "lifecycle/options.h"

namespace modal::lifecycle {

// Settings by the names that users know: "stop-timeout".
struct ReloadOutcome {
  std::vector<std::string> changed;  // in force now
  std::vector<std::string> waiting;  // different from what was started, and for the next start
};

// Takes over from `fresh` what may change while the agent runs. `running` keeps all else as it was
// at the start, so a setting that waits is named at every reload. (The log's settings are not among
// the Options.)
ReloadOutcome TakeOver(const Options& fresh, Options& running);

}  // namespace modal::lifecycle

// Whether a snapshot can be restored where we are, as far as that can be told without trying. Pure,
// but for the clock.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "snapshot/manifest.h"
#include "snapshot/verdict.h"

namespace modal::snapshot {

// CLOCK_BOOTTIME, as restored processes see it.
uint64_t UptimeMs();

// What a snapshot whose key fits may still be left alone for: what is known of its worth, and the
// uptime that it needs (without a time namespace the monotonic clock would go back for restored
// processes). One sentence each, without a full stop; none: it may be tried.
std::vector<std::string> WhyNotNow(const Manifest& manifest, const Verdict& verdict,
                                   uint64_t uptime_ms);

// Where somebody would like to restore it. Empty texts are not known, and not compared.
struct Place {
  std::string kernel;  // uname -r
  std::string agent_version;
  std::string criu_build;
  uint64_t uptime_ms = 0;
};

// The same for a snapshot of any key: what its key is made of and the manifest tells comes first.
std::vector<std::string> WhyNotHere(const Manifest& manifest, const Verdict& verdict,
                                    const Place& place);

}  // namespace modal::snapshot

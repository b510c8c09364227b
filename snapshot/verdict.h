// What is known of a snapshot's worth: a few bytes beside it that containers update one after the
// other (store.h). Pure.
//
//   unproven → proven | not worth it     by the time of its first restore
//   any      → quarantined               after two failed restores in a row
//
// Nothing leads out of quarantine but a new snapshot. Where no cold start was measured nothing can
// be judged, and it stays unproven.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/clock.h"
#include "agent/base/result.h"

namespace modal::snapshot {

enum class Standing { kUnproven, kProven, kNotWorthIt, kQuarantined };
std::string_view StandingName(Standing standing);  // "unproven", "proven", "not-worth-it", …

struct Verdict {
  Standing standing = Standing::kUnproven;
  uint32_t failures = 0;          // restores that failed since the last that did not
  uint32_t restores = 0;          // that served
  int64_t first_restore_ms = -1;  // from the agent's start until it was ready
  int64_t last_restore_ms = -1;
  std::string reason;  // one line, of the last failure or of the standing
};

// A restore must take less than this part of a cold start, or it is not worth keeping.
inline constexpr double kWorth = 0.8;
inline constexpr uint32_t kFailuresToQuarantine = 2;

// A restore has served after `restore`, where a cold start had taken `cold`.
Verdict AfterRestore(Verdict verdict, Milliseconds restore, Milliseconds cold);
Verdict AfterFailure(Verdict verdict, std::string_view why);

std::string ToJson(const Verdict& verdict);
Result<Verdict> ParseVerdict(std::string_view text);

}  // namespace modal::snapshot

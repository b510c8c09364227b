#include "snapshot/restorable.h"

#include <time.h>

#include <string_view>

#include "agent/base/strings.h"

namespace modal::snapshot {
namespace {

void Compare(std::string_view what, const std::string& then, const std::string& here,
             std::vector<std::string>& reasons) {
  if (then.empty() || here.empty() || then == here) return;
  reasons.push_back(Concat("it was taken with ", what, " ", then, ", and here is ", here));
}

}  // namespace

uint64_t UptimeMs() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1'000'000;
}

std::vector<std::string> WhyNotNow(const Manifest& manifest, const Verdict& verdict,
                                   uint64_t uptime_ms) {
  std::vector<std::string> reasons;
  if (verdict.standing == Standing::kQuarantined) {
    reasons.push_back(
        Concat("it is quarantined: ", verdict.reason, "; `modal-agent snapshot delete` clears it"));
  }
  if (verdict.standing == Standing::kNotWorthIt) {
    reasons.push_back(Concat("it is not worth it: ", verdict.reason));
  }
  if (uptime_ms < manifest.uptime_ms) {
    reasons.push_back(Concat("this machine runs for ", uptime_ms / 1000,
                             " s only, and it was taken at ", manifest.uptime_ms / 1000,
                             " s: its clocks would go back"));
  }
  return reasons;
}

std::vector<std::string> WhyNotHere(const Manifest& manifest, const Verdict& verdict,
                                    const Place& place) {
  std::vector<std::string> reasons;
  Compare("Linux", manifest.kernel, place.kernel, reasons);
  Compare("modal-agent", manifest.agent_version, place.agent_version, reasons);
  Compare("CRIU build", manifest.criu_build, place.criu_build, reasons);
  for (std::string& reason : WhyNotNow(manifest, verdict, place.uptime_ms)) {
    reasons.push_back(std::move(reason));
  }
  return reasons;
}

}  // namespace modal::snapshot

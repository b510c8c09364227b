#include "snapshot/restorable.h"

#include <doctest/doctest.h>

namespace modal::snapshot {
namespace {

Manifest Taken() {
  Manifest manifest;
  manifest.kernel = "6.1.0";
  manifest.agent_version = "1.2.3";
  manifest.criu_build = "abc";
  manifest.uptime_ms = 60'000;
  return manifest;
}

Place Same() { return {"6.1.0", "1.2.3", "abc", 60'000}; }

TEST_CASE(
    "where everything is as it was, and the machine runs for as long, nothing speaks against") {
  CHECK(WhyNotHere(Taken(), Verdict{}, Same()).empty());
  Verdict proven;
  proven.standing = Standing::kProven;
  CHECK(WhyNotHere(Taken(), proven, Same()).empty());
}

TEST_CASE("every difference is a reason of its own") {
  const std::vector<std::string> reasons =
      WhyNotHere(Taken(), Verdict{}, {"6.1.1", "1.2.4", "abd", 59'999});
  REQUIRE(reasons.size() == 4);
  CHECK(reasons[0] == "it was taken with Linux 6.1.0, and here is 6.1.1");
  CHECK(reasons[1] == "it was taken with modal-agent 1.2.3, and here is 1.2.4");
  CHECK(reasons[2] == "it was taken with CRIU build abc, and here is abd");
  CHECK(reasons[3] ==
        "this machine runs for 59 s only, and it was taken at 60 s: its clocks would go back");
}

TEST_CASE("what is not known is not compared") {
  CHECK(WhyNotHere(Taken(), Verdict{}, {"6.1.0", "1.2.3", "", 60'000}).empty());
  Manifest silent = Taken();
  silent.kernel.clear();
  CHECK(WhyNotHere(silent, Verdict{}, {"6.2.0", "1.2.3", "abc", 60'000}).empty());
}

TEST_CASE("a snapshot that failed or gains nothing is left alone") {
  Verdict verdict;
  verdict.standing = Standing::kQuarantined;
  verdict.reason = "pid taken";
  CHECK(WhyNotNow(Taken(), verdict, 60'000) ==
        std::vector<std::string>{
            "it is quarantined: pid taken; `modal-agent snapshot delete` clears it"});
  verdict.standing = Standing::kNotWorthIt;
  verdict.reason = "slow";
  CHECK(WhyNotNow(Taken(), verdict, 60'000) ==
        std::vector<std::string>{"it is not worth it: slow"});
}

}  // namespace
}  // namespace modal::snapshot

#include "snapshot/verdict.h"

#include <doctest/doctest.h>

#include <limits>

namespace modal::snapshot {
namespace {

using std::chrono_literals::operator""ms;

TEST_CASE("the first restore proves a snapshot, or shows that it is not worth it") {
  const Verdict fast = AfterRestore(Verdict{}, 799ms, 1000ms);
  CHECK(fast.standing == Standing::kProven);
  CHECK(fast.restores == 1);
  CHECK(fast.last_restore_ms == 799);
  CHECK(fast.first_restore_ms == 799);
  CHECK(fast.reason == "restored in 799 ms, a cold start took 1000 ms");
  CHECK(AfterRestore(Verdict{}, 800ms, 1000ms).standing == Standing::kNotWorthIt);
}

TEST_CASE("later restores count, and change no standing") {
  const Verdict proven = AfterRestore(Verdict{}, 10ms, 1000ms);
  const Verdict slow = AfterRestore(proven, 5000ms, 1000ms);
  CHECK(slow.standing == Standing::kProven);
  CHECK(slow.restores == 2);
  CHECK(slow.last_restore_ms == 5000);
  CHECK(slow.first_restore_ms == 10);
}

TEST_CASE("where no cold start was measured nothing is judged") {
  CHECK(AfterRestore(Verdict{}, 10ms, -1ms).standing == Standing::kUnproven);
  CHECK(AfterRestore(Verdict{}, 10ms, 0ms).standing == Standing::kUnproven);
}

TEST_CASE("two failures in a row quarantine, whatever was before, and nothing leads out") {
  const Verdict proven = AfterRestore(Verdict{}, 10ms, 1000ms);
  const Verdict once = AfterFailure(proven, "images/x:\nis missing\x1b[1m");
  CHECK(once.standing == Standing::kProven);
  CHECK(once.reason == "images/x: is missing [1m");
  const Verdict twice = AfterFailure(once, "again");
  CHECK(twice.standing == Standing::kQuarantined);
  CHECK(AfterRestore(twice, 10ms, 1000ms).standing == Standing::kQuarantined);
}

TEST_CASE("a restore between two failures makes them not in a row") {
  Verdict verdict = AfterFailure(Verdict{}, "one");
  verdict = AfterRestore(verdict, 10ms, 1000ms);
  CHECK(verdict.failures == 0);
  verdict = AfterFailure(verdict, "two");
  CHECK(verdict.standing == Standing::kProven);
}

TEST_CASE("counters stay at their highest, and reasons at a length that can be read") {
  Verdict verdict;
  verdict.restores = std::numeric_limits<uint32_t>::max();
  CHECK(AfterRestore(verdict, 1ms, 10ms).restores == std::numeric_limits<uint32_t>::max());
  CHECK(AfterFailure(verdict, std::string(100'000, 'x')).reason.size() == 300);
}

TEST_CASE("a verdict comes back as it was written") {
  for (const Standing standing :
       {Standing::kUnproven, Standing::kProven, Standing::kNotWorthIt, Standing::kQuarantined}) {
    Verdict verdict{standing, 1, 2, 678, 345, "why \"not\""};
    const Result<Verdict> read = ParseVerdict(ToJson(verdict));
    REQUIRE(read);
    CHECK(read->standing == standing);
    CHECK(ToJson(*read) == ToJson(verdict));
  }
}

TEST_CASE("a damaged verdict is an error that names the field") {
  const auto problem = [](std::string_view text) {
    const Result<Verdict> read = ParseVerdict(text);
    return read ? "" : read.error().message();
  };
  CHECK(problem("") == "is not valid JSON at byte 1");
  CHECK(problem("{}") == "standing: is missing");
  CHECK(problem("{\"standing\":\"good\"}") ==
        "standing: is none of unproven, proven, not-worth-it, quarantined");
  const std::string text = ToJson(Verdict{});
  for (size_t size = 0; size + 2 < text.size(); ++size)
    CHECK_FALSE(problem(text.substr(0, size)).empty());
}

}  // namespace
}  // namespace modal::snapshot

#include "lifecycle/stop_plan.h"

#include <doctest/doctest.h>

namespace modal::lifecycle {
namespace {

using namespace std::chrono_literals;

TEST_CASE("without a budget, or with a large one, every part takes what was asked for") {
  const StopPlan wanted{2s, 5s, 30s};
  for (const std::optional<Milliseconds> budget :
       {std::optional<Milliseconds>(), std::optional<Milliseconds>(37s),
        std::optional<Milliseconds>(1h)}) {
    const StopPlan plan = PlanStop(wanted, budget);
    CHECK(plan.drain_delay == 2s);
    CHECK(plan.drain_grace == 5s);
    CHECK(plan.stop_timeout == 30s);
    CHECK(plan.Longest() == 37s);
  }
}

TEST_CASE("a small budget scales every part down in the same proportion") {
  const StopPlan plan = PlanStop({10s, 10s, 20s}, 10s);
  CHECK(plan.drain_delay == 2500ms);
  CHECK(plan.drain_grace == 2500ms);
  CHECK(plan.stop_timeout == 5s);
}

TEST_CASE("no budget is exceeded, whatever is rounded") {
  for (int64_t budget = 0; budget <= 2000; ++budget) {
    const StopPlan plan = PlanStop({333ms, 777ms, 1001ms}, Milliseconds(budget));
    CHECK(plan.Longest().count() <= budget);
    CHECK(plan.Longest().count() >= budget - 3);
  }
}

TEST_CASE("what takes no time takes none under a budget either") {
  const StopPlan plan = PlanStop({0s, 5s, 30s}, 7s);
  CHECK(plan.drain_delay == 0s);
  CHECK(plan.drain_grace == 1s);
  CHECK(plan.stop_timeout == 6s);
  CHECK(PlanStop({0s, 0s, 0s}, 0s).Longest() == 0s);
  CHECK(PlanStop({1s, 5s, 30s}, 0s).Longest() == 0s);
}

TEST_CASE("a plan of months is scaled like any other") {
  constexpr std::chrono::hours kYear(24 * 365);
  const StopPlan plan = PlanStop({kYear, kYear, 2 * kYear}, 2 * kYear);
  CHECK(plan.drain_delay == kYear / 2);
  CHECK(plan.stop_timeout == kYear);
}

}  // namespace
}  // namespace modal::lifecycle

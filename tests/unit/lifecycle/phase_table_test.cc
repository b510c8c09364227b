#include "lifecycle/phase_table.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace modal::lifecycle {
namespace {

constexpr std::array kPhases{Phase::kRestoring,      Phase::kStartupHooks,  Phase::kLaunching,
                             Phase::kWaitingForPort, Phase::kCheckpointing, Phase::kServing,
                             Phase::kDraining,       Phase::kStopping,      Phase::kStopped};
constexpr std::array kTriggers{
    Trigger::kRestored,     Trigger::kRestoreFailed,  Trigger::kDumpDue,
    Trigger::kTrialDue,     Trigger::kStartAgain,     Trigger::kLaunchAgain,
    Trigger::kHooksDone,    Trigger::kHookFailed,     Trigger::kLaunched,
    Trigger::kLaunchFailed, Trigger::kPortOpen,       Trigger::kStartupTimeout,
    Trigger::kTerminate,    Trigger::kTerminateAgain, Trigger::kUnhealthy,
    Trigger::kRestart,      Trigger::kWorkloadExited, Trigger::kAgentFailed,
    Trigger::kDrained,      Trigger::kAllGone};

// Its place in the story.
size_t RankOf(Phase phase) {
  return static_cast<size_t>(std::find(kPhases.begin(), kPhases.end(), phase) - kPhases.begin());
}

bool IsStop(std::optional<Phase> phase) {
  return phase == Phase::kDraining || phase == Phase::kStopping;
}

TEST_CASE("the table is complete in itself: no phase answers one trigger twice") {
  std::set<std::pair<Phase, Trigger>> seen;
  for (const Transition& transition : kTransitions) {
    CHECK(seen.emplace(transition.from, transition.trigger).second);
    CHECK(RankOf(transition.from) < kPhases.size());
    CHECK(RankOf(transition.to) < kPhases.size());
    CHECK(Next(transition.from, transition.trigger) == transition.to);
  }
}

TEST_CASE("every phase reaches Stopped") {
  for (const Phase start : kPhases) {
    std::set<Phase> reached{start};
    for (size_t before = 0; before != reached.size();) {
      before = reached.size();
      for (const Phase phase : std::set<Phase>(reached)) {
        for (const Trigger trigger : kTriggers) {
          if (const auto next = Next(phase, trigger)) reached.insert(*next);
        }
      }
    }
    CAPTURE(health::PhaseName(start));
    CHECK(reached.count(Phase::kStopped) == 1);
  }
}

TEST_CASE("nothing leads out of Stopped") {
  for (const Trigger trigger : kTriggers) CHECK_FALSE(Next(Phase::kStopped, trigger));
}

TEST_CASE("Stopped is reached only when nothing is left") {
  for (const Transition& transition : kTransitions) {
    CHECK((transition.to == Phase::kStopped) == (transition.trigger == Trigger::kAllGone));
  }
}

TEST_CASE("only what is started again or tried leads back") {
  const std::set<Trigger> back{Trigger::kRestart, Trigger::kTrialDue, Trigger::kStartAgain,
                               Trigger::kLaunchAgain};
  for (const Transition& transition : kTransitions) {
    CAPTURE(TriggerName(transition.trigger));
    const bool forward = RankOf(transition.to) > RankOf(transition.from);
    // Of a restored tree that did not serve.
    const bool gives_up =
        transition.trigger == Trigger::kRestoreFailed && transition.from != Phase::kRestoring;
    CHECK(forward == (!back.contains(transition.trigger) && !gives_up));
  }
  CHECK(Next(Phase::kServing, Trigger::kRestart) == Phase::kLaunching);
  CHECK(Next(Phase::kWaitingForPort, Trigger::kRestart) == Phase::kLaunching);
}

TEST_CASE("a first SIGTERM leads to a stop from every phase that is none yet") {
  for (const Phase phase : kPhases) {
    CAPTURE(health::PhaseName(phase));
    const bool stops_already = RankOf(phase) >= RankOf(Phase::kDraining);
    CHECK(IsStop(Next(phase, Trigger::kTerminate)) == !stops_already);
    CHECK(Next(phase, Trigger::kTerminate).has_value() == !stops_already);
  }
}

TEST_CASE("only what has served is drained") {
  for (const Transition& transition : kTransitions) {
    if (transition.to == Phase::kDraining) CHECK(transition.from == Phase::kServing);
  }
}

TEST_CASE("a second SIGTERM skips the drain and changes nothing else") {
  for (const Phase phase : kPhases) {
    const auto next = Next(phase, Trigger::kTerminateAgain);
    CHECK(next == (phase == Phase::kDraining ? std::optional(Phase::kStopping) : std::nullopt));
  }
}

TEST_CASE("the end of the workload leads to the stop from every phase in which it runs") {
  for (const Phase phase :
       {Phase::kWaitingForPort, Phase::kCheckpointing, Phase::kServing, Phase::kDraining}) {
    CHECK(Next(phase, Trigger::kWorkloadExited) == Phase::kStopping);
  }
}

TEST_CASE("an error of the agent stops it from every phase of the start, and when it serves") {
  for (const Phase phase : {Phase::kRestoring, Phase::kStartupHooks, Phase::kLaunching,
                            Phase::kWaitingForPort, Phase::kCheckpointing, Phase::kServing}) {
    CHECK(Next(phase, Trigger::kAgentFailed) == Phase::kStopping);
  }
}

std::vector<Phase> LifeFrom(Phase phase, const std::vector<Trigger>& triggers) {
  std::vector<Phase> life{phase};
  for (const Trigger trigger : triggers) {
    const auto next = Next(life.back(), trigger);
    REQUIRE(next);
    life.push_back(*next);
  }
  return life;
}

TEST_CASE("the life with a first snapshot is one phase after the other") {
  CHECK(LifeFrom(Phase::kRestoring, {Trigger::kRestoreFailed, Trigger::kHooksDone,
                                     Trigger::kLaunched, Trigger::kDumpDue, Trigger::kPortOpen,
                                     Trigger::kTerminate, Trigger::kDrained, Trigger::kAllGone}) ==
        std::vector<Phase>(kPhases.begin(), kPhases.end()));
}

TEST_CASE("without snapshots, nothing is restored and nothing dumped") {
  CHECK(
      LifeFrom(Phase::kStartupHooks, {Trigger::kHooksDone, Trigger::kLaunched, Trigger::kPortOpen,
                                      Trigger::kTerminate, Trigger::kDrained, Trigger::kAllGone}) ==
      std::vector<Phase>{Phase::kStartupHooks, Phase::kLaunching, Phase::kWaitingForPort,
                         Phase::kServing, Phase::kDraining, Phase::kStopping, Phase::kStopped});
}

TEST_CASE("what is restored waits for its port as what was started") {
  CHECK(LifeFrom(Phase::kRestoring, {Trigger::kRestored, Trigger::kPortOpen}) ==
        std::vector<Phase>{Phase::kRestoring, Phase::kWaitingForPort, Phase::kServing});
}

TEST_CASE("every trigger has a name of its own") {
  std::set<std::string_view> names;
  for (const Trigger trigger : kTriggers) names.insert(TriggerName(trigger));
  CHECK(names.size() == kTriggers.size());
  CHECK(names.count("unknown") == 0);
}

}  // namespace
}  // namespace modal::lifecycle

// SIGTERM at every moment of the start is never lost: the agent ends, and the workload with it.
//
// The delays are random, from nothing to well beyond a start; MODAL_TEST_SEED repeats a run, and
// MODAL_TEST_ROUNDS makes it longer. As
// process 1 they begin when the kernel has stopped to drop the signal: it drops what process 1
// neither blocks nor handles, and nobody could do anything about it before.
#include <doctest/doctest.h>
#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <random>
#include <thread>

#include "tests/support/agent_process.h"

namespace modal::test {
namespace {

constexpr int kDefaultRounds = 250;
constexpr int kLongestDelayUs = 20'000;

unsigned Seed() {
  const char* seed = std::getenv("MODAL_TEST_SEED");
  return seed != nullptr ? static_cast<unsigned>(std::strtoul(seed, nullptr, 10))
                         : std::random_device()();
}

int Rounds() {
  const char* rounds = std::getenv("MODAL_TEST_ROUNDS");
  return rounds != nullptr ? std::atoi(rounds) : kDefaultRounds;
}

// One start with one SIGTERM, and what must be true of it.
void StopDuringStart(AgentOptions options, std::chrono::microseconds delay) {
  const bool process_1 = options.process_1;
  AgentProcess agent(std::move(options));
  if (process_1) {
    agent.WaitUntil("signals to be blocked", [&] { return agent.Blocks(SIGTERM); });
  }
  // The delay is what is tested: nothing else is waited for by it.
  std::this_thread::sleep_for(delay);
  agent.Signal(SIGTERM);
  const int code = agent.WaitForExit();
  // Beside process 1 the signal may come before the agent's first instruction: it ends it then.
  if (!process_1 && code == -SIGTERM) {
    REQUIRE(agent.reports().empty());
  } else {
    REQUIRE((code == 0 || code == 128 + SIGTERM));
    REQUIRE(agent.Count("lifecycle.stop") == 1);
  }
  REQUIRE_FALSE(agent.ProgramsLeft());
  if (!process_1) agent.WaitUntilNobodyIsLeft();
}

void Storm(bool process_1) {
  const unsigned seed = Seed();
  INFO("MODAL_TEST_SEED=", seed);
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> delays(0, kLongestDelayUs);
  const int rounds = Rounds();
  for (int round = 0; round < rounds; ++round) {
    AgentOptions options;
    // Hooks or none, gateway or none: the moments of the start differ.
    if (round % 3 == 1) options.arguments = {"--on-enter", "true"};
    if (round % 5 == 1) options.arguments.insert(options.arguments.end(), {"--admin", "off"});
    options.arguments.insert(options.arguments.end(), {"--", kListener});
    options.process_1 = process_1;
    const std::chrono::microseconds delay(round % 10 == 0 ? 0 : delays(random));
    INFO("round ", round, ", after ", delay.count(), " us");
    StopDuringStart(std::move(options), delay);
  }
}

TEST_CASE("SIGTERM at any moment of the start, as process 1") { Storm(true); }

TEST_CASE("SIGTERM at any moment of the start, as any other process") { Storm(false); }

}  // namespace
}  // namespace modal::test

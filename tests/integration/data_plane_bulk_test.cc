// Bodies far larger than any memory that may hold them, and a peer that is slow: the gateway's own
// memory stays as it was. MODAL_TEST_MIB: how large they are (64).
#include <doctest/doctest.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <thread>
#include <utility>

#include "agent/base/strings.h"
#include "tests/support/agent_process.h"
#include "tests/support/origin_agent.h"
#include "tests/support/origin_client.h"

namespace modal::test {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr size_t kMostMemoryKiB = 15 * 1024;
constexpr size_t kMostGrowthKiB = 4 * 1024;

uint64_t Size() {
  const char* mib = std::getenv("MODAL_TEST_MIB");
  return (mib != nullptr ? std::strtoull(mib, nullptr, 10) : 64) * kMiB;
}

// Runs `transfer` beside the agent, and sees how large the gateway gets meanwhile.
void CheckFlat(AgentProcess& agent, const std::function<Outcome(OriginClient&)>& transfer) {
  WaitUntilServed(agent);
  const pid_t gateway = RunningGateway(agent)->host_pid;
  const size_t before = MemoryKiB(gateway, "VmRSS");
  size_t most = before;
  Outcome outcome = Outcome::kStuck;
  std::string what;
  std::atomic<bool> over = false;
  const auto begin = std::chrono::steady_clock::now();
  std::jthread client([&] {
    EnterNetworkOf(agent.pid());
    OriginClient peer(kDataPort, Settings().deadline);
    outcome = transfer(peer);
    what = peer.what();
    over = true;
  });
  // As long as something moves, it may take as long as it takes.
  double moved = 0;
  while (!over) {
    agent.WaitUntil("a body to move on", [&] {
      most = std::max(most, MemoryKiB(gateway, "VmRSS"));
      if (over) return true;
      const double now =
          Metric(agent, "modal_received_bytes_total") + Metric(agent, "modal_sent_bytes_total");
      return std::exchange(moved, now) != now;
    });
  }
  client.join();
  INFO(what);
  CHECK(Name(outcome) == std::string("right"));
  WaitForMetric(agent, "modal_requests_in_flight", 0);
  CHECK(RunningGateway(agent)->host_pid == gateway);
  const auto took = std::chrono::steady_clock::now() - begin;
  MESSAGE(std::to_string(Size() / kMiB), " MiB in ",
          std::chrono::duration_cast<std::chrono::milliseconds>(took).count(), " ms; gateway KiB ",
          before, " -> at most ", most, ", peak ", MemoryKiB(gateway, "VmHWM"));
  if (!Settings().sanitized) {
    CHECK(MemoryKiB(gateway, "VmHWM") <= kMostMemoryKiB);
    CHECK(most <= before + kMostGrowthKiB);
  }
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

// Takes nothing for a while, again and again: all buffers on the way are full then. That it is slow
// is what is tested: nothing is waited for by it.
std::function<void(uint64_t)> Stalling() {
  return [next = uint64_t{0}](uint64_t place) mutable {
    if (place < next) return;
    next = place + Size() / 16;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  };
}

TEST_CASE("a large download, and a client that takes it slowly: the gateway does not grow") {
  AgentProcess agent(DataPlaneOptions({}));
  bool chunked = false;
  SUBCASE("of known length") { chunked = false; }
  SUBCASE("chunked") { chunked = true; }
  CheckFlat(agent, [chunked](OriginClient& client) {
    client.set_receive_buffer(64 * 1024);
    return client.Download(12'345, Size(), chunked, Stalling());
  });
}

TEST_CASE("a large upload, and a server that takes it slowly: the gateway does not grow") {
  AgentProcess agent(DataPlaneOptions({"--max-body", "8GiB"}));
  bool chunked = false;
  SUBCASE("of known length") { chunked = false; }
  SUBCASE("chunked") { chunked = true; }
  CheckFlat(agent,
            [chunked](OriginClient& client) { return client.Upload(54'321, Size(), chunked, 1); });
}

}  // namespace
}  // namespace modal::test

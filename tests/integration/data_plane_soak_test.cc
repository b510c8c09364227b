// Mixed traffic through the gateway, while its process and the server are killed in turns.
//
// MODAL_TEST_SECONDS: how long it goes on (20); MODAL_TEST_PAUSE: seconds between two kills (3);
// MODAL_TEST_SEED repeats the mix.
#include <doctest/doctest.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "agent/base/strings.h"
#include "tests/support/agent_process.h"
#include "tests/support/origin_agent.h"
#include "tests/support/origin_client.h"

namespace modal::test {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr unsigned kClients = 10;
constexpr size_t kMostMemoryKiB = 15 * 1024;
constexpr size_t kMostGrowthKiB = 1024;

unsigned FromEnvironment(const char* name, unsigned otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr ? static_cast<unsigned>(std::strtoul(value, nullptr, 10)) : otherwise;
}

// A kind of request; how often; how it is made.
struct Kind {
  const char* name;
  int weight;
  Outcome (*run)(OriginClient& client, std::mt19937_64& random);
  Outcome usual;  // when nobody is killed
};

uint64_t Between(std::mt19937_64& random, uint64_t least, uint64_t most) {
  return std::uniform_int_distribution<uint64_t>(least, most)(random);
}

// Mostly some KiB, now and then some MiB.
uint64_t BodySize(std::mt19937_64& random) {
  return random() % 8 == 0 ? Between(random, 1 << 20, 16 << 20) : Between(random, 0, 200'000);
}

const Kind kKinds[] = {
    {"small", 60,
     [](OriginClient& client, std::mt19937_64& random) {
       return client.Small(std::to_string(random()));
     },
     Outcome::kRight},
    {"download", 12,
     [](OriginClient& client, std::mt19937_64& random) {
       return client.Download(random() >> 1, BodySize(random), random() % 2 == 0);
     },
     Outcome::kRight},
    {"upload", 12,
     [](OriginClient& client, std::mt19937_64& random) {
       return client.Upload(random() >> 1, BodySize(random), random() % 2 == 0);
     },
     Outcome::kRight},
    {"events", 4,
     [](OriginClient& client, std::mt19937_64& random) {
       return client.Events(random() >> 1, static_cast<int>(Between(random, 1, 50)));
     },
     Outcome::kRight},
    {"websocket", 4,
     [](OriginClient& client, std::mt19937_64& random) {
       return client.WebSocket(random() >> 1, static_cast<int>(Between(random, 1, 30)), 60'000);
     },
     Outcome::kRight},
    {"slow", 2,
     [](OriginClient& client, std::mt19937_64& random) {
       return client.Slow(static_cast<int>(Between(random, 1, 1'000)));
     },
     Outcome::kRight},
    {"server breaks off", 3,
     [](OriginClient& client, std::mt19937_64& random) {
       const uint64_t size = BodySize(random) + 1;
       return client.Aborted(random() >> 1, size, random() % size, random() % 2 == 0);
     },
     Outcome::kCut},
    {"client leaves a download", 2,
     [](OriginClient& client, std::mt19937_64& random) {
       const uint64_t size = BodySize(random) + 1;
       return client.LeaveDownload(random() >> 1, size, random() % size);
     },
     Outcome::kRight},
    {"client leaves an upload", 2,
     [](OriginClient& client, std::mt19937_64& random) {
       const uint64_t size = BodySize(random) + 1;
       return client.LeaveUpload(random() >> 1, size, random() % size);
     },
     Outcome::kRight},
};

const Kind& AnyKind(std::mt19937_64& random) {
  int total = 0;
  for (const Kind& kind : kKinds) total += kind.weight;
  auto at = static_cast<int>(random() % static_cast<uint64_t>(total));
  for (const Kind& kind : kKinds) {
    if ((at -= kind.weight) < 0) return kind;
  }
  return kKinds[0];
}

class Traffic {
 public:
  Traffic(pid_t network, unsigned seed) {
    for (unsigned i = 0; i < kClients; ++i) {
      threads_.emplace_back([this, network, number = seed + i] { Run(network, number); });
    }
  }
  ~Traffic() { Stop(); }

  void Stop() {
    over_ = true;
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }
  uint64_t requests() const { return requests_; }
  // Names of kinds, and how they ended.
  std::map<std::string, std::map<Outcome, uint64_t>> outcomes() {
    const std::lock_guard lock(mutex_);
    return outcomes_;
  }
  std::vector<std::string> faults() {
    const std::lock_guard lock(mutex_);
    return faults_;
  }
  // Those that ended as they only may while something is being killed.
  std::vector<std::string> hits() {
    const std::lock_guard lock(mutex_);
    return hits_;
  }

 private:
  void Run(pid_t network, unsigned seed) {
    EnterNetworkOf(network);
    std::mt19937_64 random(seed);
    OriginClient client(kDataPort, Settings().deadline);
    while (!over_) {
      const Kind& kind = AnyKind(random);
      const Outcome outcome = kind.run(client, random);
      // Not as long as Retry-After says, and still no more of them than of all others.
      if (outcome == Outcome::kRefused) std::this_thread::sleep_for(std::chrono::milliseconds(20));
      ++requests_;
      const std::lock_guard lock(mutex_);
      ++outcomes_[kind.name][outcome];
      const std::string told =
          Concat(kind.name, ": ", Name(outcome), " ", client.last_status(), " ", client.what());
      if (outcome == Outcome::kWrong || outcome == Outcome::kStuck) faults_.push_back(told);
      // Breaking off before the answer's head is out is a 502.
      const bool broke_early = kind.usual == Outcome::kCut && outcome == Outcome::kRefused;
      if (outcome != kind.usual && !broke_early && hits_.size() < 10) hits_.push_back(told);
    }
  }

  std::atomic<bool> over_ = false;
  std::atomic<uint64_t> requests_ = 0;
  std::mutex mutex_;
  std::map<std::string, std::map<Outcome, uint64_t>> outcomes_;
  std::vector<std::string> faults_, hits_;
  std::vector<std::thread> threads_;
};

std::string Table(Traffic& traffic) {
  std::string table;
  for (const auto& [kind, counts] : traffic.outcomes()) {
    table += Concat("\n  ", kind, ":");
    for (const auto& [outcome, count] : counts) table += Concat(" ", Name(outcome), " ", count);
  }
  return table;
}

TEST_CASE("traffic of every kind, while gateway and server are killed in turns: no wrong byte") {
  const unsigned seconds = FromEnvironment("MODAL_TEST_SECONDS", 20);
  const unsigned pause = FromEnvironment("MODAL_TEST_PAUSE", 3);
  const unsigned seed = FromEnvironment("MODAL_TEST_SEED", std::random_device()());
  INFO("MODAL_TEST_SEED=", seed);
  AgentProcess agent(DataPlaneOptions({"--restart", "on-failure"}));
  WaitUntilServed(agent);
  const auto begin = SteadyClock::now();
  Traffic traffic(agent.pid(), seed);

  // Undisturbed, every request ends as it should; and everything has been in memory once.
  const auto calm_end = begin + std::chrono::seconds(pause);
  agent.WaitUntil("a calm while",
                  [&] { return SteadyClock::now() > calm_end && traffic.requests() > 200; });
  for (const std::string& hit : traffic.hits()) FAIL_CHECK("undisturbed: ", hit);
  const size_t supervisor_before = agent.ResidentMemoryKiB();
  const size_t gateway_before = MemoryKiB(RunningGateway(agent)->host_pid, "VmRSS");

  size_t gateway_kills = 0, server_kills = 0, gateway_peak = 0;
  std::vector<size_t> sizes;
  const auto end = begin + std::chrono::seconds(seconds);
  for (auto next = calm_end; SteadyClock::now() < end; next += std::chrono::seconds(pause)) {
    agent.WaitUntil("time for the next one", [&] { return SteadyClock::now() > next; });
    agent.WaitUntil("a gateway", [&] { return RunningGateway(agent).has_value(); });
    const ProcessSeen gateway = *RunningGateway(agent);
    gateway_peak = std::max(gateway_peak, MemoryKiB(gateway.host_pid, "VmHWM"));
    sizes.push_back(MemoryKiB(gateway.host_pid, "VmRSS"));
    const uint64_t before = traffic.requests();
    if (gateway_kills <= server_kills) {
      agent.SignalInside(gateway, SIGKILL);
      agent.WaitFor("gateway.start", {}, ++gateway_kills + 1);
    } else {
      agent.SignalInside(agent.Processes(kOrigin).at(0), SIGKILL);
      agent.WaitFor("lifecycle.ready", {}, ++server_kills + 1);
    }
    agent.WaitUntil("traffic to go on", [&] { return traffic.requests() > before + 50; });
    if (!traffic.faults().empty()) break;
  }
  agent.WaitUntil("the end", [&] { return SteadyClock::now() > end; });
  traffic.Stop();

  for (const std::string& fault : traffic.faults()) FAIL_CHECK(fault);
  for (const auto& row : traffic.outcomes()) {
    const auto& [kind, counts] = row;
    INFO(row.first);
    CHECK((counts.contains(Outcome::kRight) || counts.contains(Outcome::kCut)));
  }
  CHECK(gateway_kills > 0);
  CHECK(server_kills > 0);
  CHECK(agent.Count("gateway.exit") == gateway_kills);
  // A server that was lost a moment ago is not there yet for the last of them.
  agent.WaitUntil("an answer", [&] { return agent.Get(kDataPort, "/small?x").status == 200; });
  WaitForMetric(agent, "modal_requests_in_flight", 0);
  WaitForMetric(agent, "modal_websockets", 0);
  WaitForMetric(agent, "modal_requests_queued", 0);
  const ProcessSeen gateway = *RunningGateway(agent);
  const size_t gateway_after = MemoryKiB(gateway.host_pid, "VmRSS");
  const size_t supervisor_after = agent.ResidentMemoryKiB();
  gateway_peak = std::max(gateway_peak, MemoryKiB(gateway.host_pid, "VmHWM"));
  if (!Settings().sanitized) {
    CHECK(gateway_peak <= kMostMemoryKiB);
    CHECK(supervisor_after <= supervisor_before + kMostGrowthKiB);
  }
  std::string all_sizes;
  for (const size_t size : sizes) all_sizes += Concat(" ", size);
  MESSAGE(std::to_string(traffic.requests()), " requests, ", gateway_kills,
          " kills of the gateway, ", server_kills, " of the server", Table(traffic),
          "\n  supervisor KiB ", supervisor_before, " -> ", supervisor_after, ", gateway KiB ",
          gateway_before, " -> ", gateway_after, ", peak ", gateway_peak,
          ", before each kill:", all_sizes);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

}  // namespace
}  // namespace modal::test

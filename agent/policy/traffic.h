// What the data plane has carried. Each gateway thread counts for itself (TrafficCounters, one
// writer, no locks); the sum goes to the board (TrafficStatus, plain bytes).
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace modal::policy {

// Why a request was not carried, or its answer not the server's.
enum class Refusal : uint32_t {
  kNotReady,          // 503: the server is starting, or was lost
  kDraining,          // 503: we are about to stop
  kUnauthorized,      // 401
  kWrongEnvironment,  // 403
  kRateLimited,       // 429
  kQueueFull,         // 503: --max-concurrency, and nobody else may wait
  kQueueTimeout,      // 503: waited for a place in vain
  kBadRequest,        // 400 and its like: no HTTP, or none that is served here
  kRequestTimeout,    // 408: head or body did not come
  kHeaderTooLarge,    // 431, 414
  kBodyTooLarge,      // 413
  kMessageTooLarge,   // WebSocket close 1009
  kUpstreamConnect,   // 502: the server could not be reached
  kUpstreamAnswer,    // 502, or cut: the server ended early, or its answer is no HTTP
  kConnectTimeout,    // 504
  kFirstByteTimeout,  // 504
  kIdleTimeout,       // 504, or cut: the answer stopped coming
  kTotalTimeout,      // 504, or cut: --request-timeout
};
inline constexpr size_t kRefusalCount = 18;

// "not_ready", "rate_limited", ...: the label of the metric and the `error` of the answer.
std::string_view RefusalName(Refusal refusal);

// Upper bounds of the latency histograms in microseconds; the last bucket has none.
inline constexpr std::array<uint32_t, 16> kLatencyBounds{
    500,     1'000,   2'500,     5'000,     10'000,    25'000,     50'000,     100'000,
    250'000, 500'000, 1'000'000, 2'500'000, 5'000'000, 10'000'000, 30'000'000, 60'000'000};

template <class Cell>
struct BasicHistogram {
  Cell buckets[kLatencyBounds.size() + 1];  // each for itself, not cumulative
  Cell sum_us;

  bool operator==(const BasicHistogram&) const = default;
};

template <class Cell>
struct BasicTraffic {
  Cell requests;        // heads that were well-formed
  Cell by_status[500];  // finished with this status: 100 to 599
  Cell refused[kRefusalCount];
  Cell client_gone;  // the client left before it had its answer
  Cell upstream_retries;
  Cell websockets_opened;
  Cell bytes_received;         // from clients: heads and bodies
  Cell bytes_sent;             // to clients
  Cell tunnel_bytes_received;  // the same after an Upgrade
  Cell tunnel_bytes_sent;
  BasicHistogram<Cell> latency;  // from the first byte of the head to the last of the answer
  BasicHistogram<Cell>
      upstream_latency;  // from the request's sending to the first byte of the answer

  // Gauges.
  Cell in_flight;  // with the server, WebSockets included
  Cell queued;     // wait for a place
  Cell held;       // wait for the server to be ready
  Cell websockets;
  Cell client_connections;
  Cell upstream_connections;
  Cell upstream_idle;

  bool operator==(const BasicTraffic&) const = default;
};

// A number with one writer that others may read at any time.
class Counter {
 public:
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }
  void Add(uint64_t more) { value_.store(value() + more, std::memory_order_relaxed); }
  void Set(uint64_t value) { value_.store(value, std::memory_order_relaxed); }
  void Subtract(uint64_t less) { value_.store(value() - less, std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

using TrafficStatus = BasicTraffic<uint64_t>;
using TrafficCounters = BasicTraffic<Counter>;

void Observe(BasicHistogram<Counter>& histogram, uint64_t microseconds);
// Adds what one thread has counted to `sum`.
void AddTo(TrafficStatus& sum, const TrafficCounters& counters);

}  // namespace modal::policy

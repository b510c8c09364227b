#include "healthcheck/checks.h"

#include <algorithm>
#include <utility>

#include "agent/base/strings.h"
#include "healthcheck/port_wait.h"

namespace modal::health {
namespace {

constexpr uint32_t kQuietMs = 1000;

// Every time is known: the kernel is one that tells.
bool HasTimes(const Connection& connection) {
  return connection.last_sent_ms && connection.last_received_ms && connection.bytes_received;
}

bool ServerSpokeLast(const Connection& connection) {
  if (*connection.last_sent_ms != *connection.last_received_ms) {
    return *connection.last_sent_ms < *connection.last_received_ms;
  }
  // Both within one tick: a quick answer to the last request, or one more request right after the
  // last answer. Then requests are ahead, unless answers take more segments than requests.
  if (!connection.segments_received || !connection.segments_sent) return false;
  return *connection.segments_sent >= *connection.segments_received;
}

bool MayCarryRequest(const Connection& connection) {
  if (connection.receive_queue != 0 || connection.send_queue != 0) return true;
  if (!HasTimes(connection)) return true;
  // Both times count from the moment the connection was made until there is data.
  if (*connection.bytes_received == 0) return *connection.last_received_ms <= kQuietMs;
  return *connection.last_sent_ms <= kQuietMs || !ServerSpokeLast(connection);
}

}  // namespace

std::optional<std::string> CheckPortListens(SocketTable& table, uint16_t port,
                                            const std::set<uint64_t>& before,
                                            bool loopback_is_enough) {
  const Result<std::vector<ListeningSocket>> listeners = table.Listeners(port);
  if (!listeners) return std::nullopt;
  AnySocketOwner owners;  // they were asked when the port opened
  const PortVerdict verdict = JudgePort(*listeners, port, before, loopback_is_enough, owners);
  if (verdict.state == PortState::kOpen) return std::nullopt;
  if (verdict.state == PortState::kClosed) {
    return Concat("nothing listens on port ", port, " any more");
  }
  return Concat("listening only on ", verdict.socket.local.ToString(),
                " now, which nothing outside this container can reach");
}

std::optional<std::string> AcceptQueueCheck::Check() {
  std::set<std::string> before = std::exchange(waiting_, {});
  const Result<std::vector<ListeningSocket>> listeners = table_.Listeners(port_);
  if (!listeners) return std::nullopt;
  if (std::none_of(listeners->begin(), listeners->end(),
                   [](const ListeningSocket& listener) { return listener.accept_queue != 0; })) {
    return std::nullopt;
  }
  const Result<std::vector<Connection>> connections = table_.Connections(port_);
  if (!connections) return std::nullopt;
  size_t stuck = 0;
  for (const Connection& connection : *connections) {
    if (connection.inode != 0) continue;
    std::string ends = Concat(connection.local.ToString(), " ", connection.remote.ToString());
    if (before.count(ends) != 0) ++stuck;
    waiting_.insert(std::move(ends));
  }
  if (stuck == 0) return std::nullopt;
  return Concat(stuck, stuck == 1 ? " connection waits" : " connections wait", " at port ", port_,
                " and nothing was accepted since the last check");
}

size_t CountInFlight(const std::vector<Connection>& connections) {
  return static_cast<size_t>(
      std::count_if(connections.begin(), connections.end(), MayCarryRequest));
}

HealthState::Verdict HealthState::Succeeded() {
  consecutive_ = 0;
  return Verdict::kHealthy;
}

HealthState::Verdict HealthState::Failed() {
  ++consecutive_;
  return consecutive_ >= threshold_ ? Verdict::kUnhealthy : Verdict::kFailing;
}

}  // namespace modal::health

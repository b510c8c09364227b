// The health checks of a serving workload that need no request: does its port still listen, and
// does anybody accept? And the count of failures that turns into a verdict.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "healthcheck/socket_table.h"

namespace modal::health {

// Whether the port still has a listener. Nothing if it does, else a sentence. A table that cannot
// be read says nothing about the server, so that is not a failure of its.
std::optional<std::string> CheckPortListens(SocketTable& table, uint16_t port,
                                            const std::set<uint64_t>& before,
                                            bool loopback_is_enough);

// A connection that waits in the accept queue (it has no inode yet) at two checks in a row was not
// accepted for a whole interval, and since a queue is first in, first out, nothing behind it was.
// Connections are listed only when a listener of the port has any in its queue.
class AcceptQueueCheck {
 public:
  AcceptQueueCheck(SocketTable& table, uint16_t port) : table_(table), port_(port) {}
  // Nothing if connections are being accepted, else a sentence. Call once an interval.
  std::optional<std::string> Check();

 private:
  SocketTable& table_;
  uint16_t port_;
  std::set<std::string> waiting_;  // both ends of what was in the queue at the last check
};

// Connections to `port` that may carry a request: all established ones, except those whose queues
// are empty and whose last data was sent by the server more than a second ago, and those that have
// stood for more than a second without a byte from the client. Where the kernel does not tell
// times, every connection counts. When both sides spoke within one tick of the kernel's clock,
// those who answer have sent at least as many segments as they got; with less, a request is still
// being worked on.
size_t CountInFlight(const std::vector<Connection>& connections);

// Counts failures in a row: from the threshold on (0 means 1) the verdict is kUnhealthy. Pure.
class HealthState {
 public:
  explicit HealthState(uint32_t threshold) : threshold_(threshold) {}

  enum class Verdict { kHealthy, kFailing, kUnhealthy };
  Verdict Succeeded();
  Verdict Failed();
  uint32_t consecutive_failures() const { return consecutive_; }
  void Reset() { consecutive_ = 0; }

 private:
  uint32_t threshold_;
  uint32_t consecutive_ = 0;
};

}  // namespace modal::health

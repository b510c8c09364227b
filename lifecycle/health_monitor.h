// Looks after a serving workload: every interval its port must still listen, its accept queue must
// move, and --health-path must answer. So many failures in a row make it unhealthy.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "healthcheck/checks.h"
#include "healthcheck/socket_table.h"
#include "lifecycle/gateway.h"

namespace modal::lifecycle {

class HealthMonitor {
 public:
  struct Options {
    uint16_t port;
    std::string address;  // numeric: where to reach it from in here
    std::string path;     // empty: none
    Milliseconds interval;
    Milliseconds timeout;
    uint32_t threshold;
    std::set<uint64_t> before;        // listeners that do not count
    bool loopback_is_enough = false;  // a gateway stands in front
    // For a server that is at no port of this host: why nobody reaches it, if so. Empty: look at
    // the port.
    std::function<std::optional<std::string>()> instead_of_port = nullptr;
  };
  struct Report {
    uint64_t checks = 0;
    uint64_t failures = 0;
    uint32_t consecutive = 0;
    std::string last_failure;
  };

  // `gateway` is needed if there is a path. `on_checked` runs after each check, `on_unhealthy`
  // once.
  HealthMonitor(Clock& clock, Log& log, health::SocketTable& table, Gateway* gateway,
                Options options, std::function<void(const Report&)> on_checked,
                std::function<void(const std::string&)> on_unhealthy);
  ~HealthMonitor();

  void Start();

 private:
  void Check();
  std::optional<std::string> Look();
  void Done(const std::string& failure);
  void Failed(const std::string& failure);

  Clock& clock_;
  Log& log_;
  health::SocketTable& table_;
  Gateway* gateway_;
  Options options_;
  std::function<void(const Report&)> on_checked_;
  std::function<void(const std::string&)> on_unhealthy_;
  health::AcceptQueueCheck accept_queue_;
  health::HealthState state_;
  Report report_;
  std::unique_ptr<Timer> next_;
  std::shared_ptr<bool> alive_;  // false once we are gone: a probe may outlive us
};

}  // namespace modal::lifecycle

// The gateway as the supervisor sees it: a helper process that answers on the admin address and
// makes the HTTP requests of health checks.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "agent/base/clock.h"
#include "healthcheck/status.h"

namespace modal::lifecycle {

struct ProbeResult {
  int status = 0;     // of HTTP; 0: there was none
  std::string error;  // then why

  // 2xx and 3xx are healthy.
  bool ok() const { return status >= 200 && status < 400; }
};

class Gateway {
 public:
  virtual ~Gateway() = default;

  virtual void Start() = 0;
  // Ends it for good. Nothing is called back after this.
  virtual void Stop() = 0;
  // GET `path` at the workload, which is reached at `address` (numeric). `on_result` runs once,
  // from the loop; never after Stop().
  virtual void Probe(const std::string& address, uint16_t port, const std::string& path,
                     Milliseconds timeout, std::function<void(const ProbeResult&)> on_result) = 0;
  virtual std::optional<health::GatewayStatus> status() const = 0;
  virtual uint32_t restarts() const = 0;
};

}  // namespace modal::lifecycle

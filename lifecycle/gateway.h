// The gateway as the supervisor sees it: a helper process that answers on the admin address, makes
// the HTTP requests of health checks, and carries requests to the server (--listen).
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "agent/base/clock.h"
#include "agent/base/result.h"
#include "healthcheck/gateway_channel.h"
#include "healthcheck/status.h"
#include "lifecycle/data_plane.h"

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
  // How requests are to be met from now on; a gateway that starts anew is told too. `on_drained`
  // belongs to kDraining and kCutting: it runs once, from the loop, when nothing is in flight any
  // more, be it because the gateway has ended; never if another call comes first, or after Stop().
  virtual void SetCarriage(health::Carriage carriage, std::function<void()> on_drained) = 0;
  // Other settings from now on, and the access log opened again. After an error the old ones stay.
  virtual Result<void> Reconfigure(const DataPlane& data_plane) = 0;
  virtual std::optional<health::GatewayStatus> status() const = 0;
  virtual uint32_t restarts() const = 0;
};

}  // namespace modal::lifecycle

// What the gateway does, apart from being a process: serves the admin endpoints from the
// supervisor's board, makes its probes, carries out its orders on the data plane (where there is
// one), and keeps its own board.
//
// The own board is written when something on it has changed, once a turn of the loop; with no
// connection open and no probe running nothing wakes the loop. Loop and clock outlive the service.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "adapters/policy_set.h"
#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/result.h"
#include "agent/base/status_board.h"
#include "agent/base/unique_fd.h"
#include "agent/event/before_wait.h"
#include "agent/event/loop.h"
#include "agent/gateway_data_plane.h"
#include "agent/gateway_probes.h"
#include "agent/http/server.h"
#include "healthcheck/status.h"

namespace modal {

// How many connections may be open at once where a process may have this many descriptors: those
// that it needs for itself and for probes are left free.
struct ConnectionLimits {
  size_t admin;
  size_t data;
};
ConnectionLimits MostConnections(uint64_t descriptors, size_t admin_listeners,
                                 size_t data_listeners);

class GatewayService {
 public:
  struct Parts {
    UniqueFd channel;                 // to the supervisor
    BoardMapping agent_board;         // of an AgentStatus, to read
    BoardMapping own_board;           // of a GatewayStatus, to write
    std::vector<UniqueFd> listeners;  // the admin port's
    size_t most_connections = 0;      // on the admin port

    // The data plane.
    std::shared_ptr<const adapters::PolicySet> policy;
    UniqueFd access_log;
    std::vector<UniqueFd> data_listeners;  // none: there is no data plane
    size_t most_data_connections = 0;
  };

  // `on_closed` runs once, from the loop, when the supervisor has closed the channel.
  // `log` is the agent's own.
  static Result<std::unique_ptr<GatewayService>> Start(event::Loop& loop, Clock& clock, Log& log,
                                                       Parts parts,
                                                       std::function<void()> on_closed);

  // The process is sealed, as far as it can be: work begins.
  void Run(bool sealed);

 private:
  GatewayService(event::Loop& loop, Clock& clock, Log& log, Parts& parts);

  void Answer(const http::Request& request, http::Responder responder) const;
  health::GatewayStatus Status() const;
  void OnOrder(const health::GatewayRequest& request, GatewayProbes::Descriptors descriptors);
  void PublishChanges();

  Log& log_;
  const int32_t pid_;
  BoardReader<health::AgentStatus> agent_board_;
  BoardWriter<health::GatewayStatus> own_board_;
  health::GatewayStatus published_{};
  bool sealed_ = false;
  http::Server server_;
  std::unique_ptr<GatewayDataPlane> data_plane_;
  std::unique_ptr<GatewayProbes> probes_;  // which may connect by way of the data plane
  event::BeforeWait publish_;
};

}  // namespace modal

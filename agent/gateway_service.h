// What the gateway does, apart from being a process: serves the admin endpoints from the
// supervisor's board, makes its probes, and keeps its own board.
//
// The own board is written when something on it has changed, once a turn of the loop; with no
// connection open and no probe running nothing wakes the loop. Loop and clock outlive the service.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/result.h"
#include "agent/base/status_board.h"
#include "agent/base/unique_fd.h"
#include "agent/event/before_wait.h"
#include "agent/event/loop.h"
#include "agent/gateway_probes.h"
#include "agent/http/server.h"
#include "healthcheck/status.h"

namespace modal {

// How many connections may be open at once where a process may have this many descriptors: those
// that it needs for itself and for probes are left free.
size_t MostConnections(uint64_t descriptors, size_t listeners);

class GatewayService {
 public:
  struct Parts {
    UniqueFd channel;                 // to the supervisor
    BoardMapping agent_board;         // of an AgentStatus, to read
    BoardMapping own_board;           // of a GatewayStatus, to write
    std::vector<UniqueFd> listeners;  // the admin port's
    size_t most_connections = 0;
  };

  // `on_closed` runs once, from the loop, when the supervisor has closed the channel.
  static Result<std::unique_ptr<GatewayService>> Start(event::Loop& loop, Clock& clock, Parts parts,
                                                       std::function<void()> on_closed);

  // Told once the process is sealed, for its board.
  void set_sealed(bool sealed);

 private:
  GatewayService(event::Loop& loop, Clock& clock, Parts& parts);

  void Answer(const http::Request& request, http::Responder responder) const;
  health::GatewayStatus Status() const;
  void PublishChanges();

  const int32_t pid_;
  BoardReader<health::AgentStatus> agent_board_;
  BoardWriter<health::GatewayStatus> own_board_;
  health::GatewayStatus published_{};
  bool sealed_ = false;
  http::Server server_;
  std::unique_ptr<GatewayProbes> probes_;
  event::BeforeWait publish_;
};

}  // namespace modal

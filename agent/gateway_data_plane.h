// The data plane of the gateway: a worker for each data listener, each on a thread of its own where
// there can be one, and what they share.
//
// Create() makes everything, threads included, before the process is sealed; the threads wait for
// Run(). Everything else is called on the main loop, and calls back there. Lives until the process
// ends: its threads are never joined.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "adapters/policy_set.h"
#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/result.h"
#include "agent/base/status_board.h"
#include "agent/base/unique_fd.h"
#include "agent/event/loop.h"
#include "agent/event/task_queue.h"
#include "agent/event/uv_clock.h"
#include "agent/gateway_worker.h"
#include "agent/policy/traffic.h"
#include "healthcheck/gateway_channel.h"
#include "healthcheck/status.h"

namespace modal {

// What the supervisor has put into the config memfd; an Error if it is none of ours. `before` is
// the policy that it replaces, if any: where the rate stays the same, its bucket stays as full as
// it is.
Result<std::shared_ptr<const adapters::PolicySet>> ReadPolicy(
    int config_fd, const adapters::PolicySet* before = nullptr);

class GatewayDataPlane {
 public:
  struct Parts {
    event::Loop& loop;
    Clock& clock;
    Log& log;
    const BoardReader<health::AgentStatus>& agent_board;
    std::shared_ptr<const adapters::PolicySet> policy;
    UniqueFd access_log;
    std::vector<UniqueFd> listeners;
    size_t most_connections;                         // of all workers together
    std::function<void()> on_change;                 // counters have changed, some time ago
    std::function<void(uint32_t order)> on_drained;  // nothing is in flight, after this order
  };

  static Result<std::unique_ptr<GatewayDataPlane>> Create(Parts parts);
  ~GatewayDataPlane();

  // Lets the threads run. The process is sealed.
  void Run();

  void SetCarriage(health::Carriage carriage, uint32_t order);
  // New settings; all but the listeners. Requests that have begun keep their limits.
  void Reconfigure(std::shared_ptr<const adapters::PolicySet> policy, UniqueFd access_log);
  const adapters::PolicySet& policy() const { return *parts_.policy; }

  // Where the server has a name, and on the main loop.
  Result<std::unique_ptr<event::Stream>> ConnectByName(const event::Destination& server) {
    return workers_.front()->ConnectByName(server);
  }

  uint32_t threads() const { return static_cast<uint32_t>(workers_.size()); }
  void AddTo(policy::TrafficStatus& sum) const;

 private:
  struct Thread;

  explicit GatewayDataPlane(Parts parts);
  Result<void> AddWorker(UniqueFd listener);
  void OnQuiet(uint32_t worker, uint32_t order);
  void NoteChange();

  Parts parts_;
  policy::Places places_;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::vector<std::unique_ptr<GatewayWorker>> workers_;
  std::vector<bool> quiet_;
  uint32_t order_ = 0;
  std::atomic<bool> changed_{false};
  std::unique_ptr<Timer> tell_change_;
  event::TaskQueue tasks_;
};

}  // namespace modal

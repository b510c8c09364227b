// The data plane on one thread: a server for the clients, the gatekeeper, and the proxy to the
// user's server, with a resolver if that has a name, all on one loop. Nothing is shared with other
// threads but the places, the policy (which never changes) and counters.
//
// Made before the gateway seals itself; then its loop runs, on a thread of its own or not.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "adapters/access_log.h"
#include "adapters/gatekeeper.h"
#include "adapters/policy_set.h"
#include "adapters/proxy.h"
#include "adapters/upstream_pool.h"
#include "agent/base/clock.h"
#include "agent/base/descriptor_sink.h"
#include "agent/base/log.h"
#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/event/ares_name_servers.h"
#include "agent/event/before_wait.h"
#include "agent/event/loop.h"
#include "agent/event/named_stream.h"
#include "agent/event/resolver.h"
#include "agent/event/task_queue.h"
#include "agent/http/server.h"
#include "agent/policy/admission.h"
#include "agent/policy/traffic.h"

namespace modal {

class GatewayWorker {
 public:
  struct Parts {
    event::Loop& loop;
    Clock& clock;
    policy::Places& places;
    uint32_t thread;
    UniqueFd listener;
    UniqueFd access_log;
    std::shared_ptr<const adapters::PolicySet> policy;
    size_t most_connections;
    std::function<bool()> is_ready;             // see Gatekeeper
    std::function<void(uint32_t thread)> wake;  // that worker is to call GiveTurns()
    std::function<void()> on_change;            // counters have changed; on this thread
    // Draining, and all is out; on this thread, once for each order.
    std::function<void(uint32_t order)> on_quiet;
  };

  static Result<std::unique_ptr<GatewayWorker>> Create(Parts parts);

  // From any thread. `order` comes back with on_quiet.
  void SetMode(adapters::Mode mode, uint32_t order);
  void SetPolicy(std::shared_ptr<const adapters::PolicySet> policy, UniqueFd access_log);
  void GiveTurns();
  const policy::TrafficCounters& traffic() const { return traffic_; }
  // On this thread, where the server has a name: a connection, or one that may become one.
  Result<std::unique_ptr<event::Stream>> ConnectByName(const event::Destination& server);

 private:
  GatewayWorker(Parts parts, const event::Destination& server, std::string authority,
                std::unique_ptr<event::NameServers> name_servers);
  void AtEndOfTurn();
  void TellIfQuiet();

  Parts parts_;
  DescriptorSink log_sink_;  // the agent's own log; each thread has its own way to it
  Log log_;
  policy::TrafficCounters traffic_;
  adapters::AccessLog access_log_;
  std::unique_ptr<event::NameServers> name_servers_;  // null: the server has an address
  std::unique_ptr<event::Resolver> resolver_;
  Milliseconds connect_timeout_{0};
  adapters::UpstreamPool pool_;
  adapters::Proxy proxy_;
  adapters::Gatekeeper gatekeeper_;
  http::Server server_;
  uint64_t counted_ = 0;
  uint32_t order_ = 0;
  bool quiet_told_ = true;
  std::unique_ptr<Timer> flush_;
  event::TaskQueue tasks_;  // never used on the way of a request
  event::BeforeWait end_of_turn_;
};

}  // namespace modal

// Connections to the server behind us: idle ones are used again, the freshest first; others are
// made when needed. Lives on the loop of one thread.
//
// An idle connection is watched, so that one that the server closes is gone at once, and closed
// after a while in any case, before most servers would do it.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/result.h"
#include "agent/event/before_wait.h"
#include "agent/event/connect.h"
#include "agent/event/listener.h"
#include "agent/event/loop.h"
#include "agent/event/stream.h"
#include "agent/http/client_connection.h"
#include "agent/policy/traffic.h"

namespace modal::adapters {

class UpstreamPool final : public http::ClientConnection::Owner {
 public:
  // Starts a new connection.
  using Connect =
      std::function<Result<std::unique_ptr<event::Stream>>(const event::Destination& server)>;

  // All outlive the pool. Without `connect` connections are sockets.
  UpstreamPool(event::Loop& loop, Clock& clock, const event::Destination& server,
               const http::ClientOptions& options, policy::TrafficCounters& traffic,
               Connect connect = {});
  ~UpstreamPool() override;

  // What Acquire() may give.
  enum class Wanted {
    kAny,
    kAlive,  // if it is an idle one, one that the server had not closed a moment ago
    kNew,
  };
  // An idle one, or a new one that is connecting. An Error says why there is none ("connect:
  // Connection refused").
  Result<http::ClientConnection*> Acquire(Wanted wanted);

  // New connections go there; those to another server are not used again.
  void SetServer(const event::Destination& server);
  void Configure(const http::ClientOptions& options) { context_.Configure(options); }
  // Closes all that are idle.
  void DropIdle();

 private:
  void Schedule(http::ClientConnection& connection) override;
  void OnIdle(http::ClientConnection& connection) override;
  void OnClosed(http::ClientConnection& connection) override;
  void OnTurn();

  Connect connect_;
  event::Destination server_;
  policy::TrafficCounters& traffic_;
  http::ClientContext context_;
  std::vector<std::unique_ptr<http::ClientConnection>> connections_;
  std::vector<http::ClientConnection*> idle_;  // the freshest last
  std::vector<http::ClientConnection*> scheduled_;
  std::vector<std::unique_ptr<http::ClientConnection>> closed_;
  event::BeforeWait turn_;
};

}  // namespace modal::adapters

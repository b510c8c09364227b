// The gateway's end of the channel to the supervisor. Makes the HTTP requests of health checks on
// its behalf: each kProbe is answered with one GatewayReply, as soon as the result is known. Other
// requests are handed on.
//
// At most kMostAtOnce probes run at a time; a request beyond that is answered at once with an
// error. Messages of the wrong size are dropped. `on_closed` runs once, from the loop, when the
// other end has gone; it must not destroy the GatewayProbes. Loop and clock outlive it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/event/connect.h"
#include "agent/event/loop.h"
#include "agent/event/poller.h"
#include "agent/http/probe.h"
#include "healthcheck/gateway_channel.h"

namespace modal {

class GatewayProbes {
 public:
  static constexpr size_t kMostAtOnce = 16;

  // `channel` is a SOCK_SEQPACKET socket.
  static Result<std::unique_ptr<GatewayProbes>> Start(event::Loop& loop, Clock& clock,
                                                      UniqueFd channel,
                                                      std::function<void()> on_closed);

  // Descriptors that came with a request.
  using Descriptors = std::vector<UniqueFd>;
  // Hears of all requests that are no probes. May be set before the loop runs.
  void set_on_order(std::function<void(const health::GatewayRequest&, Descriptors)> on_order) {
    on_order_ = std::move(on_order);
  }
  // How to connect to a server that has a name; until then only addresses can be asked.
  using Connect =
      std::function<Result<std::unique_ptr<event::Stream>>(const event::Destination& server)>;
  void set_connect_by_name(Connect connect) { connect_by_name_ = std::move(connect); }
  // A supervisor that reads no replies misses some: nothing is kept for it.
  void Send(const health::GatewayReply& reply);

  size_t running() const { return probes_.size(); }

 private:
  GatewayProbes(event::Loop& loop, Clock& clock, UniqueFd channel, std::function<void()> on_closed)
      : loop_(loop),
        clock_(clock),
        channel_(std::move(channel)),
        on_closed_(std::move(on_closed)) {}

  void OnReadable();
  void Begin(const health::GatewayRequest& request);
  void Finish(uint64_t number, uint32_t id, const http::ProbeResult& result);
  void Reply(uint32_t id, const http::ProbeResult& result);

  event::Loop& loop_;
  Clock& clock_;
  UniqueFd channel_;
  std::function<void()> on_closed_;
  std::function<void(const health::GatewayRequest&, Descriptors)> on_order_;
  Connect connect_by_name_;
  std::unique_ptr<event::Poller> poller_;
  uint64_t last_number_ = 0;
  std::map<uint64_t, std::unique_ptr<http::Probe>> probes_;
};

}  // namespace modal

// What carries a request that has been let in: to a server behind us (proxy), or to whatever else
// can answer it.
//
// The Gatekeeper asks the policy first. A request that may pass is a Call, and its adapter hears
// Begin(), then OnBody() for each piece, then OnRequestEnd(); it answers through the Call. A Call
// is over with End(), Fail(), Cut() or SwitchProtocols(), or when the adapter hears OnGone(): after
// that it must not be touched. Everything happens on the loop of one thread; pieces are good only
// during the call.
#pragma once

#include <string_view>

namespace modal::adapters {

class Call;

class Adapter {
 public:
  virtual ~Adapter() = default;
  virtual void Begin(Call& call) = 0;
  virtual void OnBody(Call& call, std::string_view data) = 0;
  // After Call::SpliceBody().
  virtual void OnBodyReadable(Call& /*call*/) {}
  virtual void OnRequestEnd(Call& call) = 0;
  // The client has taken enough for Write() to go on.
  virtual void OnDrained(Call& call) = 0;
  // The client has left, or the time is up: nobody waits for the answer any more.
  virtual void OnGone(Call& call) = 0;
};

}  // namespace modal::adapters

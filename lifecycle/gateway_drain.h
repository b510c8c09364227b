// The drain with a gateway in front of the server (--listen), which knows every request.
//
// After the delay, in which requests are still taken, the gateway refuses new ones; it says when
// none is in flight any more. At the end of the grace it cuts those that are left, and has a moment
// for telling clients so. `on_drained` runs once, from the loop. Clock, log and gateway outlive
// the drain.
#pragma once

#include <functional>
#include <memory>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "lifecycle/gateway.h"

namespace modal::lifecycle {

// Requests that the server works on, or that wait for it. 0 where there is no gateway to ask.
uint64_t InFlight(const Gateway& gateway);

class GatewayDrain {
 public:
  struct Options {
    Milliseconds delay;
    Milliseconds grace;
    Milliseconds cut;  // the longest that the gateway may take to cut what is left
  };

  GatewayDrain(Clock& clock, Log& log, Gateway& gateway, Options options,
               std::function<void()> on_drained);
  ~GatewayDrain();

  void Begin();

 private:
  void Refuse();
  void Cut();
  void Tell(health::Carriage carriage);
  void Finish(const char* why);

  Clock& clock_;
  Log& log_;
  Gateway& gateway_;
  Options options_;
  std::function<void()> on_drained_;
  Clock::TimePoint began_{};
  const char* why_ = "";
  std::unique_ptr<Timer> next_;
  std::shared_ptr<bool> alive_;  // false once we are gone: the gateway may answer after that
};

}  // namespace modal::lifecycle

// Waits, in direct mode, until the server has answered what it was asked before the stop.
//
// Without a gateway on the data path the agent cannot refuse anything: readiness is already false,
// and after the delay the connections in flight are counted (health::CountInFlight) until none
// is left or the grace ends. `on_drained` runs once, from the loop or from inside Begin().
#pragma once

#include <functional>
#include <memory>

#include "agent/base/clock.h"
#include "agent/base/log.h"

namespace modal::lifecycle {

class Drain {
 public:
  struct Options {
    Milliseconds delay;
    Milliseconds grace;
  };

  // `count` says how many connections are in flight now.
  Drain(Clock& clock, Log& log, Options options, std::function<size_t()> count,
        std::function<void()> on_drained);

  void Begin();
  size_t in_flight() const { return in_flight_; }

 private:
  void StartGrace();
  void Look();
  void Finish(const char* why);

  Clock& clock_;
  Log& log_;
  Options options_;
  std::function<size_t()> count_;
  std::function<void()> on_drained_;
  Clock::TimePoint began_{};
  size_t in_flight_ = 0;
  std::unique_ptr<Timer> grace_;
  std::unique_ptr<Timer> look_;
};

}  // namespace modal::lifecycle

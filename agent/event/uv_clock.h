// The real Clock: CLOCK_MONOTONIC, and timers on the loop.
#pragma once

#include "agent/base/clock.h"
#include "agent/event/loop.h"

namespace modal::event {

class UvClock : public Clock {
 public:
  explicit UvClock(Loop& loop) : loop_(loop) {}

  TimePoint Now() const override { return std::chrono::steady_clock::now(); }
  std::unique_ptr<Timer> After(Milliseconds delay, std::function<void()> expired) override;

 private:
  Loop& loop_;
};

}  // namespace modal::event

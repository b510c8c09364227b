// The real Clock: CLOCK_MONOTONIC, and timers on the loop.
//
// Timers without a delay fire in the order in which they were set, once a turn: whatever is ready
// on the loop comes in between those that set each other.
#pragma once

#include "agent/base/clock.h"
#include "agent/event/loop.h"

namespace modal::event {

class UvClock : public Clock {
 public:
  explicit UvClock(Loop& loop);
  ~UvClock() override;

  TimePoint Now() const override { return std::chrono::steady_clock::now(); }
  std::unique_ptr<Timer> After(Milliseconds delay, std::function<void()> expired) override;

 private:
  class NextTurn;

  Loop& loop_;
  std::unique_ptr<NextTurn> next_turn_;
};

}  // namespace modal::event

// Time as everybody here sees it: a monotonic now, and one-shot timers.
//
// A Timer fires once, from the event loop, unless it is destroyed first; a destroyed timer never
// fires. Its callback may destroy it. A Clock outlives its timers. In tests, FakeClock
// (tests/support/fake_clock.h) moves only when it is told to.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

namespace modal {

using Milliseconds = std::chrono::milliseconds;
using Microseconds = std::chrono::microseconds;

class Timer {
 public:
  virtual ~Timer() = default;
};

class Clock {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  virtual ~Clock() = default;
  // The time now, not the time when the loop last woke up.
  virtual TimePoint Now() const = 0;
  // Runs `expired` once, `delay` from now (0: at the next turn of the loop).
  [[nodiscard]] virtual std::unique_ptr<Timer> After(Milliseconds delay,
                                                     std::function<void()> expired) = 0;
};

}  // namespace modal

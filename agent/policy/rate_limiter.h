// So many requests a second, and some more in a burst: a token bucket for all threads together.
//
// The bucket is one number, the time at which it will be full again (the generic cell rate
// algorithm), so that threads share it without a lock. In any stretch of time t, at most
// burst + rate * t requests pass. A refusal writes nothing: a flood of them costs others nothing.
//
// Times between requests are whole nanoseconds, rounded up: up to 10,000 a second the rate is kept
// to one part in 100,000, and it is never exceeded.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

#include "agent/base/clock.h"

namespace modal::policy {

// Alone on its cache line: whoever stands beside it is not slowed down by it.
class alignas(64) RateLimiter {
 public:
  // `rate` is requests a second; 0 lets everything pass. A burst of 0 counts as 1.
  RateLimiter(uint32_t rate, uint32_t burst);

  // Takes one, and returns nothing; or says how long it takes until one could be taken, if nobody
  // else does. Threads may be of slightly different opinion about `now`. If the clock has been set
  // back (a restored machine), the bucket is full again.
  std::optional<std::chrono::nanoseconds> TryTake(Clock::TimePoint now);

 private:
  std::atomic<int64_t> full_at_;
  int64_t interval_ = 0;  // nanoseconds from one to the next; 0: off
  int64_t window_ = 0;    // nanoseconds in which an empty bucket fills
};

// What a Retry-After says: whole seconds, rounded up, at least 1.
int64_t RetryAfterSeconds(std::chrono::nanoseconds wait);

}  // namespace modal::policy

#include "agent/policy/rate_limiter.h"

#include <algorithm>
#include <limits>

namespace modal::policy {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

}  // namespace

RateLimiter::RateLimiter(uint32_t rate, uint32_t burst)
    : full_at_(std::numeric_limits<int64_t>::min()) {
  if (rate == 0) return;
  interval_ = (kSecond + rate - 1) / rate;
  window_ = interval_ * std::max<int64_t>(burst, 1);
}

std::optional<std::chrono::nanoseconds> RateLimiter::TryTake(Clock::TimePoint when) {
  if (interval_ == 0) return std::nullopt;
  const int64_t now =
      std::chrono::duration_cast<std::chrono::nanoseconds>(when.time_since_epoch()).count();
  int64_t seen = full_at_.load(std::memory_order_relaxed);
  while (true) {
    int64_t full_at = std::max(seen, now);
    // Filling never takes longer than the window, and threads differ by far less than a second.
    if (full_at - now > window_ + kSecond) full_at = now;
    const int64_t wait = full_at + interval_ - window_ - now;
    if (wait > 0) return std::chrono::nanoseconds(wait);
    if (full_at_.compare_exchange_weak(seen, full_at + interval_, std::memory_order_relaxed)) {
      return std::nullopt;
    }
  }
}

int64_t RetryAfterSeconds(std::chrono::nanoseconds wait) {
  return std::max<int64_t>(1, std::chrono::ceil<std::chrono::seconds>(wait).count());
}

}  // namespace modal::policy

#include "agent/policy/rate_limiter.h"

#include <doctest/doctest.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

namespace modal::policy {
namespace {

using namespace std::chrono_literals;

constexpr Clock::TimePoint kStart{1000h};

TEST_CASE("a rate of 0 lets everything pass") {
  RateLimiter limiter(0, 0);
  for (int i = 0; i < 1000; ++i) CHECK_FALSE(limiter.TryTake(kStart));
}

TEST_CASE("a burst passes at once, and then one for each interval") {
  RateLimiter limiter(200, 3);
  for (int i = 0; i < 3; ++i) CHECK_FALSE(limiter.TryTake(kStart));
  CHECK(limiter.TryTake(kStart) == 5ms);
  CHECK(limiter.TryTake(kStart + 4ms) == 1ms);
  CHECK(limiter.TryTake(kStart + 5ms - 1ns) == 1ns);
  CHECK_FALSE(limiter.TryTake(kStart + 5ms));
  CHECK(limiter.TryTake(kStart + 5ms) == 5ms);
  CHECK_FALSE(limiter.TryTake(kStart + 10ms));
}

TEST_CASE("the burst is there again after a rest, and no more than it") {
  RateLimiter limiter(10, 4);
  for (int i = 0; i < 4; ++i) CHECK_FALSE(limiter.TryTake(kStart));
  const auto later = kStart + 1h;
  for (int i = 0; i < 4; ++i) CHECK_FALSE(limiter.TryTake(later));
  CHECK(limiter.TryTake(later) == 100ms);
}

TEST_CASE("a burst of 0 is one of 1") {
  RateLimiter limiter(1, 0);
  CHECK_FALSE(limiter.TryTake(kStart));
  CHECK(limiter.TryTake(kStart) == 1s);
}

TEST_CASE("refused requests do not push the next one away") {
  RateLimiter limiter(1, 1);
  CHECK_FALSE(limiter.TryTake(kStart));
  for (int i = 0; i < 1000; ++i) CHECK(limiter.TryTake(kStart + 500ms) == 500ms);
  CHECK_FALSE(limiter.TryTake(kStart + 1s));
}

TEST_CASE("whoever waits as long as told gets in, and not a nanosecond earlier") {
  std::mt19937 random(1);
  for (const uint32_t rate : {1u, 3u, 7u, 200u, 999'983u}) {
    RateLimiter limiter(rate, 5);
    auto now = kStart;
    for (int i = 0; i < 2000; ++i) {
      now += std::chrono::nanoseconds(random() % (1'500'000'000 / rate));
      const auto wait = limiter.TryTake(now);
      if (!wait) continue;
      REQUIRE(limiter.TryTake(now + *wait - 1ns) == 1ns);
      now += *wait;
      REQUIRE_FALSE(limiter.TryTake(now));
    }
  }
}

TEST_CASE("in no stretch of time pass more than the burst and the rate allow") {
  std::mt19937 random(2);
  for (const uint32_t rate : {3u, 200u, 70'000u}) {
    for (const uint32_t burst : {1u, 4u, 50u}) {
      RateLimiter limiter(rate, burst);
      std::vector<int64_t> passed;
      auto now = kStart;
      for (int i = 0; i < 2000; ++i) {
        // Rushes and rests.
        if (random() % 4 == 0) now += std::chrono::nanoseconds(random() % (4'000'000'000 / rate));
        if (!limiter.TryTake(now)) passed.push_back(now.time_since_epoch().count());
      }
      bool held = true;
      for (size_t first = 0; first < passed.size(); ++first) {
        for (size_t last = first; last < passed.size(); ++last) {
          const int64_t stretch = passed[last] - passed[first];
          // passed <= burst + rate * stretch, in whole numbers.
          const auto beyond_burst = static_cast<int64_t>(last - first + 1) - burst;
          held &= beyond_burst * 1'000'000'000 <= stretch * rate;
        }
      }
      CHECK(held);
      CHECK(passed.size() > burst);
    }
  }
}

TEST_CASE("the whole of the rate is there to be used") {
  RateLimiter limiter(200, 1);
  int passed = 0;
  for (auto now = kStart; now < kStart + 10s; now += 1ms) passed += !limiter.TryTake(now);
  CHECK(passed == 2000);
}

TEST_CASE("the largest numbers do not overflow") {
  RateLimiter slow(1, 0xffff'ffff);
  CHECK_FALSE(slow.TryTake(kStart));
  RateLimiter fast(0xffff'ffff, 0xffff'ffff);
  CHECK_FALSE(fast.TryTake(kStart));
  RateLimiter early(1, 1);
  CHECK_FALSE(early.TryTake(Clock::TimePoint{}));
  CHECK(early.TryTake(Clock::TimePoint{}) == 1s);
}

TEST_CASE("a clock that was set back does not lock everybody out") {
  RateLimiter limiter(10, 2);
  CHECK_FALSE(limiter.TryTake(kStart));
  CHECK_FALSE(limiter.TryTake(kStart - 500h));
  CHECK_FALSE(limiter.TryTake(kStart - 500h));
  CHECK(limiter.TryTake(kStart - 500h) == 100ms);
}

TEST_CASE("threads that take at once get exactly what is there together") {
  constexpr uint32_t kBurst = 10'000;
  RateLimiter limiter(1000, kBurst);
  std::atomic<int> passed{0};
  std::atomic<int> ready{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      ++ready;
      while (ready < 4) std::this_thread::yield();
      int mine = 0;
      for (uint32_t n = 0; n < kBurst; ++n) mine += !limiter.TryTake(kStart);
      passed += mine;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(passed == kBurst);
}

TEST_CASE("Retry-After is told in whole seconds, and never as none") {
  CHECK(RetryAfterSeconds(0ns) == 1);
  CHECK(RetryAfterSeconds(1ns) == 1);
  CHECK(RetryAfterSeconds(1s) == 1);
  CHECK(RetryAfterSeconds(1001ms) == 2);
}

}  // namespace
}  // namespace modal::policy

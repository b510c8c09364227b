#include "agent/http/deadlines.h"

#include <doctest/doctest.h>

#include <functional>
#include <string>

#include "tests/support/fake_clock.h"

using namespace modal;
using namespace std::chrono_literals;

namespace {

struct Waiter : http::Deadlines::Entry {
  explicit Waiter(std::string& log, std::string name) : log(log), name(std::move(name)) {}
  void OnDeadline(size_t kind) override {
    log += name + std::to_string(kind) + " ";
    if (then) then();
  }
  std::string& log;
  std::string name;
  std::function<void()> then;
};

}  // namespace

TEST_CASE("each waits as long as its kind says, from when it began") {
  test::FakeClock clock;
  std::string log;
  http::Deadlines deadlines(clock, {10s, 3s});
  Waiter a(log, "a"), b(log, "b"), c(log, "c");
  deadlines.Set(a, 0);
  clock.Advance(1s);
  deadlines.Set(b, 1);
  clock.Advance(1s);
  deadlines.Set(c, 1);
  clock.Advance(1999ms);
  CHECK(log == "");
  clock.Advance(1ms);
  CHECK(log == "b1 ");
  clock.Advance(1s);
  CHECK(log == "b1 c1 ");
  clock.Advance(5s);
  CHECK(log == "b1 c1 a0 ");
  CHECK(clock.pending() == 0);
}

TEST_CASE("who begins again waits anew, who is cleared does not wait") {
  test::FakeClock clock;
  std::string log;
  http::Deadlines deadlines(clock, {10s, 3s});
  Waiter a(log, "a"), b(log, "b"), c(log, "c");
  deadlines.Set(a, 1);
  deadlines.Set(b, 1);
  deadlines.Set(c, 1);
  clock.Advance(2s);
  deadlines.Set(a, 1);
  deadlines.Clear(b);
  deadlines.Set(c, 0);
  clock.Advance(2999ms);
  CHECK(log == "");
  clock.Advance(1ms);
  CHECK(log == "a1 ");
  clock.Advance(7s);
  CHECK(log == "a1 c0 ");
}

TEST_CASE("there is one timer while somebody waits, and none otherwise") {
  test::FakeClock clock;
  std::string log;
  http::Deadlines deadlines(clock, {10s, 0s});
  CHECK(clock.pending() == 0);
  Waiter a(log, "a"), b(log, "b");
  deadlines.Set(a, 0);
  deadlines.Set(b, 0);
  CHECK(clock.pending() == 1);
  deadlines.Clear(a);
  CHECK(clock.pending() == 1);
  deadlines.Set(b, 1);  // zero: never
  CHECK(clock.pending() == 0);
  clock.Advance(1h);
  CHECK(log == "");
  deadlines.Clear(b);
}

TEST_CASE("the timer is not set again each time that somebody begins") {
  struct CountingClock : test::FakeClock {
    std::unique_ptr<Timer> After(Milliseconds delay, std::function<void()> expired) override {
      ++timers;
      return FakeClock::After(delay, std::move(expired));
    }
    int timers = 0;
  } clock;
  std::string log;
  http::Deadlines deadlines(clock, {75s, 10s});
  Waiter a(log, "a");
  for (int i = 0; i < 1000; ++i) {
    deadlines.Set(a, 1);
    deadlines.Set(a, 0);
    clock.Advance(1ms);
  }
  CHECK(clock.timers < 10);
  deadlines.Clear(a);
}

TEST_CASE("the oldest of a kind is known") {
  test::FakeClock clock;
  std::string log;
  http::Deadlines deadlines(clock, {10s, 0s});
  Waiter a(log, "a"), b(log, "b");
  CHECK(deadlines.Oldest(1) == nullptr);
  deadlines.Set(a, 1);
  clock.Advance(1s);
  deadlines.Set(b, 1);
  CHECK(deadlines.Oldest(1) == &a);
  CHECK(deadlines.Oldest(1, 1s) == &a);
  CHECK(deadlines.Oldest(1, 1001ms) == nullptr);
  deadlines.Set(a, 1);
  CHECK(deadlines.Oldest(1) == &b);
  CHECK(http::Deadlines::KindOf(b) == 1u);
  deadlines.Clear(b);
  CHECK_FALSE(http::Deadlines::KindOf(b));
  deadlines.Clear(a);
}

TEST_CASE("a deadline may change any other") {
  test::FakeClock clock;
  std::string log;
  http::Deadlines deadlines(clock, {10s, 3s});
  Waiter a(log, "a"), b(log, "b"), c(log, "c");
  for (Waiter* waiter : {&a, &b, &c}) deadlines.Set(*waiter, 1);
  a.then = [&] {
    deadlines.Clear(b);
    deadlines.Set(a, 1);
  };
  clock.Advance(3s);
  CHECK(log == "a1 c1 ");
  clock.Advance(3s);
  CHECK(log == "a1 c1 a1 ");
  deadlines.Clear(a);
  CHECK(clock.pending() == 0);
}

TEST_CASE("a duration may change, for those who wait already too") {
  test::FakeClock clock;
  std::string log;
  http::Deadlines deadlines(clock, {10s, 0s});
  Waiter a(log, "a"), b(log, "b");
  deadlines.Set(a, 0);
  clock.Advance(1s);
  deadlines.Set(b, 0);
  clock.Advance(1s);
  SUBCASE("longer") {
    deadlines.SetDuration(0, 20s);
    clock.Advance(17999ms);
    CHECK(log == "");
    clock.Advance(1ms);
    CHECK(log == "a0 ");
    clock.Advance(1s);
    CHECK(log == "a0 b0 ");
  }
  SUBCASE("shorter") {
    deadlines.SetDuration(0, 3s);
    clock.Advance(1s);
    CHECK(log == "a0 ");
    clock.Advance(1s);
    CHECK(log == "a0 b0 ");
  }
  SUBCASE("so short that it is over") {
    deadlines.SetDuration(0, 1500ms);
    clock.Advance(0ms);
    CHECK(log == "a0 ");
    clock.Advance(500ms);
    CHECK(log == "a0 b0 ");
  }
  SUBCASE("never, and again") {
    deadlines.SetDuration(0, 0s);
    CHECK(clock.pending() == 0);
    clock.Advance(1h);
    CHECK(log == "");
    deadlines.Clear(a);
    deadlines.SetDuration(0, 1s);
    clock.Advance(0ms);
    CHECK(log == "b0 ");
  }
  SUBCASE("from never") {
    deadlines.Set(a, 1);
    deadlines.Set(b, 1);
    CHECK(clock.pending() == 0);
    deadlines.SetDuration(1, 5s);
    CHECK(clock.pending() == 1);
    clock.Advance(5s);
    CHECK(log == "a1 b1 ");
  }
  deadlines.Clear(a);
  deadlines.Clear(b);
  CHECK(clock.pending() == 0);
}

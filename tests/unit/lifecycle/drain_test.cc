#include "lifecycle/drain.h"

#include <doctest/doctest.h>

#include "tests/support/fake_clock.h"
#include "tests/support/fake_log.h"

namespace modal::lifecycle {
namespace {

using namespace std::chrono_literals;

struct Fixture {
  std::unique_ptr<Drain> NewDrain(Milliseconds delay, Milliseconds grace) {
    return std::make_unique<Drain>(
        clock, log.log, Drain::Options{delay, grace},
        [this] {
          ++counted;
          return in_flight;
        },
        [this] { ++drained; });
  }

  test::FakeClock clock;
  test::FakeLog log;
  size_t in_flight = 0;
  int counted = 0;
  int drained = 0;
};

TEST_CASE_FIXTURE(Fixture, "a drain with nothing in flight ends at once") {
  const auto drain = NewDrain(0s, 5s);
  drain->Begin();
  CHECK(drained == 1);
  CHECK(clock.pending() == 0);
  CHECK(log.Has("drain.end  nothing in flight  in_flight=0  ms=0"));
}

TEST_CASE_FIXTURE(Fixture,
                  "a drain ends when the last request leaves, or when its grace runs out") {
  in_flight = 2;
  const auto drain = NewDrain(0s, 5s);
  drain->Begin();
  clock.Advance(1s);
  CHECK(drained == 0);
  CHECK(drain->in_flight() == 2);

  SUBCASE("the last request leaves") {
    in_flight = 0;
    clock.Advance(50ms);
    CHECK(drained == 1);
    CHECK(log.Has("nothing in flight"));
  }
  SUBCASE("the grace runs out") {
    clock.Advance(3999ms);
    CHECK(drained == 0);
    clock.Advance(1ms);
    CHECK(drained == 1);
    CHECK(log.Has("drain.end  the grace period is over  in_flight=2  ms=5000"));
  }
  CHECK(clock.pending() == 0);
  clock.Advance(1h);
  CHECK(drained == 1);
}

TEST_CASE_FIXTURE(Fixture, "one request that leaves is not the last") {
  in_flight = 2;
  const auto drain = NewDrain(0s, 5s);
  drain->Begin();
  in_flight = 1;
  clock.Advance(1s);
  CHECK(drained == 0);
  CHECK(drain->in_flight() == 1);
}

TEST_CASE_FIXTURE(Fixture, "during the delay nobody looks, and the grace begins after it") {
  in_flight = 1;
  const auto drain = NewDrain(3s, 5s);
  drain->Begin();
  clock.Advance(2999ms);
  CHECK(counted == 0);
  clock.Advance(1ms);
  CHECK(counted == 1);
  clock.Advance(4999ms);
  CHECK(drained == 0);
  clock.Advance(1ms);
  CHECK(drained == 1);
}

TEST_CASE_FIXTURE(Fixture, "the delay is kept even when nothing is in flight") {
  const auto drain = NewDrain(3s, 5s);
  drain->Begin();
  clock.Advance(2999ms);
  CHECK(drained == 0);
  clock.Advance(1ms);
  CHECK(drained == 1);
}

TEST_CASE_FIXTURE(Fixture, "without any grace a drain ends on the next turn") {
  in_flight = 1;
  const auto drain = NewDrain(0s, 0s);
  drain->Begin();
  clock.Turn();
  CHECK(drained == 1);
}

TEST_CASE_FIXTURE(Fixture,
                  "a short request is noticed within milliseconds, a long drain is not busy") {
  in_flight = 1;
  const auto drain = NewDrain(0s, 1h);
  drain->Begin();
  in_flight = 0;
  clock.Advance(5ms);
  CHECK(drained == 1);

  in_flight = 1;
  const auto longer = NewDrain(0s, 1h);
  longer->Begin();
  clock.Advance(10s);
  counted = 0;
  clock.Advance(10s);
  CHECK(counted <= 200);
}

TEST_CASE_FIXTURE(Fixture, "a drain that is given up calls nobody") {
  in_flight = 1;
  auto drain = NewDrain(0s, 5s);
  drain->Begin();
  drain.reset();
  clock.Advance(1h);
  CHECK(drained == 0);
}

}  // namespace
}  // namespace modal::lifecycle

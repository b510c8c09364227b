#include "lifecycle/gateway_drain.h"

#include <doctest/doctest.h>

#include "tests/support/fake_clock.h"
#include "tests/support/fake_gateway.h"
#include "tests/support/fake_log.h"

namespace modal::lifecycle {
namespace {

using namespace std::chrono_literals;
using health::Carriage;
using Carriages = std::vector<Carriage>;

struct Fixture {
  Fixture() { gateway.HaveInFlight(3); }

  std::unique_ptr<GatewayDrain> NewDrain(Milliseconds delay = 0s) {
    auto drain = std::make_unique<GatewayDrain>(
        clock, log.log, gateway, GatewayDrain::Options{delay, 5s, 500ms}, [this] { ++drained; });
    drain->Begin();
    return drain;
  }

  test::FakeClock clock;
  test::FakeLog log;
  test::FakeGateway gateway;
  int drained = 0;
};

TEST_CASE_FIXTURE(Fixture,
                  "requests are refused at once, and the drain ends when the last has left") {
  const auto drain = NewDrain();
  CHECK(gateway.carriages == Carriages{Carriage::kDraining});
  CHECK(log.Has("drain.begin  in_flight=3  grace_ms=5000"));
  clock.Advance(1234ms);
  CHECK(drained == 0);

  gateway.HaveInFlight(0);
  gateway.Drained();
  CHECK(drained == 1);
  CHECK(log.Has("drain.end  nothing in flight  in_flight=0  ms=1234"));
  CHECK(clock.pending() == 0);
}

TEST_CASE_FIXTURE(Fixture, "during the delay requests are still taken") {
  const auto drain = NewDrain(2s);
  clock.Advance(1999ms);
  CHECK(gateway.carriages.empty());
  clock.Advance(1ms);
  CHECK(gateway.carriage() == Carriage::kDraining);
}

TEST_CASE_FIXTURE(Fixture, "what is left when the grace runs out is cut, and then the drain ends") {
  const auto drain = NewDrain();
  clock.Advance(4999ms);
  CHECK(gateway.carriage() == Carriage::kDraining);
  clock.Advance(1ms);
  CHECK(gateway.carriages == Carriages{Carriage::kDraining, Carriage::kCutting});
  CHECK(log.Has("drain.cut  the grace period is over: cutting what is left  in_flight=3"));
  CHECK(drained == 0);

  SUBCASE("as soon as the gateway is done") {
    gateway.Drained();
    CHECK(drained == 1);
    CHECK(log.Has("drain.end  the grace period is over"));
  }
  SUBCASE("after a moment, if the gateway does not answer") {
    clock.Advance(499ms);
    CHECK(drained == 0);
    clock.Advance(1ms);
    CHECK(log.Has("drain.end  the gateway does not answer"));
    gateway.Drained();
  }
  CHECK(drained == 1);
  clock.Advance(1h);
  CHECK(drained == 1);
}

TEST_CASE_FIXTURE(Fixture, "a drain that is given up hears no more of the gateway") {
  auto drain = NewDrain();
  drain.reset();
  gateway.Drained();
  clock.Advance(1h);
  CHECK(drained == 0);
  CHECK(gateway.carriages == Carriages{Carriage::kDraining});
}

TEST_CASE_FIXTURE(Fixture, "requests that wait are in flight too") {
  gateway.board->traffic.queued = 4;
  gateway.board->traffic.held = 5;
  CHECK(InFlight(gateway) == 12);
  gateway.board.reset();
  CHECK(InFlight(gateway) == 0);
}

}  // namespace
}  // namespace modal::lifecycle

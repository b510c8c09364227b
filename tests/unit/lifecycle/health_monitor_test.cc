#include "lifecycle/health_monitor.h"

#include <doctest/doctest.h>

#include "tests/support/fake_clock.h"
#include "tests/support/fake_gateway.h"
#include "tests/support/fake_log.h"
#include "tests/support/fake_socket_table.h"

namespace modal::lifecycle {
namespace {

using namespace std::chrono_literals;
using test::ListenerOn;

struct Fixture {
  Fixture() { table.listeners = {ListenerOn("0.0.0.0", 8000)}; }

  std::unique_ptr<HealthMonitor> NewMonitor(const std::string& path = "") {
    auto monitor = std::make_unique<HealthMonitor>(
        clock, log.log, table, &gateway,
        HealthMonitor::Options{8000, "127.0.0.1", path, 10s, 2s, 3, {}},
        [this](const HealthMonitor::Report& report) { reports.push_back(report); },
        [this](const std::string& why) { unhealthy.push_back(why); });
    monitor->Start();
    return monitor;
  }

  test::FakeClock clock;
  test::FakeLog log;
  test::FakeSocketTable table;
  test::FakeGateway gateway;
  std::vector<HealthMonitor::Report> reports;
  std::vector<std::string> unhealthy;
};

TEST_CASE_FIXTURE(Fixture, "between two checks nothing is looked at") {
  const auto monitor = NewMonitor();
  clock.Advance(9999ms);
  CHECK(table.listeners_asked == 0);
  clock.Advance(1ms);
  CHECK(reports.size() == 1);
  const int asked = table.listeners_asked;
  clock.Advance(9999ms);
  CHECK(table.listeners_asked == asked);
  CHECK(clock.pending() == 1);
}

TEST_CASE_FIXTURE(Fixture, "a port that listens is healthy, for as long as it does") {
  const auto monitor = NewMonitor();
  clock.Advance(1h);
  REQUIRE(reports.size() == 360);
  CHECK(reports.back().checks == 360);
  CHECK(reports.back().failures == 0);
  CHECK(unhealthy.empty());
  CHECK(gateway.probes.empty());
  CHECK_FALSE(log.Has("health."));
}

TEST_CASE_FIXTURE(Fixture, "so many failures in a row make it unhealthy, once") {
  const auto monitor = NewMonitor();
  table.listeners.clear();
  clock.Advance(20s);
  CHECK(unhealthy.empty());
  CHECK(reports.back().consecutive == 2);
  CHECK(reports.back().last_failure == "nothing listens on port 8000 any more");
  clock.Advance(10s);
  REQUIRE(unhealthy.size() == 1);
  CHECK(unhealthy[0] == "nothing listens on port 8000 any more");
  CHECK(reports.back().consecutive == 3);
  CHECK(log.Count("warn  health.failed") == 3);

  clock.Advance(1h);
  CHECK(unhealthy.size() == 1);
  CHECK(reports.size() == 3);
  CHECK(clock.pending() == 0);
}

TEST_CASE_FIXTURE(Fixture, "one success in between starts the count anew") {
  const auto monitor = NewMonitor();
  const auto listeners = table.listeners;
  for (int i = 0; i < 5; ++i) {
    table.listeners.clear();
    clock.Advance(20s);
    CHECK(reports.back().consecutive == 2);
    table.listeners = listeners;
    clock.Advance(10s);
    CHECK(reports.back().consecutive == 0);
  }
  CHECK(reports.back().failures == 10);
  CHECK(reports.back().checks == 15);
  CHECK(unhealthy.empty());
  CHECK(log.Count("health.recovered  failures=2") == 5);
}

TEST_CASE_FIXTURE(Fixture, "listeners that stood before the start do not count") {
  HealthMonitor monitor(
      clock, log.log, table, nullptr,
      HealthMonitor::Options{8000, "127.0.0.1", "", 10s, 2s, 1, {1}},
      [](const HealthMonitor::Report&) {},
      [this](const std::string& why) { unhealthy.push_back(why); });
  monitor.Start();
  clock.Advance(10s);
  CHECK(unhealthy.size() == 1);
}

TEST_CASE_FIXTURE(Fixture, "an accept queue that does not move is a failure") {
  table.listeners[0].accept_queue = 1;
  health::Connection waiting;
  waiting.local = test::AddressOf("10.0.0.2", 8000);
  waiting.remote = test::AddressOf("10.0.0.9", 1001);
  table.connections = {waiting};
  const auto monitor = NewMonitor();
  clock.Advance(10s);
  CHECK(reports.back().failures == 0);
  clock.Advance(10s);
  CHECK(reports.back().failures == 1);
  CHECK(reports.back().last_failure.find("nothing was accepted") != std::string::npos);
  table.connections[0].inode = 5;  // accepted
  clock.Advance(10s);
  CHECK(reports.back().consecutive == 0);
}

TEST_CASE_FIXTURE(Fixture,
                  "the path is asked for with its timeout, and the next check waits for it") {
  const auto monitor = NewMonitor("/healthz");
  clock.Advance(10s);
  REQUIRE(gateway.probes.size() == 1);
  CHECK(gateway.probes[0].port == 8000);
  CHECK(gateway.probes[0].path == "/healthz");
  CHECK(gateway.probes[0].timeout == 2s);
  CHECK(gateway.probes[0].address == "127.0.0.1");
  CHECK(reports.empty());
  clock.Advance(1h);
  CHECK(gateway.probes.size() == 1);
  gateway.AnswerLast(204);
  CHECK(reports.size() == 1);
  CHECK(reports[0].failures == 0);
  clock.Advance(10s);
  CHECK(gateway.probes.size() == 2);
}

TEST_CASE_FIXTURE(Fixture, "answers of 2xx and 3xx are healthy, others and none are not") {
  const auto monitor = NewMonitor("/healthz");
  struct Case {
    int status;
    bool healthy;
  };
  uint64_t failures = 0;
  for (const Case& one : {Case{200, true}, Case{199, false}, Case{399, true}, Case{400, false},
                          Case{301, true}, Case{503, false}, Case{299, true}, Case{0, false}}) {
    CAPTURE(one.status);
    clock.Advance(10s);
    gateway.Answer(gateway.probes.back(), {one.status, one.status ? "" : "no answer"});
    failures += !one.healthy;
    CHECK(reports.back().failures == failures);
  }
  CHECK(log.Has("GET /healthz answers 503"));
  CHECK(log.Has("GET /healthz: no answer"));
}

TEST_CASE_FIXTURE(Fixture, "a port that does not listen is not asked") {
  const auto monitor = NewMonitor("/healthz");
  table.listeners.clear();
  clock.Advance(30s);
  CHECK(gateway.probes.empty());
  CHECK(unhealthy.size() == 1);
}

TEST_CASE_FIXTURE(Fixture, "an answer that comes after the monitor has gone is ignored") {
  auto monitor = NewMonitor("/healthz");
  clock.Advance(10s);
  monitor.reset();
  gateway.AnswerLast(500);
  clock.Advance(1h);
  CHECK(reports.empty());
  CHECK(clock.pending() == 0);
}

}  // namespace
}  // namespace modal::lifecycle

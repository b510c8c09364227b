#include "healthcheck/checks.h"

#include <doctest/doctest.h>

#include "tests/support/fake_socket_table.h"

namespace modal::health {
namespace {

using test::AddressOf;
using test::FakeSocketTable;
using test::ListenerOn;

TEST_CASE("the port check says what is wrong with the listener") {
  FakeSocketTable table;
  const auto check = [&] { return CheckPortListens(table, 8000, {7}, false).value_or("fine"); };
  CHECK(check() == "nothing listens on port 8000 any more");
  table.listeners = {ListenerOn("0.0.0.0", 8000, 7)};
  CHECK(check() == "nothing listens on port 8000 any more");
  table.listeners = {ListenerOn("127.0.0.1", 8000)};
  CHECK(check() ==
        "listening only on 127.0.0.1:8000 now, which nothing outside this container can reach");
  CHECK_FALSE(CheckPortListens(table, 8000, {}, true));
  table.listeners.push_back(ListenerOn("::", 8000, 2));
  CHECK(check() == "fine");
}

TEST_CASE("a table that cannot be read is no failure of the server") {
  FakeSocketTable table;
  table.error = Error("no");
  CHECK_FALSE(CheckPortListens(table, 8000, {}, false));
  CHECK_FALSE(AcceptQueueCheck(table, 8000).Check());
}

Connection Waiting(uint16_t client_port) {
  Connection connection;
  connection.local = AddressOf("10.0.0.2", 8000);
  connection.remote = AddressOf("10.0.0.9", client_port);
  return connection;
}

TEST_CASE("connections are not listed while every accept queue is empty") {
  FakeSocketTable table;
  table.listeners = {ListenerOn("0.0.0.0", 8000)};
  CHECK_FALSE(AcceptQueueCheck(table, 8000).Check());
  CHECK(table.connections_asked == 0);
}

TEST_CASE("a connection that nobody accepts for a whole interval is a stuck accept queue") {
  FakeSocketTable table;
  table.listeners = {ListenerOn("0.0.0.0", 8000)};
  table.listeners[0].accept_queue = 2;
  table.connections = {Waiting(1001), Waiting(1002)};
  AcceptQueueCheck check(table, 8000);
  CHECK_FALSE(check.Check());

  SUBCASE("both are there still") {
    CHECK(check.Check() ==
          "2 connections wait at port 8000 and nothing was accepted since the last check");
  }
  SUBCASE("one is there still") {
    table.connections = {Waiting(1002)};
    CHECK(check.Check() ==
          "1 connection waits at port 8000 and nothing was accepted since the last check");
  }
  SUBCASE("others have come in their place") {
    table.connections = {Waiting(1003), Waiting(1004)};
    CHECK_FALSE(check.Check());
  }
  SUBCASE("they were accepted, and others wait") {
    for (Connection& connection : table.connections) connection.inode = 5;
    table.connections.push_back(Waiting(1003));
    CHECK_FALSE(check.Check());
  }
  SUBCASE("the queue ran empty meanwhile and is full again") {
    table.listeners[0].accept_queue = 0;
    CHECK_FALSE(check.Check());
    table.listeners[0].accept_queue = 2;
    CHECK_FALSE(check.Check());
  }
}

// An accepted connection whose last data went out `sent` and came in `received` ms ago.
Connection Spoke(uint32_t sent, uint32_t received) {
  Connection connection = Waiting(1001);
  connection.inode = 5;
  connection.last_sent_ms = sent;
  connection.last_received_ms = received;
  connection.bytes_received = 100;
  connection.segments_received = 1;
  connection.segments_sent = 1;
  return connection;
}

bool InFlight(const Connection& connection) { return CountInFlight({connection}) == 1; }

TEST_CASE("a connection is idle a second after the server had the last word") {
  CHECK_FALSE(InFlight(Spoke(1001, 1500)));
  CHECK(InFlight(Spoke(1000, 1500)));
  CHECK(InFlight(Spoke(60'000, 1500)));
  CHECK(InFlight(Spoke(60'000, 59'990)));
}

TEST_CASE("when both spoke in the same tick, more requests than answers are work in progress") {
  Connection connection = Spoke(5000, 5000);
  CHECK_FALSE(InFlight(connection));
  connection.segments_received = 2;
  CHECK(InFlight(connection));
  connection.segments_received.reset();
  CHECK(InFlight(connection));
}

TEST_CASE("a connection with bytes in its queues is in flight, however old") {
  Connection connection = Spoke(60'000, 90'000);
  SUBCASE("the server has not read them") { connection.receive_queue = 1; }
  SUBCASE("the client has not taken them") { connection.send_queue = 1; }
  CHECK(InFlight(connection));
}

TEST_CASE("a client that connects and says nothing is waited for for one second") {
  Connection connection = Spoke(900, 900);
  connection.bytes_received = 0;
  CHECK(InFlight(connection));
  connection.last_sent_ms = connection.last_received_ms = 1001;
  CHECK_FALSE(InFlight(connection));
  connection.inode = 0;  // nor if nobody accepted it
  CHECK_FALSE(InFlight(connection));
}

TEST_CASE("where the kernel does not tell times every connection counts") {
  Connection connection = Spoke(60'000, 90'000);
  SUBCASE("sent") { connection.last_sent_ms.reset(); }
  SUBCASE("received") { connection.last_received_ms.reset(); }
  SUBCASE("bytes") { connection.bytes_received.reset(); }
  CHECK(InFlight(connection));
}

TEST_CASE("connections in flight are counted, not the others") {
  CHECK(CountInFlight({}) == 0);
  CHECK(CountInFlight({Spoke(10, 20), Spoke(2000, 3000), Spoke(3000, 2000)}) == 2);
}

TEST_CASE("only failures in a row make a workload unhealthy") {
  HealthState state(3);
  CHECK(state.Failed() == HealthState::Verdict::kFailing);
  CHECK(state.Failed() == HealthState::Verdict::kFailing);
  CHECK(state.Succeeded() == HealthState::Verdict::kHealthy);
  CHECK(state.consecutive_failures() == 0);
  CHECK(state.Failed() == HealthState::Verdict::kFailing);
  CHECK(state.Failed() == HealthState::Verdict::kFailing);
  CHECK(state.Failed() == HealthState::Verdict::kUnhealthy);
  CHECK(state.Failed() == HealthState::Verdict::kUnhealthy);
  state.Reset();
  CHECK(state.Failed() == HealthState::Verdict::kFailing);
}

TEST_CASE("a threshold of 0 or 1 tolerates no failure") {
  CHECK(HealthState(0).Failed() == HealthState::Verdict::kUnhealthy);
  CHECK(HealthState(1).Failed() == HealthState::Verdict::kUnhealthy);
}

}  // namespace
}  // namespace modal::health

#include "agent/http/server.h"

#include <doctest/doctest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/event/uv_clock.h"
#include "tests/support/descriptor_limit.h"
#include "tests/support/fake_clock.h"
#include "tests/support/tcp_client.h"

using namespace modal;
using namespace std::chrono_literals;
using test::RunUntil;
using test::TcpClient;

namespace {

const std::string kGet = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";

void Echo(const http::Request& request, http::Responder responder) {
  responder.Send({200, "text/plain", std::string(request.path) + " " + std::string(request.body)});
}

// A server on a port of 127.0.0.1. Its loop is real, its timeouts are the FakeClock's.
struct Listening {
  explicit Listening(const http::ServerOptions& options = {}, http::WholeHandler handler = Echo)
      : server(loop, clock, options, std::move(handler)) {
    UniqueFd listener = *event::ListenOn(*SocketAddress::Parse("127.0.0.1", 0));
    address = *event::BoundAddress(listener.get());
    const Result<void> serving = server.Serve(std::move(listener));
    MODAL_CHECK(serving.ok());
  }
  template <class Condition>
  void Until(const Condition& condition) {
    RunUntil(loop, [&] {
      clock.Turn();
      return condition();
    });
  }
  bool Answers(TcpClient& client) {
    client.Send(kGet);
    const size_t before = client.received().size();
    Until([&] { return client.at_end() || client.received().size() > before; });
    return client.received().substr(before).starts_with("HTTP/1.1 200 OK\r\n");
  }

  event::Loop loop;
  test::FakeClock clock;
  http::Server server;
  SocketAddress address;
};

}  // namespace

TEST_CASE("a server answers over TCP, many clients at once") {
  Listening listening;
  std::vector<TcpClient> clients;
  for (int i = 0; i < 100; ++i) clients.emplace_back(listening.address);
  for (int round = 0; round < 3; ++round) {
    for (TcpClient& client : clients) CHECK(listening.Answers(client));
  }
  CHECK(listening.server.stats().connections_accepted == 100);
  CHECK(listening.server.stats().connections_open == 100);
  CHECK(listening.server.stats().requests == 300);
  for (TcpClient& client : clients) client.Close();
  listening.Until([&] { return listening.server.stats().connections_open == 0; });
  listening.clock.Turn();
  CHECK(listening.clock.pending() == 0);  // nothing wakes an idle server
}

TEST_CASE("with no connection a server keeps no timer") {
  Listening listening;
  CHECK(listening.clock.pending() == 0);
}

TEST_CASE("a large answer reaches a client that takes it late") {
  const std::string body(5'000'000, 'x');
  Listening listening({}, [&](const http::Request&, http::Responder responder) {
    responder.Send({200, "", body});
  });
  TcpClient client(listening.address);
  client.Send(kGet);
  listening.Until([&] { return listening.server.stats().requests == 1; });
  listening.Until([&] { return client.received().size() > body.size(); });
  CHECK(client.received().ends_with(body));
}

TEST_CASE("at the limit of connections, one that waits without a request gives way") {
  http::ServerOptions options;
  options.max_connections = 10;
  Listening listening(options);
  std::vector<TcpClient> idle;
  for (int i = 0; i < 10; ++i) idle.emplace_back(listening.address);
  listening.Until([&] { return listening.server.stats().connections_open == 10; });
  TcpClient client(listening.address);
  CHECK(listening.Answers(client));
  CHECK(listening.server.stats().connections_open == 10);
  CHECK(listening.server.stats().connections_refused == 1);
  CHECK(idle[0].at_end());
  CHECK_FALSE(idle[1].at_end());
}

TEST_CASE("at the limit of connections, with all of them busy, a new one is told so") {
  http::ServerOptions options;
  options.max_connections = 2;
  std::vector<http::Responder> busy;
  Listening listening(options, [&](const http::Request&, http::Responder responder) {
    busy.push_back(std::move(responder));
  });
  TcpClient first(listening.address);
  TcpClient second(listening.address);
  first.Send(kGet);
  second.Send(kGet);
  listening.Until([&] { return busy.size() == 2; });
  TcpClient third(listening.address);
  third.Send(kGet);
  listening.Until([&] { return third.at_end(); });
  CHECK(third.received().starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
  const size_t body = third.received().find("\r\n\r\n") + 4;
  CHECK(third.received().find("Content-Length: " + std::to_string(third.received().size() - body) +
                              "\r\n") < body);
  CHECK(listening.server.stats().connections_refused == 1);
  CHECK(listening.server.stats().connections_open == 2);
  busy[0].Send({200, "", "late"});
  listening.Until([&] { return first.received().ends_with("late"); });
  busy.clear();
}

TEST_CASE("many that come at once with their requests: nobody is closed on unread") {
  http::ServerOptions options;
  options.max_connections = 2;
  std::vector<http::Responder> busy;
  Listening listening(options, [&](const http::Request&, http::Responder responder) {
    busy.push_back(std::move(responder));
  });
  // All of them wait to be accepted, and none has been read, when the server first looks.
  std::vector<TcpClient> clients;
  for (int i = 0; i < 10; ++i) clients.emplace_back(listening.address).Send(kGet);
  size_t refused = 0;
  listening.Until([&] {
    refused = 0;
    for (TcpClient& client : clients) refused += client.at_end() ? 1 : 0;
    return busy.size() + refused == clients.size();
  });
  CHECK(busy.size() == 2);
  for (TcpClient& client : clients) {
    if (client.at_end()) CHECK(client.received().starts_with("HTTP/1.1 503 "));
  }
  busy.clear();
}

TEST_CASE("thousands of idle, half-open and garbage connections leave a server serving") {
  http::ServerOptions options;
  options.max_connections = 50;
  options.max_body = 0;
  Listening listening(options);
  std::vector<TcpClient> clients;
  for (int i = 0; i < 2000; ++i) {
    if (clients.size() == 200) clients.clear();
    TcpClient& client = clients.emplace_back(listening.address);
    switch (i % 5) {
      case 0:
        break;
      case 1:
        client.Send("GET / HTT");
        break;
      case 2:
        client.Send("\x16\x03\x01 no HTTP");
        break;
      case 3:
        client.Send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n");
        break;
      case 4:
        client.Send(kGet);
        break;
    }
    if (i % 100 != 99) continue;
    TcpClient honest(listening.address);
    CHECK(listening.Answers(honest));
    CHECK(listening.server.stats().connections_open <= 50);
  }
}

TEST_CASE("out of descriptors a server lets idle connections go and stays reachable") {
  Listening listening;
  {
    // UBSan needs a pipe to look at each kind of object that it has not met before: it meets them
    // here.
    TcpClient client(listening.address);
    CHECK(listening.Answers(client));
  }
  listening.Until([&] { return listening.server.stats().connections_open == 0; });
  listening.clock.Turn();
  std::vector<TcpClient> idle;
  for (int i = 0; i < 5; ++i) idle.emplace_back(listening.address);
  listening.Until([&] { return listening.server.stats().connections_open == 5; });
  std::vector<TcpClient> more;
  for (int i = 0; i < 3; ++i) more.emplace_back(listening.address);
  const test::DescriptorLimit limit;
  for (TcpClient& client : more) CHECK(listening.Answers(client));
  CHECK(listening.server.stats().connections_refused == 3);
  CHECK(idle[0].at_end());
  CHECK_FALSE(idle[4].at_end());
}

TEST_CASE("an answer that refuses a request is not lost to a reset") {
  http::ServerOptions options;
  options.max_body = 10;
  Listening listening(options);
  TcpClient client(listening.address);
  client.Send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
  client.Send(std::string(100'000, 'x'));
  client.ShutdownWrite();
  listening.Until([&] { return client.at_end(); });
  CHECK_FALSE(client.reset());
  CHECK(client.received().starts_with("HTTP/1.1 413 "));
}

TEST_CASE("a server that has stopped listening still serves the connections it has") {
  Listening listening;
  TcpClient client(listening.address);
  CHECK(listening.Answers(client));
  listening.server.StopListening();
  CHECK(event::ListenOn(listening.address));
  CHECK(listening.Answers(client));
}

TEST_CASE("a server that closes gently answers once more and says that it was the last time") {
  Listening listening;
  TcpClient client(listening.address);
  CHECK(listening.Answers(client));
  listening.server.CloseGently();
  CHECK(listening.Answers(client));
  CHECK(client.received().find("Connection: close\r\n") != std::string::npos);
  listening.Until([&] { return client.at_end(); });
  CHECK_FALSE(client.reset());
}

TEST_CASE("timeouts close what is stuck") {
  Listening listening;
  TcpClient idle(listening.address);
  TcpClient slow(listening.address);
  slow.Send("GET /");
  listening.Until([&] { return listening.server.stats().connections_open == 2; });
  // Its first bytes are in when its next turn comes: they were sent before.
  for (int i = 0; i < 10; ++i) listening.loop.RunOnce();
  listening.clock.Advance(10s);
  listening.Until([&] { return slow.at_end(); });
  CHECK(slow.received().starts_with("HTTP/1.1 408 "));
  listening.clock.Advance(65s);
  listening.Until([&] { return idle.at_end(); });
  CHECK(idle.received() == "");
}

TEST_CASE("a server may be destroyed with answers outstanding") {
  std::optional<http::Responder> kept;
  SocketAddress address;
  {
    Listening listening({}, [&](const http::Request&, http::Responder responder) {
      kept.emplace(std::move(responder));
    });
    TcpClient client(listening.address);
    client.Send(kGet);
    listening.Until([&] { return kept.has_value(); });
    CHECK(kept->is_open());
  }
  CHECK_FALSE(kept->is_open());
  kept->Send({200});
}

TEST_CASE("a server works on the real clock as well") {
  event::Loop loop;
  event::UvClock clock(loop);
  http::ServerOptions options;
  options.header_timeout = 1ms;
  http::Server server(loop, clock, options, Echo);
  UniqueFd listener = *event::ListenOn(*SocketAddress::Parse("127.0.0.1", 0));
  const SocketAddress address = *event::BoundAddress(listener.get());
  REQUIRE(server.Serve(std::move(listener)));
  TcpClient slow(address);
  slow.Send("GET /");
  RunUntil(loop, [&] { return slow.at_end(); });
  CHECK(slow.received().starts_with("HTTP/1.1 408 "));
  TcpClient client(address);
  client.Send(kGet);
  RunUntil(loop, [&] { return client.received().starts_with("HTTP/1.1 200 OK\r\n"); });
}

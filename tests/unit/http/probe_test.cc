#include "agent/http/probe.h"

#include <doctest/doctest.h>

#include <memory>
#include <optional>
#include <string>

#include "agent/event/uv_clock.h"
#include "agent/http/server.h"
#include "tests/support/fake_clock.h"
#include "tests/support/tcp_client.h"

using namespace modal;
using namespace std::chrono_literals;
using test::RunUntil;

namespace {

struct Probing {
  Probing() : listener(*event::ListenOn(*SocketAddress::Parse("127.0.0.1", 0))) {
    address = *event::BoundAddress(listener.get());
  }
  void Start(std::string_view path = "/healthz") {
    probe = std::make_unique<http::Probe>(loop, clock, address, path, 2000ms,
                                          [this](const http::ProbeResult& result) {
                                            probe.reset();
                                            done = result;
                                          });
    CHECK_FALSE(done);
  }
  // The server's end of the connection.
  void Accept() {
    RunUntil(loop, [&] {
      connection.Reset(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      return static_cast<bool>(connection);
    });
  }
  std::string ReceiveRequest() {
    std::string text;
    RunUntil(loop, [&] {
      char buffer[1000];
      const ssize_t size = ::recv(connection.get(), buffer, sizeof buffer, 0);
      if (size > 0) text.append(buffer, static_cast<size_t>(size));
      return text.ends_with("\r\n\r\n");
    });
    return text;
  }
  void Reply(std::string_view text) {
    CHECK(::send(connection.get(), text.data(), text.size(), MSG_NOSIGNAL) ==
          static_cast<ssize_t>(text.size()));
  }
  http::ProbeResult Result() {
    RunUntil(loop, [&] {
      clock.Turn();
      return done.has_value();
    });
    return *done;
  }

  event::Loop loop;
  test::FakeClock clock;
  UniqueFd listener;
  UniqueFd connection;
  SocketAddress address;
  std::unique_ptr<http::Probe> probe;
  std::optional<http::ProbeResult> done;
};

}  // namespace

TEST_CASE("a probe asks once, and tells the status of the answer") {
  Probing probing;
  probing.Start("/healthz?full=1");
  probing.Accept();
  CHECK(
      probing.ReceiveRequest() ==
      "GET /healthz?full=1 HTTP/1.1\r\nHost: localhost:" + std::to_string(probing.address.port()) +
          "\r\nUser-Agent: modal-agent-health\r\nAccept: */*\r\nConnection: close\r\n\r\n");
  probing.Reply("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 20");
  probing.Reply("4 No Content\r\n\r\n");
  const http::ProbeResult result = probing.Result();
  CHECK(result.status == 204);
  CHECK(result.healthy());
  CHECK(result.error == "");
  CHECK(probing.clock.pending() == 0);
}

TEST_CASE("a probe is over with the head of the answer, however long the body") {
  Probing probing;
  probing.Start();
  probing.Accept();
  probing.Reply("HTTP/1.1 500 Oops\r\nContent-Length: 1000000\r\n\r\n" + std::string(1000, 'x'));
  const http::ProbeResult result = probing.Result();
  CHECK(result.status == 500);
  CHECK_FALSE(result.healthy());
}

TEST_CASE("2xx and 3xx are healthy, the rest is not") {
  CHECK(http::ProbeResult{200, ""}.healthy());
  CHECK(http::ProbeResult{399, ""}.healthy());
  CHECK_FALSE(http::ProbeResult{400, ""}.healthy());
  CHECK_FALSE(http::ProbeResult{101, ""}.healthy());
  CHECK_FALSE(http::ProbeResult{0, "connect: Connection refused"}.healthy());
}

TEST_CASE("a probe says what went wrong") {
  Probing probing;
  SUBCASE("nobody listens") {
    probing.listener.Reset();
    probing.Start();
    CHECK(probing.Result().error == "connect: Connection refused");
  }
  SUBCASE("nothing is answered") {
    probing.Start();
    probing.Accept();
    probing.ReceiveRequest();
    probing.clock.Advance(1999ms);
    CHECK_FALSE(probing.done);
    probing.clock.Advance(1ms);
    CHECK(probing.Result().error == "no answer within 2000 ms");
  }
  SUBCASE("the answer does not end") {
    probing.Start();
    probing.Accept();
    probing.Reply("HTTP/1.1 200 OK\r\n");
    probing.ReceiveRequest();
    probing.clock.Advance(2000ms);
    CHECK(probing.Result().error == "no answer within 2000 ms");
  }
  SUBCASE("the connection is closed") {
    probing.Start();
    probing.Accept();
    probing.ReceiveRequest();
    probing.connection.Reset();
    CHECK(probing.Result().error == "the connection was closed without an answer");
  }
  SUBCASE("the connection is closed in the head") {
    probing.Start();
    probing.Accept();
    probing.ReceiveRequest();
    probing.Reply("HTTP/1.1 200 OK\r\n");
    probing.connection.Reset();
    CHECK(probing.Result().error == "the connection was closed in the middle of the answer's head");
  }
  SUBCASE("it is no HTTP") {
    probing.Start();
    probing.Accept();
    probing.Reply("220 mail.example ESMTP\r\n");
    CHECK(probing.Result().error == "the answer is not HTTP");
  }
  SUBCASE("the path cannot be sent") {
    for (const char* path : {"", "x", "/a b", "/a\r\nX: y", "/\x7f"}) {
      probing.done.reset();
      probing.Start(path);
      CHECK(probing.Result().error ==
            "the path must start with '/' and have no space or control character in it");
    }
  }
  SUBCASE("the address is none") {
    probing.probe = std::make_unique<http::Probe>(
        probing.loop, probing.clock, "localhost", uint16_t{80}, "/", 2000ms,
        [&](const http::ProbeResult& result) { probing.done = result; });
    CHECK(probing.Result().error == "'localhost' is not an IPv4 or IPv6 address");
  }
  CHECK(probing.done->status == 0);
  CHECK(probing.clock.pending() == 0);
}

TEST_CASE("a probe is lent no memory by a server that talks without end") {
  Probing probing;
  probing.Start();
  probing.Accept();
  probing.Reply("HTTP/1.1 200 OK\r\n");
  const std::string line = "X-Filler: " + std::string(1000, 'x') + "\r\n";
  RunUntil(probing.loop, [&] {
    ::send(probing.connection.get(), line.data(), line.size(), MSG_NOSIGNAL);
    return probing.done.has_value();
  });
  CHECK(probing.done->error == "the answer's head is too large");
}

TEST_CASE("a probe that is destroyed is cancelled") {
  Probing probing;
  probing.Start();
  probing.probe.reset();
  CHECK(probing.clock.pending() == 0);
  for (int i = 0; i < 5; ++i) probing.loop.RunOnce();
  CHECK_FALSE(probing.done);
}

TEST_CASE("our own server passes our own probe, over IPv6 too") {
  for (const char* host : {"127.0.0.1", "::1"}) {
    Result<UniqueFd> listener = event::ListenOn(*SocketAddress::Parse(host, 0));
    if (!listener) {
      MESSAGE(listener.error().message());
      continue;
    }
    event::Loop loop;
    event::UvClock clock(loop);
    const uint16_t port = event::BoundAddress(listener->get())->port();
    http::Server server(loop, clock, {},
                        [](const http::Request& request, http::Responder responder) {
                          responder.Send({request.path == "/ok" ? 200 : 404});
                        });
    REQUIRE(server.Serve(*std::move(listener)));
    for (const auto& [path, status] : {std::pair{"/ok", 200}, std::pair{"/ko", 404}}) {
      std::optional<http::ProbeResult> done;
      http::Probe probe(loop, clock, host, port, path, 60'000ms,
                        [&](const http::ProbeResult& result) { done = result; });
      RunUntil(loop, [&] { return done.has_value(); });
      CHECK(done->error == "");
      CHECK(done->status == status);
    }
  }
}

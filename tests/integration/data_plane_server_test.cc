// Connections to the server: which are used again, when a request is sent once more, and how long
// anything may take.
#include <doctest/doctest.h>
#include <sys/socket.h>

#include <string>
#include <vector>

#include "agent/base/strings.h"
#include "tests/support/data_plane.h"

namespace modal::test {
namespace {

const std::string kHead = "HTTP/1.1 200 OK\r\n";
const std::string kChunked = kHead + "Transfer-Encoding: chunked\r\n\r\n";

std::string PutOf(std::string_view body) {
  return Concat("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: ", body.size(), "\r\n\r\n", body);
}

// One connection to the server, which has answered once and idles.
struct Idle {
  explicit Idle(const DataPlane::Change& change = [](policy::GatewayConfig&) {})
      : plane(change), client(plane.Ask(Get("/first"))), server(plane.Accept()) {
    REQUIRE(server.ReadMessage().whole);
    server.Send(Answer(200, "first"));
    REQUIRE(client.ReadMessage().body == "first");
  }
  DataPlane plane;
  Wire client;
  Wire server;
};

TEST_CASE("a connection is used again, whoever the client is") {
  Idle idle;
  for (int i = 0; i < 5; ++i) {
    Wire other = idle.plane.Ask(Get("/again"));
    CHECK(idle.server.ReadMessage().start == "GET /again HTTP/1.1");
    idle.server.Send(Answer(200, "again"));
    CHECK(other.ReadMessage().body == "again");
  }
  CHECK_FALSE(idle.plane.HasConnection());
}

TEST_CASE("of several that idle the freshest is used") {
  DataPlane plane;
  std::vector<Wire> clients;
  std::vector<Wire> servers;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(plane.Ask(Get(Concat("/", i))));
    servers.push_back(plane.Accept());
    CHECK(servers.back().ReadMessage().start == Concat("GET /", i, " HTTP/1.1"));
  }
  for (const size_t i : {2, 0, 1}) {
    servers[i].Send(Answer(200, ""));
    CHECK(clients[i].ReadMessage().status() == 200);
  }
  for (int round = 0; round < 3; ++round) {
    clients[0].Send(Get("/next"));
    CHECK(servers[1].ReadMessage().start == "GET /next HTTP/1.1");
    servers[1].Send(Answer(200, ""));
    CHECK(clients[0].ReadMessage().status() == 200);
  }
  CHECK_FALSE(servers[0].HasInput());
  CHECK_FALSE(servers[2].HasInput());
}

TEST_CASE("a connection that its server ends, or whose answer ends with it, is not used again") {
  DataPlane plane;
  Wire client = plane.Ask(Get("/1"));
  Wire server = plane.Accept();
  server.ReadMessage();
  SUBCASE("Connection: close") { server.Send(Answer(200, "1", "Connection: close\r\n")); }
  SUBCASE("HTTP/1.0") { server.Send("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n1"); }
  SUBCASE("to the end") {
    server.Send(kHead + "\r\n1");
    server.ShutWrite();
  }
  CHECK(client.ReadMessage().body == "1");
  CHECK(server.ReadToEnd().empty());
  client.Send(Get("/2"));
  Wire next = plane.Accept();
  CHECK(next.ReadMessage().start == "GET /2 HTTP/1.1");
}

TEST_CASE("an idle connection that the server closes is gone before anybody needs it") {
  Idle idle;
  SUBCASE("ended") { idle.server.Close(); }
  SUBCASE("reset") { idle.server.Reset(); }
  idle.plane.Await([](const auto& traffic) { return traffic.upstream_connections == 0; });
  CHECK(idle.plane.traffic().upstream_idle == 0);
  idle.client.Send(Post("/", "never sent twice"));
  Wire server = idle.plane.Accept();
  CHECK(server.ReadMessage().body == "never sent twice");
  server.Send(Answer(200, "fine"));
  CHECK(idle.client.ReadMessage().body == "fine");
  CHECK(idle.plane.traffic().upstream_retries == 0);
}

TEST_CASE("idle connections are closed by us, before the server would") {
  Idle idle;
  CHECK(idle.server.ReadToEnd().empty());
  CHECK(idle.server.end() == Wire::End::kClosed);
}

TEST_CASE("so many connections idle and no more: those that did for longest are closed") {
  constexpr size_t kMost = 64;
  constexpr size_t kAll = kMost + 6;
  DataPlane plane;
  std::vector<Wire> clients;
  std::vector<Wire> servers;
  for (size_t i = 0; i < kAll; ++i) {
    clients.push_back(plane.Ask(Get("/")));
    servers.push_back(plane.Accept());
    CHECK(servers.back().ReadMessage().whole);
  }
  for (size_t i = 0; i < kAll; ++i) {
    // Servers who say so are believed to keep theirs for a while.
    servers[i].Send(Answer(200, "", "Keep-Alive: timeout=60\r\n"));
    CHECK(clients[i].ReadMessage().status() == 200);
  }
  for (size_t i = 0; i < kAll - kMost; ++i) CHECK(servers[i].ReadToEnd().empty());
  // The freshest is still there.
  clients[0].Send(Get("/again"));
  CHECK(servers.back().ReadMessage().start == "GET /again HTTP/1.1");
  CHECK_FALSE(plane.HasConnection());
  plane.Await([](const auto& traffic) { return traffic.upstream_idle < kMost; });
}

TEST_CASE("idle connections are dropped when the server is no longer there to serve") {
  Idle idle;
  idle.plane.gateway.status.ready = false;
  idle.plane.gateway.Publish();
  idle.plane.Enter(health::Carriage::kNotYet);
  CHECK(idle.server.HasInput());
  CHECK(idle.server.ReadToEnd().empty());
  CHECK(idle.plane.traffic().upstream_idle <= 1);
}

TEST_CASE("a request that meets a closing connection goes again on a new one, if it may") {
  const std::string in_chunks =
      "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
      "4\r\nbody\r\n0\r\nX-A: 1\r\n\r\n";
  const std::string deletion = "DELETE / HTTP/1.1\r\nHost: x\r\n\r\n";
  for (const std::string& request : {Get("/"), PutOf("body"), in_chunks, deletion}) {
    for (const bool reset : {false, true}) {
      INFO(request, reset);
      Idle idle;
      idle.client.Send(request);
      const Message first = idle.server.ReadMessage();
      CHECK(first.whole);
      if (reset) {
        idle.server.Reset();
      } else {
        idle.server.Close();
      }
      Wire server = idle.plane.Accept();
      const Message second = server.ReadMessage();
      CHECK(second.start == first.start);
      CHECK(second.headers == first.headers);
      CHECK(second.body == first.body);
      CHECK(second.trailers == first.trailers);
      server.Send(Answer(200, "from the second"));
      CHECK(idle.client.ReadMessage().body == "from the second");
      idle.plane.Await([](const auto& traffic) { return traffic.upstream_retries == 1; });
    }
  }
}

TEST_CASE("a body that is still on its way goes again from its start") {
  Idle idle;
  idle.client.Send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf");
  CHECK(idle.server.ReadTo("half").ends_with("\r\n\r\nhalf"));
  idle.server.Close();
  Wire server = idle.plane.Accept();
  CHECK(server.ReadTo("half").ends_with("\r\n\r\nhalf"));
  idle.client.Send("done");
  CHECK(server.Read(4) == "done");
  server.Send(Answer(200, "whole"));
  CHECK(idle.client.ReadMessage().body == "whole");
}

TEST_CASE("a request is sent again once, and not when part of an answer has come") {
  Idle idle;
  idle.client.Send(Get("/"));
  CHECK(idle.server.ReadMessage().whole);
  SUBCASE("the second connection is closed too") {
    idle.server.Close();
    Wire second = idle.plane.Accept();
    CHECK(second.ReadMessage().whole);
    second.Close();
  }
  SUBCASE("a byte of an answer") {
    idle.server.Send("H");
    idle.server.Close();
  }
  SUBCASE("an interim answer") {
    idle.server.Send("HTTP/1.1 103 Early Hints\r\n\r\n");
    CHECK(idle.client.ReadMessage().status() == 103);
    idle.server.Close();
  }
  CHECK(idle.client.ReadMessage().status() == 502);
  CHECK_FALSE(idle.plane.HasConnection());
}

TEST_CASE("on a connection that is new, nothing is sent again") {
  DataPlane plane;
  Wire client = plane.Ask(Get("/"));
  Wire server = plane.Accept();
  CHECK(server.ReadMessage().whole);
  server.Close();
  CHECK(client.ReadMessage().status() == 502);
  CHECK_FALSE(plane.HasConnection());
}

TEST_CASE("POST that a server may have read is not sent twice, nor is a body that was not kept") {
  Idle idle;
  std::string request;
  SUBCASE("POST") { request = Post("/", "pay"); }
  SUBCASE("POST without a body") { request = "POST / HTTP/1.1\r\nHost: x\r\n\r\n"; }
  SUBCASE("PATCH") { request = "PATCH / HTTP/1.1\r\nHost: x\r\n\r\n"; }
  SUBCASE("LOCK") { request = "LOCK / HTTP/1.1\r\nHost: x\r\n\r\n"; }
  SUBCASE("a large body") { request = PutOf(std::string(100'000, 'x')); }
  idle.client.Send(request);
  CHECK(idle.server.ReadMessage().whole);
  idle.server.Close();
  CHECK(idle.client.ReadMessage().status() == 502);
  CHECK_FALSE(idle.plane.HasConnection());
  CHECK(idle.plane.traffic().upstream_retries == 0);
}

TEST_CASE("a POST that never left reaches the server once, on a connection that works") {
  Idle idle;
  {
    const Stopped stopped(idle.plane.gateway);
    SUBCASE("it came first") {
      idle.client.Send(Post("/", "pay"));
      idle.server.Reset();
    }
    SUBCASE("the end came first") {
      idle.server.Reset();
      idle.client.Send(Post("/", "pay"));
    }
    SUBCASE("a clean end came first") {
      idle.server.Close();
      idle.client.Send(Post("/", "pay"));
    }
    SUBCASE("with a body that is large") {
      idle.client.Send(Post("/", std::string(10'000, 'x')));
      idle.server.Reset();
    }
  }
  Wire server = idle.plane.Accept();
  const Message request = server.ReadMessage();
  CHECK(request.start == "POST / HTTP/1.1");
  CHECK(request.whole);
  server.Send(Answer(200, "paid"));
  CHECK(idle.client.ReadMessage().body == "paid");
  CHECK_FALSE(idle.plane.HasConnection());
}

TEST_CASE("every timeout says which one it was") {
  const auto check = [](Wire& client, const char* error) {
    const Message answer = client.ReadMessage();
    CHECK(answer.status() == 504);
    CHECK(answer.error() == error);
    CHECK(answer.whole);
  };
  SUBCASE("no connection") {
    // A queue of none that is full: the kernel answers nobody.
    UniqueFd deaf = ListenAnywhere();
    REQUIRE(::listen(deaf.get(), 0) == 0);
    const UniqueFd in_queue = ConnectTo(PortOf(deaf));
    DataPlane plane([&](policy::GatewayConfig& config) {
      config.upstream_port = PortOf(deaf);
      config.connect_timeout_ms = 100;
    });
    Wire client = plane.Ask(Get("/"));
    check(client, "connect_timeout");
    client.Send(Get("/"));  // its connection lives
    check(client, "connect_timeout");
    Wire poster = plane.Ask(Post("/", "body"));
    check(poster, "connect_timeout");
  }
  SUBCASE("no first byte") {
    DataPlane plane([](policy::GatewayConfig& config) { config.first_byte_timeout_ms = 100; });
    Wire client = plane.Ask(Post("/", "body"));
    Wire server = plane.Accept();
    CHECK(server.ReadMessage().whole);
    check(client, "first_byte_timeout");
    server.ReadToEnd();
    // The time is for the first byte only.
    Wire slow = plane.Ask(Get("/slow"));
    server = plane.Accept();
    CHECK(server.ReadMessage().whole);
    server.Send(kChunked + "1\r\na\r\n");
    slow.ReadTo("\r\n\r\n1\r\na\r\n");
    client = plane.Ask(Get("/"));
    Wire other = plane.Accept();
    check(client, "first_byte_timeout");
    server.Send("1\r\nb\r\n0\r\n\r\n");
    CHECK(slow.ReadTo("0\r\n\r\n") == "1\r\nb\r\n0\r\n\r\n");
  }
  SUBCASE("half a head, and silence") {
    DataPlane plane([](policy::GatewayConfig& config) { config.idle_timeout_ms = 100; });
    Wire client = plane.Ask(Get("/"));
    Wire server = plane.Accept();
    CHECK(server.ReadMessage().whole);
    server.Send("HTTP/1.1 200 O");
    check(client, "idle_timeout");
  }
  SUBCASE("altogether") {
    DataPlane plane([](policy::GatewayConfig& config) { config.request_timeout_ms = 100; });
    Wire client = plane.Ask(Get("/"));
    Wire server = plane.Accept();
    CHECK(server.ReadMessage().whole);
    check(client, "total_timeout");
    server.ReadToEnd();
    client = plane.Ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf");
    check(client, "total_timeout");
    // Only what begins within the time is whole.
    client = plane.Ask(Get("/"));
    server = plane.Accept();
    server.ReadTo("half");  // the upload that was cut
    CHECK(server.ReadToEnd().empty());
    server = plane.Accept();
    CHECK(server.ReadMessage().whole);
    server.Send(kChunked + "5\r\nhello\r\n");
    client.ReadToEnd();
    CHECK(client.end() == Wire::End::kReset);
  }
}

TEST_CASE("an answer that stops half-way is cut, but events may be silent") {
  DataPlane plane([](policy::GatewayConfig& config) { config.idle_timeout_ms = 200; });
  Wire listener = plane.Ask(Get("/events"));
  Wire events = plane.Accept();
  CHECK(events.ReadMessage().whole);
  events.Send(kHead +
              "Content-Type: text/event-stream; charset=utf-8\r\n"
              "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
  listener.ReadTo("\r\n\r\n1\r\na\r\n");
  // These begin later, so when they are cut the other's time is over too.
  for (const std::string& head : {kChunked, kHead + "\r\n", kHead + "Content-Length: 9\r\n\r\n",
                                  kHead + "Content-Length: 9000000\r\n\r\n"}) {
    Wire client = plane.Ask(Get("/"));
    Wire server = plane.Accept();
    CHECK(server.ReadMessage().whole);
    server.Send(head);
    CHECK(client.ReadToEnd().find("0\r\n\r\n") == std::string::npos);
    CHECK(client.end() == Wire::End::kReset);
    server.ReadToEnd();
  }
  events.Send("1\r\nb\r\n");
  CHECK(listener.ReadTo("b\r\n") == "1\r\nb\r\n");
  plane.Await([](const auto& traffic) {
    return traffic.refused[static_cast<size_t>(policy::Refusal::kIdleTimeout)] == 4;
  });
}

TEST_CASE("a server that is slow to begin is waited for") {
  DataPlane plane([](policy::GatewayConfig& config) {
    config.idle_timeout_ms = 100;
    config.connect_timeout_ms = 100;
  });
  Wire client = plane.Ask(Get("/"));
  Wire server = plane.Accept();
  CHECK(server.ReadMessage().whole);
  Wire idle = plane.Connect();  // closed when the same time has passed
  CHECK(idle.ReadToEnd().empty());
  server.Send(Answer(200, "at last"));
  CHECK(client.ReadMessage().body == "at last");
}

TEST_CASE("a client that takes nothing is cut, and the server with it") {
  DataPlane plane([](policy::GatewayConfig& config) { config.idle_timeout_ms = 200; });
  Wire client = plane.Ask(Get("/"));
  Wire server = plane.Accept();
  CHECK(server.ReadMessage().whole);
  bool chunked = false;
  SUBCASE("of known length") { server.Send(kHead + "Content-Length: 1000000000\r\n\r\n"); }
  SUBCASE("in chunks") {
    chunked = true;
    server.Send(kChunked);
  }
  const std::string piece =
      chunked ? "10000\r\n" + std::string(65'536, 'x') + "\r\n" : std::string(65'536, 'x');
  size_t sent = 0;
  while (sent < (size_t{1} << 29) && server.TrySend(piece)) sent += piece.size();
  CHECK(sent < size_t{1} << 29);
  plane.Await([](const auto& traffic) { return traffic.in_flight == 0; });
}

TEST_CASE("a server that takes nothing is 504") {
  DataPlane plane([](policy::GatewayConfig& config) { config.idle_timeout_ms = 200; });
  Wire client = plane.Ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n");
  Wire server = plane.Accept();
  const std::string piece(65'536, 'x');
  while (!client.HasInput() && client.TrySend(piece)) {
  }
  const Message answer = client.ReadMessage();
  CHECK(answer.status() == 504);
  CHECK(answer.error() == "idle_timeout");
}

}  // namespace
}  // namespace modal::test

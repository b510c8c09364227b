// What clients send, right and wrong: refused early, or with the server as it came.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "agent/base/strings.h"
#include "tests/support/data_plane.h"

namespace modal::test {
namespace {

using namespace std::string_literals;

struct Refused {
  const char* what;
  int status;
  std::string request;
};

// The answer to what is no request, on a connection that ends with it.
void CheckRefused(const DataPlane& plane, const Refused& refused) {
  INFO(refused.what);
  Wire client = plane.Ask(refused.request);
  const Message answer = client.ReadMessage();
  CHECK(answer.status() == refused.status);
  CHECK(answer.whole);
  CHECK(answer["Connection"] == "close");
  CHECK(answer["Content-Type"] == "application/json");
  CHECK_FALSE(answer.error().empty());
  CHECK(client.ReadToEnd().empty());
  CHECK(client.end() == Wire::End::kClosed);
}

std::string PostWith(std::string_view lines, std::string_view body = "abc") {
  return Concat("POST / HTTP/1.1\r\nHost: x\r\n", lines, "\r\n", body);
}

std::string GetWith(std::string_view lines) {
  return Concat("GET / HTTP/1.1\r\nHost: x\r\n", lines, "\r\n");
}

TEST_CASE("a head that is not HTTP, or can be read in two ways, is refused before the server") {
  DataPlane plane;
  const std::vector<Refused> cases = {
      {"two lengths", 400, PostWith("Content-Length: 3\r\nContent-Length: 4\r\n")},
      {"a length twice", 400, PostWith("Content-Length: 3\r\nContent-Length: 3\r\n")},
      {"a list of lengths", 400, PostWith("Content-Length: 3, 3\r\n")},
      {"a negative length", 400, PostWith("Content-Length: -3\r\n")},
      {"a length with a sign", 400, PostWith("Content-Length: +3\r\n")},
      {"a length in hex", 400, PostWith("Content-Length: 0x3\r\n")},
      {"an empty length", 400, PostWith("Content-Length: \r\n")},
      {"a length with a blank", 400, PostWith("Content-Length: 1 2\r\n")},
      {"a length beyond 64 bits", 400, PostWith("Content-Length: 18446744073709551616\r\n")},
      {"length and chunked", 400,
       PostWith("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")},
      {"chunked and length", 400,
       PostWith("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "0\r\n\r\n")},
      {"chunked twice", 400, PostWith("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n")},
      {"chunked in two lines", 400,
       PostWith("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")},
      {"gzip", 400, PostWith("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n")},
      {"identity", 400, PostWith("Transfer-Encoding: identity\r\n")},
      {"not quite chunked", 400, PostWith("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n")},
      {"quoted chunked", 400, PostWith("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n")},
      {"an empty encoding", 400, PostWith("Transfer-Encoding:\r\n")},
      {"chunked in HTTP/1.0", 400,
       "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {"a folded line", 400, GetWith("X-A: 1\r\n 2\r\n")},
      {"a line that begins with a tab", 400, GetWith("X-A: 1\r\n\tX-B: 2\r\n")},
      {"a first line that is folded", 400, "GET / HTTP/1.1\r\n Host: x\r\n\r\n"},
      {"a blank before the colon", 400, GetWith("X-A : 1\r\n")},
      {"a tab before the colon", 400, GetWith("X-A\t: 1\r\n")},
      {"no colon", 400, GetWith("X-A\r\n")},
      {"no name", 400, GetWith(": 1\r\n")},
      {"a name that is no token", 400, GetWith("X(A): 1\r\n")},
      {"a NUL in a value", 400, GetWith("X-A: 1\0002\r\n"s)},
      {"a NUL in a name", 400, GetWith("X\0A: 1\r\n"s)},
      {"a NUL in the target", 400, "GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n"s},
      {"a bare CR in a value", 400, GetWith("X-A: 1\rX-B: 2\r\n")},
      {"a bare CR at the end of a line", 400, "GET / HTTP/1.1\rHost: x\r\n\r\n"},
      {"bare LFs", 400, "GET / HTTP/1.1\nHost: x\n\n"},
      {"a control character", 400, GetWith("X-A: 1\x01\r\n")},
      {"no Host", 400, "GET / HTTP/1.1\r\n\r\n"},
      {"two Hosts", 400, "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"},
      {"the same Host twice", 400, "GET / HTTP/1.1\r\nHost: x\r\nhost: x\r\n\r\n"},
      {"two Hosts in HTTP/1.0", 400, "GET / HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n"},
      {"a Host with a blank", 400, "GET / HTTP/1.1\r\nHost: x y\r\n\r\n"},
      {"a Host with a user", 400, "GET / HTTP/1.1\r\nHost: me@x\r\n\r\n"},
      {"a Host with a path", 400, "GET / HTTP/1.1\r\nHost: x/y\r\n\r\n"},
      {"a list of Hosts", 400, "GET / HTTP/1.1\r\nHost: x, y\r\n\r\n"},
      {"a second blank", 400, "GET  / HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"a blank in the target", 400, "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"a fragment", 400, "GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"a target without a slash", 400, "GET a HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"'*' for GET", 400, "GET * HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"another scheme", 400, "GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"an absolute target without a host", 400, "GET http:///a HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"an absolute target with a user", 400, "GET http://me@x/ HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"bytes that are no ASCII in the target", 400,
       "GET /caf\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"no version", 400, "GET /\r\n\r\n"},
      {"another protocol", 400, "GET / ICE/1.0\r\nHost: x\r\n\r\n"},
      {"HTTP/2 as text", 505, "GET / HTTP/2.0\r\nHost: x\r\n\r\n"},
      {"TLS", 400, "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"s},
      {"CONNECT", 405, "CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n"},
      {"another expectation", 417, PostWith("Expect: 200-ok\r\nContent-Length: 3\r\n")},
      {"headers that are too large", 431, GetWith("X-A: " + std::string(70'000, 'a') + "\r\n")},
      {"a target that is too long", 414,
       Concat("GET /", std::string(70'000, 'a'), " HTTP/1.1\r\nHost: x\r\n\r\n")},
  };
  for (const Refused& refused : cases) CheckRefused(plane, refused);
  std::string many;
  for (int i = 0; i < 300; ++i) many += Concat("X-", i, ": 1\r\n");
  CheckRefused(plane, {"too many headers", 431, GetWith(many)});
  CHECK_FALSE(plane.HasConnection());

  // Such things are counted, and nothing is broken by them.
  Wire client = plane.Ask(Get("/"));
  Wire server = plane.Accept();
  CHECK(server.ReadMessage().start == "GET / HTTP/1.1");
  server.Send(Answer(200, "fine"));
  CHECK(client.ReadMessage().body == "fine");
  plane.Await([](const auto& traffic) {
    return traffic.refused[static_cast<size_t>(policy::Refusal::kBadRequest)] > 50 &&
           traffic.refused[static_cast<size_t>(policy::Refusal::kHeaderTooLarge)] == 3;
  });
}

TEST_CASE("the start of an HTTP/2 connection is refused") {
  DataPlane plane;
  Wire client = plane.Ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  const int status = client.ReadMessage().status();
  CHECK((status == 400 || status == 505));
  client.ReadToEnd();
  CHECK_FALSE(plane.HasConnection());
}

TEST_CASE("a bad chunk is 400 to the client, and to the server a request that breaks off") {
  for (const std::string& bad :
       {"zz\r\n"s, "-1\r\n"s, "+3\r\nabc\r\n"s, "0x3\r\nabc\r\n"s, "3 \r\nabc\r\n"s,
        "fffffffffffffffff\r\n"s, "3\nabc\r\n"s, "3\r\nabcd\r\n"s, "3\r\nabc0\r\n\r\n"s, "\r\n"s,
        ";x\r\n"s, "3;\0\r\nabc\r\n"s, "3;"s + std::string(100'000, 'x'), "0\r\nX-A : 1\r\n\r\n"s,
        "0\r\nX-A\r\n\r\n"s, "0\r\nX-A: 1\r\n 2\r\n\r\n"s, "0\r\nContent-Length: 5\r\n\r\n"s,
        "0\r\nTransfer-Encoding: chunked\r\n\r\n"s}) {
    INFO(bad.substr(0, 20));
    DataPlane plane;
    Wire client =
        plane.Ask("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    Wire server = plane.Accept();
    const std::string head = server.ReadTo("first\r\n");
    CHECK(head.starts_with("POST / HTTP/1.1\r\n"));
    client.TrySend(bad);
    const Message answer = client.ReadMessage();
    CHECK(answer.status() == 400);
    CHECK(answer["Connection"] == "close");
    CHECK(client.ReadToEnd().empty());
    const std::string rest = server.ReadToEnd();
    CHECK(rest.find("0\r\n\r\n") == std::string::npos);
    CHECK(server.end() == Wire::End::kReset);
  }
}

TEST_CASE("a body that is too large is 413 before it is read, and the client hears it") {
  DataPlane plane([](policy::GatewayConfig& config) { config.max_body = 1'000; });
  SUBCASE("its length is known") {
    Wire client = plane.Ask(PostWith("Content-Length: 1001\r\n", ""));
    CHECK(client.ReadMessage().error() == "body_too_large");
    CHECK_FALSE(plane.HasConnection());
  }
  SUBCASE("the client sends it all the same, before it reads") {
    Wire client = plane.Connect();
    client.Send(Post("/", std::string(5'000'000, 'x')));
    const Message answer = client.ReadMessage();
    CHECK(answer.status() == 413);
    CHECK(answer.error() == "body_too_large");
    CHECK(answer["Connection"] == "close");
    client.ReadToEnd();
    CHECK(client.end() == Wire::End::kClosed);
    CHECK_FALSE(plane.HasConnection());
  }
  SUBCASE("it comes in chunks") {
    Wire client = plane.Ask(PostWith("Transfer-Encoding: chunked\r\n", ""));
    client.Send("3e8\r\n" + std::string(1'000, 'x') + "\r\n");
    Wire server = plane.Accept();
    server.ReadTo("\r\n\r\n3e8\r\n");
    CHECK(server.Read(1'000).size() == 1'000);
    client.Send("1\r\nx\r\n");
    const Message answer = client.ReadMessage();
    CHECK(answer.status() == 413);
    CHECK(answer["Connection"] == "close");
    server.ReadToEnd();
    CHECK(server.end() == Wire::End::kReset);
  }
  SUBCASE("it waits for 100 Continue") {
    Wire client = plane.Ask(PostWith("Content-Length: 1001\r\nExpect: 100-continue\r\n", ""));
    CHECK(client.ReadMessage().status() == 413);
    CHECK(client.ReadToEnd().empty());
    CHECK(client.end() == Wire::End::kClosed);
  }
  SUBCASE("it is just small enough") {
    Wire client = plane.Ask(Post("/", std::string(1'000, 'x')));
    Wire server = plane.Accept();
    CHECK(server.ReadMessage().body.size() == 1'000);
    server.Send(Answer(200, ""));
    CHECK(client.ReadMessage().status() == 200);
  }
}

TEST_CASE("targets go on as they came") {
  DataPlane plane;
  Wire client = plane.Connect();
  Wire server;
  for (const std::string target : {"/", "//", "//a//b", "/a/../b/./c", "/%2e%2E/%2F%00?x=%20&&=;",
                                   "/a?", "/?a=/../?b", "/~!$&'()*+,;=:@", "/a|b^c`{}"}) {
    INFO(target);
    client.Send(Get(target));
    if (!server) server = plane.Accept();
    CHECK(server.ReadMessage().start == "GET " + target + " HTTP/1.1");
    server.Send(Answer(200, ""));
    REQUIRE(client.ReadMessage().status() == 200);
  }
  client.Send("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n");
  CHECK(server.ReadMessage().start == "OPTIONS * HTTP/1.1");
}

TEST_CASE("an absolute target's host goes before the Host header's") {
  struct Case {
    std::string target;
    std::string start;
    std::string host;
  };
  DataPlane plane;
  Wire client = plane.Connect();
  Wire server;
  for (const auto& row : {Case{"http://a.example:81//b?c", "GET //b?c HTTP/1.1", "a.example:81"},
                          Case{"HTTP://a.example", "GET / HTTP/1.1", "a.example"},
                          Case{"https://[::1]:9/%2F", "GET /%2F HTTP/1.1", "[::1]:9"},
                          Case{"http://a.example?q", "GET /?q HTTP/1.1", "a.example"},
                          Case{"http://a.example/?", "GET /? HTTP/1.1", "a.example"}}) {
    const auto& [target, start, host] = row;
    INFO(row.target);
    client.Send(Concat("GET ", target, " HTTP/1.1\r\nHost: other\r\n\r\n"));
    if (!server) server = plane.Accept();
    const Message request = server.ReadMessage();
    CHECK(request.start == start);
    CHECK(request.Count("Host") == 1);
    CHECK(request["Host"] == host);
    CHECK(request["X-Forwarded-Host"] == host);
    server.Send(Answer(200, ""));
    REQUIRE(client.ReadMessage().status() == 200);
  }
}

TEST_CASE("an upgrade to anything that is not configured is none") {
  DataPlane plane;
  Wire client = plane.Ask(GetWith(
      "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"));
  Wire server = plane.Accept();
  const Message request = server.ReadMessage();
  CHECK(request.start == "GET / HTTP/1.1");
  CHECK_FALSE(request.Has("Upgrade"));
  CHECK_FALSE(request.Has("Connection"));
  CHECK_FALSE(request.Has("HTTP2-Settings"));
  SUBCASE("the server answers it") {
    server.Send(Answer(200, "in HTTP/1.1"));
    CHECK(client.ReadMessage().body == "in HTTP/1.1");
  }
  SUBCASE("the server upgrades all the same") {
    server.Send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n");
    CHECK(client.ReadMessage().status() == 502);
    CHECK(server.ReadToEnd().empty());
  }
}

TEST_CASE("a protocol that is configured passes as bytes, and to no other is switched") {
  DataPlane plane([](policy::GatewayConfig& config) { SetBoardText(config.upgrades, "tcp,chat"); });
  Wire client = plane.Ask(GetWith("Connection: Upgrade\r\nUpgrade: h2c, TCP\r\n"));
  Wire server = plane.Accept();
  const Message request = server.ReadMessage();
  CHECK(request["Connection"] == "Upgrade");
  CHECK(request["Upgrade"] == "TCP");
  const std::string switched = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: ";
  SUBCASE("what was asked for") {
    server.Send(switched + "tcp\r\n\r\n\xff\x01 no frame");
    const Message answer = client.ReadMessage();
    CHECK(answer.status() == 101);
    CHECK(answer["Upgrade"] == "tcp");
    CHECK(client.Read(11) == "\xff\x01 no frame");
    client.Send("up");
    CHECK(server.Read(2) == "up");
    client.ShutWrite();
    CHECK(server.ReadToEnd().empty());
    server.Send("still there");
    CHECK(client.Read(11) == "still there");
    server.Close();
    CHECK(client.ReadToEnd().empty());
    CHECK(client.end() == Wire::End::kClosed);
  }
  SUBCASE("something else") {
    SUBCASE("that is configured too") { server.Send(switched + "chat\r\n\r\n"); }
    SUBCASE("that was asked for, but is not configured") { server.Send(switched + "h2c\r\n\r\n"); }
    SUBCASE("without a name") { server.Send("HTTP/1.1 101 Up\r\nConnection: Upgrade\r\n\r\n"); }
    const Message answer = client.ReadMessage();
    CHECK(answer.status() == 502);
    CHECK(answer.error() == "upstream_answer");
    CHECK(server.ReadToEnd().empty());
    CHECK(server.end() != Wire::End::kNone);
  }
  plane.Await([](const auto& traffic) {
    return traffic.in_flight == 0 && traffic.upstream_connections == 0;
  });
}

TEST_CASE("a request in HTTP/1.0 goes on in HTTP/1.1, with a Host") {
  DataPlane plane;
  Wire client = plane.Ask("GET /a HTTP/1.0\r\n\r\n");
  Wire server = plane.Accept();
  const Message request = server.ReadMessage();
  CHECK(request.start == "GET /a HTTP/1.1");
  CHECK(request.Count("Host") == 1);
  CHECK_FALSE(request["Host"].empty());
  server.Send(Answer(200, "a"));
  const Message answer = client.ReadMessage();
  CHECK(answer.body == "a");
  CHECK(answer["Connection"] == "close");
  client.ReadToEnd();
  CHECK(client.end() == Wire::End::kClosed);
}

TEST_CASE("requests that a client sends ahead are answered in their order") {
  DataPlane plane;
  Wire client = plane.Ask(Get("/1") + Post("/2", "body of 2") + Get("/3") + Get("/4"));
  Wire server = plane.Accept();
  for (int i = 1; i <= 4; ++i) {
    const Message request = server.ReadMessage();
    CHECK(request.start == Concat(i == 2 ? "POST" : "GET", " /", i, " HTTP/1.1"));
    CHECK(request.body == (i == 2 ? "body of 2" : ""));
    server.Send(Answer(200, Concat("answer ", i)));
  }
  for (int i = 1; i <= 4; ++i) CHECK(client.ReadMessage().body == Concat("answer ", i));
  CHECK_FALSE(plane.HasConnection());
}

TEST_CASE("what follows a request that closes, or a bad one, is not looked at") {
  DataPlane plane;
  Wire client = plane.Ask(Get("/1", "Connection: close\r\n") + Get("/2"));
  Wire server = plane.Accept();
  server.ReadMessage();
  server.Send(Answer(200, "1"));
  const Message answer = client.ReadMessage();
  CHECK(answer.body == "1");
  CHECK(answer["Connection"] == "close");
  CHECK(client.ReadToEnd().empty());
  CHECK_FALSE(server.HasInput());
  Wire bad = plane.Ask(GetWith("X-A : 1\r\n") + Get("/smuggled"));
  CHECK(bad.ReadMessage().status() == 400);
  CHECK(bad.ReadToEnd().empty());
  CHECK_FALSE(server.HasInput());
  CHECK_FALSE(plane.HasConnection());
}

TEST_CASE("a client that has shut its side gets its answer") {
  DataPlane plane;
  Wire client = plane.Connect();
  SUBCASE("one request") { client.Send(Get("/1")); }
  SUBCASE("with a body") { client.Send(Post("/1", "body")); }
  SUBCASE("in chunks") {
    client.Send(PostWith("Transfer-Encoding: chunked\r\n", "4\r\nbody\r\n0\r\n\r\n"));
  }
  SUBCASE("two requests") { client.Send(Get("/1") + Get("/2")); }
  client.ShutWrite();
  Wire server = plane.Accept();
  CHECK(server.ReadMessage().whole);
  server.Send(Answer(200, "answer"));
  CHECK(client.ReadMessage().body == "answer");
  plane.RoundTrip();
  if (server.HasInput() && server.ReadMessage().start == "GET /2 HTTP/1.1") {
    server.Send(Answer(200, "second"));
    CHECK(client.ReadMessage().body == "second");
  }
  CHECK(client.ReadToEnd().empty());
  CHECK(client.end() == Wire::End::kClosed);
}

TEST_CASE("a client that has shut its side and breaks later gives its place back") {
  DataPlane plane([](policy::GatewayConfig& config) {
    config.max_concurrency = 1;
    config.queue = 0;
  });
  Wire client = plane.Ask(Get("/"));
  client.ShutWrite();
  Wire server = plane.Accept();
  CHECK(server.ReadMessage().whole);
  server.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
  CHECK(client.ReadTo("\r\n\r\n1\r\na\r\n").starts_with("HTTP/1.1 200 "));
  client.Reset();
  // The first piece that cannot be delivered ends it.
  while (server.TrySend("1\r\na\r\n") && plane.traffic().in_flight > 0) plane.RoundTrip();
  plane.Await(
      [](const auto& traffic) { return traffic.in_flight == 0 && traffic.client_gone == 1; });
  Wire next = plane.Ask(Get("/next"));
  CHECK(plane.Accept().ReadMessage().start == "GET /next HTTP/1.1");
}

TEST_CASE("a client that ends or breaks off in a body is not a whole request") {
  DataPlane plane;
  const bool reset = [] {
    bool result = false;
    SUBCASE("reset") { result = true; }
    SUBCASE("ended") { result = false; }
    return result;
  }();
  const std::string head = "POST / HTTP/1.1\r\nHost: x\r\n";
  for (const std::string& start : {head + "Content-Length: 10\r\n\r\nhalf",
                                   head + "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
                                   head + "Transfer-Encoding: chunked\r\n\r\n9\r\nhalf"}) {
    Wire client = plane.Ask(start);
    Wire server = plane.Accept();
    server.ReadTo("half");
    if (reset) {
      client.Reset();
    } else {
      client.Close();
    }
    CHECK(server.ReadToEnd().find("0\r\n") == std::string::npos);
    CHECK(server.end() == Wire::End::kReset);
  }
}

TEST_CASE("the body of a request goes on as it comes, in its framing, with its trailers") {
  DataPlane plane;
  SUBCASE("chunks") {
    Wire client = plane.Ask(PostWith(
        "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\nTE: trailers\r\n", "3\r\none\r\n"));
    Wire server = plane.Accept();
    const std::string head = server.ReadTo("\r\n\r\n");
    CHECK(head.find("\r\nTransfer-Encoding: chunked\r\n") != std::string::npos);
    CHECK(head.find("\r\nTE: trailers\r\n") != std::string::npos);
    CHECK(head.find("\r\nTrailer: X-Sum\r\n") != std::string::npos);
    CHECK(server.ReadTo("one\r\n") == "3\r\none\r\n");
    client.Send("3;ext=1\r\ntwo\r\n");
    CHECK(server.ReadTo("two\r\n") == "3\r\ntwo\r\n");
    client.Send(
        "0\r\nX-Sum: 6\r\nHost: evil\r\nConnection: close\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n");
    CHECK(server.ReadTo("\r\n\r\n") == "0\r\nX-Sum: 6\r\n\r\n");
    server.Send(Answer(200, ""));
    CHECK(client.ReadMessage().status() == 200);
  }
  SUBCASE("a length") {
    Wire client = plane.Ask(PostWith("Content-Length: 6\r\n", "one"));
    Wire server = plane.Accept();
    CHECK(server.ReadTo("\r\n\r\n").find("\r\nContent-Length: 6\r\n") != std::string::npos);
    CHECK(server.Read(3) == "one");
    client.Send("two");
    CHECK(server.Read(3) == "two");
  }
  SUBCASE("no bytes in chunks") {
    Wire client = plane.Ask(PostWith("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"));
    Wire server = plane.Accept();
    const Message request = server.ReadMessage();
    CHECK(request.whole);
    CHECK(request.chunked);
    CHECK(request.body.empty());
    server.Send(Answer(200, ""));
    CHECK(client.ReadMessage().status() == 200);
  }
  SUBCASE("a length of none") {
    Wire client = plane.Ask(PostWith("Content-Length: 0\r\n", ""));
    Wire server = plane.Accept();
    const Message request = server.ReadMessage();
    CHECK(request["Content-Length"] == "0");
    server.Send(Answer(200, ""));
    CHECK(client.ReadMessage().status() == 200);
  }
}

TEST_CASE("100 Continue is said when the body is wanted") {
  const std::string lines = "Expect: 100-continue\r\n";
  SUBCASE("at once") {
    DataPlane plane;
    Wire client = plane.Ask(PostWith("Content-Length: 4\r\n" + lines, ""));
    const Message interim = client.ReadMessage();
    CHECK(interim.status() == 100);
    client.Send("body");
    Wire server = plane.Accept();
    const Message request = server.ReadMessage();
    CHECK(request.body == "body");
    CHECK_FALSE(request.Has("Expect"));
    server.Send("HTTP/1.1 100 Continue\r\n\r\n" + Answer(200, "done"));
    CHECK(client.ReadMessage().body == "done");
  }
  SUBCASE("not while it waits for a place") {
    DataPlane plane([](policy::GatewayConfig& config) { config.max_concurrency = 1; });
    Wire first = plane.Ask(Get("/first"));
    Wire server = plane.Accept();
    server.ReadMessage();
    Wire client = plane.Ask(PostWith("Content-Length: 4\r\n" + lines, ""));
    plane.Await([](const auto& traffic) { return traffic.queued == 1; });
    CHECK_FALSE(client.HasInput());
    server.Send(Answer(200, ""));
    CHECK(client.ReadMessage().status() == 100);
    client.Send("body");
    CHECK(server.ReadMessage().body == "body");
  }
  SUBCASE("not for a body that has come already, nor to HTTP/1.0, nor without a body") {
    DataPlane plane;
    Wire server;
    for (const std::string& request :
         {"POST / HTTP/1.0\r\nContent-Length: 4\r\n" + lines + "\r\nbody", GetWith(lines)}) {
      Wire client = plane.Ask(request);
      if (!server) server = plane.Accept();
      CHECK(server.ReadMessage().whole);
      server.Send(Answer(200, "done"));
      CHECK(client.ReadMessage().status() == 200);
    }
  }
  SUBCASE("not when it is refused") {
    DataPlane plane([](policy::GatewayConfig& config) { config.auth_required = 1; });
    Wire client = plane.Ask(PostWith("Content-Length: 4\r\n" + lines, ""));
    CHECK(client.ReadMessage().status() == 401);
    CHECK(client.ReadToEnd().empty());
    CHECK(client.end() == Wire::End::kClosed);
  }
}

TEST_CASE("a head that trickles is 408, a body that stalls too, and an idle client just closed") {
  const auto check = [](const Message& answer) {
    CHECK(answer.status() == 408);
    CHECK(answer.error() == "request_timeout");
    CHECK(answer["Connection"] == "close");
  };
  SUBCASE("the head") {
    DataPlane plane([](policy::GatewayConfig& config) { config.header_timeout_ms = 100; });
    Wire client = plane.Ask("GET / HTTP/1.1\r\nHo");
    check(client.ReadMessage());
    CHECK(client.ReadToEnd().empty());
    CHECK_FALSE(plane.HasConnection());
    // Bytes that come do not give it more time.
    Wire trickling = plane.Ask("GET / HTTP/1.1\r\nX-Slow: ");
    while (!trickling.HasInput() && trickling.TrySend("x")) plane.RoundTrip();
    check(trickling.ReadMessage());
  }
  SUBCASE("the body") {
    DataPlane plane([](policy::GatewayConfig& config) { config.idle_timeout_ms = 100; });
    for (const std::string& start : {PostWith("Content-Length: 10\r\n", "half"),
                                     PostWith("Transfer-Encoding: chunked\r\n", "4\r\nhalf\r\n")}) {
      Wire client = plane.Ask(start);
      Wire server = plane.Accept();
      server.ReadTo("half");
      check(client.ReadMessage());
      CHECK(server.ReadToEnd().find("0\r\n") == std::string::npos);
      CHECK(server.end() == Wire::End::kReset);
    }
    plane.Await([](const auto& traffic) {
      return traffic.refused[static_cast<size_t>(policy::Refusal::kRequestTimeout)] == 2;
    });
    CHECK(plane.traffic().by_status[408 - 100] == 2);
    CHECK(plane.traffic().client_gone == 0);
  }
  SUBCASE("between requests") {
    DataPlane plane([](policy::GatewayConfig& config) { config.idle_timeout_ms = 100; });
    Wire client = plane.Connect();
    CHECK(client.ReadToEnd().empty());
    CHECK(client.end() == Wire::End::kClosed);
  }
}

}  // namespace
}  // namespace modal::test

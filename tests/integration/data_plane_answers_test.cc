// What the server answers, right and wrong: framed for the client, as it comes, and never looking
// whole when it is not.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "agent/base/strings.h"
#include "tests/support/data_plane.h"

namespace modal::test {
namespace {

using namespace std::string_literals;

const std::string kHead = "HTTP/1.1 200 OK\r\n";
const std::string kChunked = kHead + "Transfer-Encoding: chunked\r\n\r\n";

// One client and one server, with a request between them.
struct Exchange {
  explicit Exchange(std::string_view request = Get("/"))
      : client(plane.Ask(request)), server(plane.Accept()) {
    REQUIRE(server.ReadMessage().whole);
  }
  DataPlane plane;
  Wire client;
  Wire server;
};

TEST_CASE("an answer to HEAD, 204 and 304 have no body, whatever they say") {
  struct Case {
    const char* what;
    const char* method;
    std::string answer;
    const char* length;  // that the client is told
  };
  DataPlane plane;
  Wire client = plane.Connect();
  Wire server;
  for (const auto& row :
       {Case{"HEAD with a length", "HEAD", kHead + "Content-Length: 5\r\n\r\n", "5"},
        Case{"HEAD in chunks", "HEAD", kChunked, ""},
        Case{"HEAD without a word", "HEAD", kHead + "\r\n", ""},
        Case{"204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", ""},
        Case{"204 with a length", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
             ""},
        Case{"304", "GET", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n", ""}}) {
    const auto& [what, method, answer, length] = row;
    INFO(row.what);
    client.Send(Concat(method, " / HTTP/1.1\r\nHost: x\r\n\r\n"));
    plane.RoundTrip();
    if (plane.HasConnection()) server = plane.Accept();
    CHECK(server.ReadMessage().start == Concat(method, " / HTTP/1.1"));
    server.Send(answer);
    const Message head = client.ReadMessage(true);
    CHECK(head.status() > 0);
    CHECK(head["Content-Length"] == length);
    // Whatever came next would be seen here.
    plane.RoundTrip();
    CHECK_FALSE(client.HasInput());
  }
  client.Send(Get("/"));
  plane.RoundTrip();
  if (plane.HasConnection()) server = plane.Accept();
  CHECK(server.ReadMessage().whole);
  server.Send(Answer(200, "still in step"));
  CHECK(client.ReadMessage().body == "still in step");
}

TEST_CASE("bodies end where they end: by length, by chunk, by the connection's end") {
  Exchange exchange;
  std::string body = "hello, world";
  bool chunked = true;
  SUBCASE("length") {
    chunked = false;
    exchange.server.Send(kHead + "Content-Length: 12\r\n\r\n" + body);
  }
  SUBCASE("chunks") {
    exchange.server.Send(kChunked + "7\r\nhello, \r\n5;x=y\r\nworld\r\n0\r\n\r\n");
  }
  SUBCASE("the end") {
    exchange.server.Send(kHead + "\r\n" + body);
    exchange.server.Close();
  }
  SUBCASE("the end, of HTTP/1.0") {
    exchange.server.Send("HTTP/1.0 200 OK\r\n\r\n" + body);
    exchange.server.Close();
  }
  SUBCASE("a length of none") {
    chunked = false;
    body.clear();
    exchange.server.Send(kHead + "Content-Length: 0\r\n\r\n");
  }
  SUBCASE("no chunk") {
    body.clear();
    exchange.server.Send(kChunked + "0\r\n\r\n");
  }
  SUBCASE("the end at once") {
    body.clear();
    exchange.server.Send(kHead + "\r\n");
    exchange.server.Close();
  }
  const Message answer = exchange.client.ReadMessage();
  CHECK(answer.status() == 200);
  CHECK(answer.whole);
  CHECK(answer.chunked == chunked);
  CHECK(answer.body == body);
  // And the client's connection can go on.
  exchange.client.Send(Get("/next"));
  exchange.plane.RoundTrip();
  Wire next = exchange.plane.HasConnection() ? exchange.plane.Accept() : std::move(exchange.server);
  CHECK(next.ReadMessage().start == "GET /next HTTP/1.1");
  next.Send(Answer(200, "next"));
  CHECK(exchange.client.ReadMessage().body == "next");
}

TEST_CASE("nothing in chunks goes to HTTP/1.0") {
  Exchange exchange("GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n");
  SUBCASE("the connection ends where the body does") {
    exchange.server.Send(kChunked + "5\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n");
    const Message answer = exchange.client.ReadMessage();
    CHECK_FALSE(answer.Has("Transfer-Encoding"));
    CHECK(answer["Connection"] == "close");
    CHECK(answer.body == "hello");
    CHECK(answer.whole);
  }
  SUBCASE("of no length at all") {
    exchange.server.Send(kChunked + "0\r\n\r\n");
    const Message answer = exchange.client.ReadMessage();
    CHECK(answer.body.empty());
    CHECK(answer.whole);
  }
  SUBCASE("an answer that breaks off does not look whole") {
    exchange.server.Send(kChunked + "5\r\nhello\r\n");
    exchange.client.ReadTo("hello");
    exchange.server.Close();
    exchange.client.ReadToEnd();
    CHECK(exchange.client.end() == Wire::End::kReset);
  }
  SUBCASE("where the length is known the connection lives") {
    exchange.server.Send(Answer(200, "hello"));
    const Message answer = exchange.client.ReadMessage();
    CHECK(answer["Connection"] == "keep-alive");
    CHECK(answer.body == "hello");
    exchange.client.Send("GET /2 HTTP/1.0\r\nHost: x\r\n\r\n");
    CHECK(exchange.server.ReadMessage().start == "GET /2 HTTP/1.1");
    exchange.server.Send(Answer(200, "2"));
    CHECK(exchange.client.ReadMessage()["Connection"] == "close");
    CHECK(exchange.client.ReadToEnd().empty());
  }
  SUBCASE("interim answers do not either") {
    exchange.server.Send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + Answer(200, "hello"));
    CHECK(exchange.client.ReadMessage().status() == 200);
  }
}

TEST_CASE("trailers pass, but for those that belong into a head") {
  Exchange exchange(Get("/", "TE: trailers\r\n"));
  exchange.server.Send(kHead + "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n");
  exchange.server.Send(
      "5\r\nhello\r\n0\r\nX-Sum: 1\r\nHost: evil\r\nConnection: close\r\n"
      "X-Last: 2\r\n\r\n");
  const Message answer = exchange.client.ReadMessage();
  CHECK(answer["Trailer"] == "X-Sum");
  CHECK(answer.whole);
  CHECK(answer.trailers ==
        std::vector<std::pair<std::string, std::string>>{{"X-Sum", "1"}, {"X-Last", "2"}});
}

TEST_CASE("interim answers pass as they come, before the answer") {
  Exchange exchange;
  exchange.server.Send(
      "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: X-A\r\nX-A: 1\r\n\r\n");
  const Message hints = exchange.client.ReadMessage();
  CHECK(hints.status() == 103);
  CHECK(hints["Link"] == "</a.css>");
  CHECK_FALSE(hints.Has("Connection"));
  CHECK_FALSE(hints.Has("X-A"));
  exchange.server.Send(
      "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\n");
  CHECK(exchange.client.ReadMessage().status() == 102);
  CHECK(exchange.client.ReadMessage()["Link"] == "</b>");
  exchange.server.Send(Answer(404, "gone"));
  const Message answer = exchange.client.ReadMessage();
  CHECK(answer.start == "HTTP/1.1 404 Its Reason");
  CHECK(answer.body == "gone");
}

TEST_CASE("an early answer reaches the client while it still uploads") {
  DataPlane plane;
  const size_t size = 3'000'000;
  Wire client = plane.Ask(
      Concat("POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: ", size, "\r\n\r\nfirst bytes"));
  Wire server = plane.Accept();
  server.ReadTo("first bytes");
  SUBCASE("and the server goes on reading") {
    server.Send(Answer(200, "early"));
    CHECK(client.ReadMessage().body == "early");
  }
  SUBCASE("and the server closes") {
    server.Send(Answer(403, "no", "Connection: close\r\n"));
    CHECK(client.ReadMessage().body == "no");
    server.Close();
  }
  SUBCASE("piece by piece") {
    server.Send(kChunked + "4\r\npart\r\n");
    CHECK(client.ReadTo("part\r\n").find("200 OK") != std::string::npos);
    client.Send("more");
    CHECK(server.Read(4) == "more");
    server.Send("4\r\nend!\r\n0\r\n\r\n");
    CHECK(client.ReadTo("0\r\n\r\n").find("end!") != std::string::npos);
    client.TrySend(std::string(size - 11 - 4, 'x') + Get("/next"));
    server = plane.Accept();
    CHECK(server.ReadMessage().start == "GET /next HTTP/1.1");
    return;
  }
  // What is left of the body is taken, and the next request is met as one.
  client.TrySend(std::string(size - 11, 'x') + Get("/next"));
  Wire next = plane.Accept();
  CHECK(next.ReadMessage().start == "GET /next HTTP/1.1");
  next.Send(Answer(200, "next"));
  CHECK(client.ReadMessage().body == "next");
}

TEST_CASE("an early answer reaches a client whose upload has filled everything on the way") {
  DataPlane plane;
  constexpr size_t kSize = size_t{64} << 20;
  Wire client =
      plane.Ask(Concat("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ", kSize, "\r\n\r\n"));
  Wire server = plane.Accept();
  server.ReadTo("\r\n\r\n");
  const size_t sent = plane.SendUntilFull(client, kSize);
  CHECK(sent < kSize);
  SUBCASE("it is answered") {
    server.Send(Answer(413, "too much for me", "Connection: close\r\n"));
    CHECK(client.ReadMessage().body == "too much for me");
  }
  SUBCASE("it is cut off") {
    server.Reset();
    CHECK(client.ReadMessage().status() == 502);
    client.TrySend(std::string(1'000'000, 'x'));
    client.ReadToEnd();
    return;
  }
  // The rest of it is of no interest to anybody, least of all to the next request.
  client.TrySend(std::string(kSize - sent, 'x') + Get("/next"));
  Wire next = plane.Accept();
  CHECK(next.ReadMessage().start == "GET /next HTTP/1.1");
  next.Send(Answer(200, "next"));
  CHECK(client.ReadMessage().body == "next");
}

TEST_CASE("headers of one hop stay on it, in both directions") {
  const std::string hop =
      "Connection: X-Named, keep-alive\r\nX-Named: 1\r\nConnection: x-other\r\nX-Other: 2\r\n"
      "Keep-Alive: timeout=9\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: a\r\n"
      "Proxy-Authenticate: b\r\nProxy-Something: c\r\nUpgrade: h2c\r\n";
  const auto check = [](const Message& message) {
    for (const char* name :
         {"Connection", "X-Named", "X-Other", "Keep-Alive", "Proxy-Connection",
          "Proxy-Authorization", "Proxy-Authenticate", "Proxy-Something", "Upgrade"}) {
      INFO(name);
      CHECK_FALSE(message.Has(name));
    }
    CHECK(message["X-End"] == "to end");
    CHECK(message.Count("X-Twice") == 2);
  };
  const std::string end = "X-End:   to end \r\nX-Twice: 1\r\nX-Twice: 2\r\n";
  DataPlane plane;
  Wire client = plane.Ask(Get("/", hop + end + "Te: gzip;q=0.5\r\nAuthorization: mine\r\n"));
  Wire server = plane.Accept();
  const Message request = server.ReadMessage();
  check(request);
  CHECK_FALSE(request.Has("TE"));
  CHECK(request["Authorization"] == "mine");
  server.Send(Answer(200, "", hop + end + "Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n"));
  const Message answer = client.ReadMessage();
  check(answer);
  CHECK(answer.Count("Set-Cookie") == 2);
  CHECK(answer.Count("Date") == 1);
  // TE, of which only trailers go on.
  client.Send(Get("/", "TE: gzip, trailers;q=0.5\r\nConnection: TE\r\n"));
  const Message second = server.ReadMessage();
  CHECK(second["TE"] == "trailers");
  CHECK(second["Connection"] == "TE");
  // What must reach the server cannot be taken away by naming it.
  server.Send(Answer(200, "", "Date: Sat, 31 Jan 2026 12:34:56 GMT\r\n"));
  CHECK(client.ReadMessage()["Date"] == "Sat, 31 Jan 2026 12:34:56 GMT");
  client.Send(
      Get("/", "Connection: Host, X-Forwarded-For, Authorization, close\r\nAuthorization: a\r\n"));
  const Message third = server.ReadMessage();
  CHECK(third["Host"] == "x");
  CHECK(third["X-Forwarded-For"] == "127.0.0.1");
  CHECK(third["Authorization"] == "a");
}

TEST_CASE("what is no whole head is 502, and the client's connection lives") {
  struct Case {
    const char* what;
    std::string bytes;
    bool closes = true;
  };
  const std::vector<Case> cases = {
      {"nothing", ""},
      {"garbage", "garbage\r\n\r\n", false},
      {"binary", "\x16\x03\x01\0\xff\r\n\r\n"s, false},
      {"half a status line", "HTTP/1.1 20"},
      {"half a head", kHead + "Content-Length: 5\r\n"},
      {"HTTP/2", "HTTP/2.0 200 OK\r\n\r\n", false},
      {"HTTP/0.9", "hello, world\r\n"},
      {"no number", "HTTP/1.1 abc OK\r\n\r\n", false},
      {"999", "HTTP/1.1 999 OK\r\n\r\n", false},
      {"99", "HTTP/1.1 99 OK\r\n\r\n", false},
      {"1000", "HTTP/1.1 2000 OK\r\n\r\n", false},
      {"a line without a colon", kHead + "X-A\r\n\r\n", false},
      {"a blank before the colon", kHead + "X-A : 1\r\n\r\n", false},
      {"a folded line", kHead + "X-A: 1\r\n 2\r\n\r\n", false},
      {"a NUL", kHead + "X-A: \0\r\n\r\n"s, false},
      {"a bare CR", kHead + "X-A: 1\rX-B: 2\r\n\r\n", false},
      {"two lengths", kHead + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", false},
      {"a length twice", kHead + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", false},
      {"a list of lengths", kHead + "Content-Length: 5, 5\r\n\r\nhello", false},
      {"a negative length", kHead + "Content-Length: -5\r\n\r\nhello", false},
      {"a length that is no number", kHead + "Content-Length: five\r\n\r\nhello", false},
      {"length and chunked",
       kHead + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},
      {"chunked twice", kHead + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", false},
      {"gzip", kHead + "Transfer-Encoding: gzip\r\n\r\n", false},
      {"a head that is too large", kHead + "X-A: " + std::string(70'000, 'a') + "\r\n\r\n", false},
      {"an unasked switch",
       "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
       false},
      {"interim answers only",
       [] {
         std::string all;
         for (int i = 0; i < 200; ++i) all += "HTTP/1.1 100 Continue\r\n\r\n";
         return all;
       }(),
       false},
      {"an interim answer and nothing", "HTTP/1.1 100 Continue\r\n\r\n"},
  };
  DataPlane plane;
  Wire client = plane.Connect();
  for (const Case& one : cases) {
    INFO(one.what);
    client.Send(Get("/"));
    Wire server = plane.Accept();
    CHECK(server.ReadMessage().whole);
    server.Send(one.bytes);
    if (one.closes) server.ShutWrite();
    const Message answer = client.ReadMessage();
    CHECK(answer.status() == 502);
    CHECK(answer.error() == "upstream_answer");
    CHECK(answer.whole);
    CHECK_FALSE(answer.Has("Connection"));
    server.ReadToEnd();  // it is not used again
  }
  client.Send(Get("/"));
  Wire server = plane.Accept();
  server.Reset();
  CHECK(client.ReadMessage().status() == 502);
  plane.StopServer();
  for (int i = 0; i < 10; ++i) {
    client.Send(i % 2 == 0 ? Get("/") : Post("/", "body"));
    const Message answer = client.ReadMessage();
    CHECK(answer.status() == 502);
    CHECK(answer.error() == "upstream_connect");
    CHECK(answer.body.find("refused") != std::string::npos);
  }
}

TEST_CASE("an answer that breaks off after its head is cut, and never looks whole") {
  struct Case {
    const char* what;
    std::string head;
    std::string rest;
    bool reset = false;
  };
  const std::string large(300'000, 'x');
  for (const auto& row : {
           Case{"a short body", kHead + "Content-Length: 10\r\n\r\nhello", ""},
           Case{"a short body, reset", kHead + "Content-Length: 10\r\n\r\nhello", "", true},
           Case{"a large body that is short", kHead + "Content-Length: 3000000\r\n\r\nhello",
                large},
           Case{"a large body, reset", kHead + "Content-Length: 3000000\r\n\r\nhello", large, true},
           Case{"no last chunk", kChunked + "5\r\nhello\r\n", ""},
           Case{"half a chunk", kChunked + "a\r\nhello", ""},
           Case{"chunks, reset", kChunked + "5\r\nhello\r\n", "", true},
           Case{"a bad size", kChunked + "5\r\nhello\r\n", "zz\r\nhello\r\n0\r\n\r\n"},
           Case{"a negative size", kChunked + "5\r\nhello\r\n", "-5\r\nhello\r\n0\r\n\r\n"},
           Case{"a long chunk", kChunked + "5\r\nhello\r\n", "2\r\nhello\r\n0\r\n\r\n"},
           Case{"a bad trailer", kChunked + "5\r\nhello\r\n", "0\r\nX-A : 1\r\n\r\n"},
           Case{"a length among the trailers", kChunked + "5\r\nhello\r\n",
                "0\r\nContent-Length: 5\r\n\r\n"},
           Case{"half a trailer", kChunked + "5\r\nhello\r\n", "0\r\nX-A: 1\r\n"},
           Case{"to the end, reset", kHead + "\r\nhello", "", true},
       }) {
    const auto& [what, head, rest, reset] = row;
    INFO(row.what);
    Exchange exchange;
    exchange.server.Send(head);
    CHECK(exchange.client.ReadTo("hello").starts_with("HTTP/1.1 200 OK\r\n"));
    exchange.server.TrySend(rest);
    if (reset) {
      exchange.server.Reset();
    } else {
      exchange.server.ShutWrite();
    }
    const std::string after = exchange.client.ReadToEnd();
    CHECK(after.find("0\r\n\r\n") == std::string::npos);
    CHECK(after.find("HTTP/1.1") == std::string::npos);
    CHECK(after.size() < 2'900'000);
    CHECK(exchange.client.end() == Wire::End::kReset);
  }
}

TEST_CASE("what a server sends beyond its answer belongs to nobody") {
  Exchange exchange;
  exchange.server.Send(Answer(200, "mine") + Answer(200, "for somebody else"));
  CHECK(exchange.client.ReadMessage().body == "mine");
  exchange.client.Send(Get("/next"));
  Wire next = exchange.plane.Accept();
  CHECK(next.ReadMessage().start == "GET /next HTTP/1.1");
  next.Send(Answer(200, "next"));
  CHECK(exchange.client.ReadMessage().body == "next");
  // Nor what comes later, while it idles.
  next.Send(Answer(200, "unasked"));
  next.ReadToEnd();
  exchange.client.Send(Get("/last"));
  Wire last = exchange.plane.Accept();
  CHECK(last.ReadMessage().whole);
  last.Send(Answer(200, "last"));
  CHECK(exchange.client.ReadMessage().body == "last");
}

TEST_CASE("nor is it the answer to the next request that is there already") {
  for (const size_t size : {size_t{10}, size_t{65'536} - kHead.size() - 25, size_t{300'000}}) {
    INFO(size);
    Exchange exchange;
    {
      const Stopped stopped(exchange.plane.gateway);
      exchange.server.Send(kHead + Concat("Content-Length: ", size, "\r\n\r\n") +
                           std::string(size, 'x') + Answer(200, "for somebody else"));
      exchange.client.Send(Get("/next"));
    }
    CHECK(exchange.client.ReadMessage().body == std::string(size, 'x'));
    Wire next = exchange.plane.Accept();
    CHECK(next.ReadMessage().start == "GET /next HTTP/1.1");
    next.Send(Answer(200, "next"));
    CHECK(exchange.client.ReadMessage().body == "next");
  }
}

TEST_CASE("bytes go out as they come: each is sent when the one before has arrived") {
  struct Case {
    const char* what;
    std::string head;
    bool chunks;
  };
  for (const auto& row :
       {Case{"events",
             kHead + "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n", true},
        Case{"events to the end", kHead + "Content-Type: text/event-stream\r\n\r\n", false},
        Case{"chunks", kChunked, true},
        Case{"a length", kHead + "Content-Length: 80\r\n\r\n", false},
        Case{"a large length", kHead + "Content-Length: 100000000\r\n\r\n", false},
        Case{"the end", kHead + "\r\n", false}}) {
    const auto& [what, head, chunks] = row;
    INFO(row.what);
    Exchange exchange;
    exchange.server.Send(head);
    CHECK(exchange.client.ReadTo("\r\n\r\n").starts_with("HTTP/1.1 200 OK\r\n"));
    for (int i = 0; i < 10; ++i) {
      const std::string event = Concat("data ", i, "\n\n");
      exchange.server.Send(chunks ? Concat("8\r\n", event, "\r\n") : event);
      CHECK(exchange.client.ReadTo(event).ends_with(event));
    }
  }
  // Upwards too.
  DataPlane plane;
  Wire client = plane.Ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n");
  Wire server = plane.Accept();
  server.ReadTo("\r\n\r\n");
  for (int i = 0; i < 10; ++i) {
    client.Send("some bytes");
    CHECK(server.Read(10) == "some bytes");
  }
}

// What the kernel takes for one connection, and some of ours.
constexpr size_t kMost = size_t{64} << 20;

TEST_CASE("a slow client makes the server wait, in bounded memory, and loses nothing") {
  const std::string length = kHead + Concat("Content-Length: ", kMost, "\r\n\r\n");
  for (const auto& row : {std::pair("a length", length), std::pair("the end", kHead + "\r\n")}) {
    const auto& [what, head] = row;
    INFO(row.first);
    Exchange exchange;
    exchange.server.Send(head);
    const size_t sent = exchange.plane.SendUntilFull(exchange.server, kMost);
    CHECK(sent < kMost);
    CHECK(sent > 0);
    if (!Settings().sanitized) CHECK(PssKiB(exchange.plane.gateway.pid()) < 12 * 1024);
    // It begins to read, and gets it all.
    exchange.client.ReadTo("\r\n\r\n");
    size_t total = sent;
    size_t received = 0;
    const std::string more(256 * 1024, 'x');
    if (std::string(what) == "the end") {
      exchange.server.ShutWrite();
      size_t body = 0;
      for (;;) {
        const size_t size = std::strtoul(exchange.client.ReadTo("\r\n").c_str(), nullptr, 16);
        if (size == 0) break;
        body += exchange.client.Read(size).size();
        exchange.client.ReadTo("\r\n");
      }
      CHECK(body == sent);
      continue;
    }
    while (received < kMost) {
      total += exchange.server.SendSome(std::string_view(more).substr(0, kMost - total));
      const std::string got = exchange.client.Read(std::min<size_t>(64 * 1024, kMost - received));
      if (got.find_first_not_of('x') != std::string::npos || got.empty()) break;
      received += got.size();
    }
    CHECK(received == kMost);
  }
}

TEST_CASE("a slow server makes the client wait, in bounded memory, and loses nothing") {
  DataPlane plane;
  Wire client =
      plane.Ask(Concat("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ", kMost, "\r\n\r\n"));
  Wire server = plane.Accept();
  const size_t sent = plane.SendUntilFull(client, kMost);
  CHECK(sent > 0);
  CHECK(sent < kMost);
  if (!Settings().sanitized) CHECK(PssKiB(plane.gateway.pid()) < 12 * 1024);
  server.ReadTo("\r\n\r\n");
  size_t total = sent;
  size_t received = 0;
  const std::string more(256 * 1024, 'x');
  while (received < kMost) {
    total += client.SendSome(std::string_view(more).substr(0, kMost - total));
    const std::string got = server.Read(std::min<size_t>(64 * 1024, kMost - received));
    if (got.find_first_not_of('x') != std::string::npos || got.empty()) break;
    received += got.size();
  }
  CHECK(received == kMost);
  server.Send(Answer(200, "all"));
  CHECK(client.ReadMessage().body == "all");
}

TEST_CASE("a client that leaves is told to the server at once") {
  Exchange exchange;
  SUBCASE("before the answer") {}
  SUBCASE("in the middle of it") {
    exchange.server.Send(kChunked + "5\r\nhello\r\n");
    exchange.client.ReadTo("hello");
  }
  exchange.client.Reset();
  exchange.server.ReadToEnd();
  exchange.plane.Await(
      [](const auto& traffic) { return traffic.client_gone == 1 && traffic.in_flight == 0; });
}

}  // namespace
}  // namespace modal::test

#include "adapters/proxy.h"

#include <doctest/doctest.h>

#include <cstring>
#include <limits>
#include <string>

#include "tests/unit/adapters/proxy_fixture.h"

using namespace modal;
using namespace std::chrono_literals;
using adapters::Mode;
using policy::Refusal;
using test::Outcome;
using test::ProxyFixture;
using test::SomeConfig;
using test::Value;

namespace {

constexpr size_t kAll = std::numeric_limits<size_t>::max();
const std::string kOk = "HTTP/1.1 200 OK\r\n";

std::string Get(const std::string& target, const std::string& lines = "") {
  return "GET " + target + " HTTP/1.1\r\nHost: a\r\n" + lines + "\r\n";
}
std::string Send(const std::string& method, const std::string& body,
                 const std::string& lines = "") {
  return method + " / HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n" + lines + "\r\n" + body;
}
std::string WithLength(const std::string& body, const std::string& lines = "") {
  return kOk + lines + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}
std::string BodyOf(const std::string& message) {
  const size_t at = message.find("\r\n\r\n");
  return at == std::string::npos ? "-" : message.substr(at + 4);
}
bool Ends(const std::string& text, const std::string& end) { return text.ends_with(end); }

// One exchange, so that the server's connection is there and idle.
void WarmUp(ProxyFixture& f) {
  f.Ask(Get("/warm"));
  f.Answer(0, WithLength("warm"));
  REQUIRE(Outcome(f.clients.at(0)->peer.received()) == "200");
  REQUIRE(f.traffic.upstream_idle.value() == 1);
  f.servers[0]->TakeReceived();
}

}  // namespace

TEST_CASE("a request is carried to the server, and its answer back") {
  ProxyFixture f;
  auto& client = f.Ask(Send("POST", "hello", "X-A: b\r\nX-Request-Id: id\r\n"));
  const std::string got = f.Received(0);
  CHECK(got.starts_with("POST / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n"));
  CHECK(Value(got, "Content-Length") == "5");
  CHECK(Value(got, "X-Request-Id") == "id");
  CHECK(Value(got, "X-Forwarded-For") == "192.0.2.7");
  CHECK(BodyOf(got) == "hello");
  f.Answer(0, "HTTP/1.1 201 Made So\r\nX-C: d\r\nContent-Length: 6\r\n\r\nanswer");
  const std::string& answer = client.peer.received();
  CHECK(answer.starts_with("HTTP/1.1 201 Made So\r\nX-C: d\r\n"));
  CHECK(Value(answer, "X-Request-Id") == "id");
  CHECK(BodyOf(answer) == "answer");
  CHECK(f.traffic.upstream_connections.value() == 1);
  CHECK(f.traffic.upstream_idle.value() == 1);
}

TEST_CASE("what belongs to one hop stays on it, in both directions") {
  ProxyFixture f;
  auto& client = f.Ask(
      Get("/",
          "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers, gzip\r\n"
          "Proxy-Authorization: x\r\nUpgrade: h2c\r\nModal-Key: k\r\nModal-Secret: s\r\n"
          "X-Stays: 1\r\n"));
  const std::string got = f.Received(0);
  for (const char* name :
       {"X-Hop", "Keep-Alive", "Proxy-Authorization", "Upgrade", "Modal-Key", "Modal-Secret"}) {
    CAPTURE(name);
    CHECK(Value(got, name) == "-");
  }
  CHECK(Value(got, "X-Stays") == "1");
  CHECK(Value(got, "TE") == "trailers");
  CHECK(Value(got, "Connection") == "TE");
  f.Answer(0, WithLength("",
                         "Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"
                         "Proxy-Authenticate: x\r\nUpgrade: h2c\r\nX-Stays: 1\r\n"));
  const std::string& answer = client.peer.received();
  for (const char* name : {"X-Hop", "Keep-Alive", "Proxy-Authenticate", "Upgrade", "Connection"}) {
    CAPTURE(name);
    CHECK(Value(answer, name) == "-");
  }
  CHECK(Value(answer, "X-Stays") == "1");
}

TEST_CASE("a Connection header that names more than anybody needs is refused, on both sides") {
  std::string names = "Connection: a";
  for (int i = 0; i < 40; ++i) names += ", x" + std::to_string(i);
  names += "\r\n";
  ProxyFixture f;
  CHECK(Outcome(f.Ask(Get("/", names)).peer.received()) == "400 bad_request");
  CHECK(f.servers.empty());
  auto& client = f.Ask(Get("/"));
  f.Answer(0, WithLength("", names));
  CHECK(Outcome(client.peer.received()) == "502 upstream_answer");
}

TEST_CASE("targets go on as they came, and an absolute one names the host") {
  ProxyFixture f;
  const auto first_lines = [&](const std::string& request) {
    f.Ask(request);
    const std::string got = f.servers.back()->TakeReceived();
    f.Answer(f.servers.size() - 1, WithLength(""));
    return got.substr(0, got.find("\r\n", got.find("\r\n") + 1));
  };
  CHECK(first_lines(Get("//a/%2e%2E/b?c=%20")) == "GET //a/%2e%2E/b?c=%20 HTTP/1.1\r\nHost: a");
  CHECK(first_lines(Get("http://b:81/x?y")) == "GET /x?y HTTP/1.1\r\nHost: b:81");
  CHECK(first_lines("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n") == "OPTIONS * HTTP/1.1\r\nHost: a");
  CHECK(first_lines("GET / HTTP/1.0\r\n\r\n") == "GET / HTTP/1.1\r\nHost: server:8000");
}

TEST_CASE("chunks and trailers pass in both directions") {
  ProxyFixture f;
  auto& client = f.Ask(
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
      "5\r\nhello\r\n0\r\nT: u\r\nConnection: x\r\n\r\n");
  const std::string got = f.Received(0);
  CHECK(Value(got, "Transfer-Encoding") == "chunked");
  CHECK(Value(got, "Content-Length") == "-");
  CHECK(BodyOf(got) == "5\r\nhello\r\n0\r\nT: u\r\n\r\n");
  f.Answer(0, kOk + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nV: w\r\n\r\n");
  CHECK(BodyOf(client.peer.received()) == "3\r\nabc\r\n0\r\nV: w\r\n\r\n");
}

TEST_CASE("trailers reach the client also when its place goes to the next at once") {
  policy::GatewayConfig config = SomeConfig();
  config.max_concurrency = 1;
  config.queue = 1;
  ProxyFixture f(config);
  auto& first = f.Ask(Get("/1"));
  f.Ask(Get("/2"));
  CHECK(f.Received(0).starts_with("GET /1 "));
  f.Answer(0, kOk + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nTrailing: words\r\n\r\n");
  CHECK(BodyOf(first.peer.received()) == "3\r\nabc\r\n0\r\nTrailing: words\r\n\r\n");
  CHECK(f.servers.size() == 1);
  CHECK(f.Received(0).starts_with("GET /2 "));
}

TEST_CASE("the body of an answer ends as the client can understand it") {
  ProxyFixture f;
  SUBCASE("until the end of the server's connection: in chunks") {
    auto& client = f.Ask(Get("/"));
    f.Answer(0, kOk + "\r\nall");
    f.servers[0]->ShutdownWrite();
    f.Run();
    CHECK(Ends(client.peer.received(), "\r\n\r\n3\r\nall\r\n0\r\n\r\n"));
  }
  SUBCASE("in chunks, to HTTP/1.0: until the end") {
    auto& client = f.Ask("GET / HTTP/1.0\r\n\r\n");
    f.Answer(0, kOk + "Transfer-Encoding: chunked\r\n\r\n3\r\nall\r\n0\r\n\r\n");
    CHECK(Value(client.peer.received(), "Transfer-Encoding") == "-");
    CHECK(BodyOf(client.peer.received()) == "all");
    CHECK(client.peer.at_end());
    CHECK_FALSE(client.peer.reset());
  }
  SUBCASE("to HEAD: there is none, and its length is told") {
    auto& client = f.Ask("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    f.Answer(0, kOk + "Content-Length: 5\r\n\r\n");
    CHECK(Value(client.peer.received(), "Content-Length") == "5");
    CHECK(BodyOf(client.peer.received()) == "");
    CHECK_FALSE(client.peer.at_end());
  }
  SUBCASE("304 and 204 have none") {
    auto& client = f.Ask(Get("/1") + Get("/2"));
    f.Answer(0, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n");
    f.Answer(0, "HTTP/1.1 204 No Content\r\n\r\n");
    CHECK(client.peer.received().find("HTTP/1.1 204 No Content\r\n") != std::string::npos);
  }
}

TEST_CASE("a piece of an answer reaches the client as it comes") {
  ProxyFixture f;
  auto& client = f.Ask(Get("/"));
  f.Answer(0, kOk + "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
  CHECK(Outcome(client.peer.TakeReceived()) == "200");
  for (int i = 0; i < 3; ++i) {
    f.Advance(10min);  // silence is no time-out
    f.Answer(0, "4\r\na\nb\n\r\n");
    CHECK(client.peer.TakeReceived() == "4\r\na\nb\n\r\n");
  }
}

TEST_CASE("interim answers pass, but for 100, which is for us") {
  ProxyFixture f;
  auto& client = f.Ask(Send("POST", "hello", "Expect: 100-continue\r\n"));
  CHECK(Value(f.Received(0), "Expect") == "-");
  CHECK(client.peer.TakeReceived() == "HTTP/1.1 100 Continue\r\n\r\n");
  f.Answer(0,
           "HTTP/1.1 100 Continue\r\n\r\n"
           "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\nX: y\r\n\r\n");
  CHECK(client.peer.TakeReceived() == "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
  f.Answer(0, WithLength("ok"));
  CHECK(Outcome(client.peer.received()) == "200");
}

TEST_CASE("an early answer reaches the client while it still sends") {
  ProxyFixture f;
  auto& client = f.Ask(Send("POST", std::string(10, 'x')).substr(0, 52));
  f.Answer(0, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
  CHECK(Outcome(client.peer.received()) == "413");
  CHECK(f.servers[0]->reset());
  CHECK(f.gatekeeper.in_flight() == 0);
}

TEST_CASE("what is not a whole answer never looks like one") {
  ProxyFixture f;
  auto& client = f.Ask(Get("/"));
  SUBCASE("no connection to be had") {
    f.refuses = true;
    auto& other = f.Ask(Get("/2"));
    CHECK(Outcome(other.peer.received()) == "502 upstream_connect");
    f.Answer(0, WithLength(""));
    return;
  }
  SUBCASE("nothing") {
    f.servers[0]->ShutdownWrite();
    f.Run();
    CHECK(Outcome(client.peer.received()) == "502 upstream_answer");
  }
  SUBCASE("garbage") {
    f.Answer(0, "garbage\r\n\r\n");
    CHECK(Outcome(client.peer.received()) == "502 upstream_answer");
  }
  SUBCASE("half a head") {
    f.Answer(0, "HTTP/1.1 200 OK\r\nContent-");
    f.servers[0]->ShutdownWrite();
    f.Run();
    CHECK(Outcome(client.peer.received()) == "502 upstream_answer");
  }
  SUBCASE("two lengths") {
    f.Answer(0, kOk + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab");
    CHECK(Outcome(client.peer.received()) == "502 upstream_answer");
  }
  SUBCASE("a switch that nobody asked for") {
    f.Answer(0, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n");
    CHECK(Outcome(client.peer.received()) == "502 upstream_answer");
  }
  SUBCASE("a body that is too short") {
    f.Answer(0, kOk + "Content-Length: 5\r\n\r\nhell");
    CHECK(Outcome(client.peer.received()) == "200");
    f.servers[0]->ShutdownWrite();
    f.Run();
    CHECK(client.peer.reset());
  }
  SUBCASE("a bad chunk") {
    f.Answer(0, kOk + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n");
    CHECK(client.peer.reset());
  }
  SUBCASE("a body until the end, and a reset") {
    f.Answer(0, kOk + "\r\nsome");
    f.servers[0]->Break();
    f.Run();
    CHECK(client.peer.reset());
  }
  CHECK(f.servers.size() == 1);
  CHECK(f.servers[0]->closed());
  CHECK(f.gatekeeper.in_flight() == 0);
  CHECK(f.traffic.upstream_connections.value() == 0);
}

TEST_CASE("each time-out has its name") {
  http::ClientOptions options;
  options.connect_timeout = 1s;
  options.first_byte_timeout = 2s;
  options.idle_timeout = 3s;
  ProxyFixture f(SomeConfig(), options);
  SUBCASE("connect") {
    f.on_connect = [](test::FakePeer& server) { server.TakeOnly(0); };
    auto& client = f.Ask(Get("/"));
    f.Advance(1s);
    CHECK(Outcome(client.peer.received()) == "504 connect_timeout");
  }
  SUBCASE("first byte") {
    auto& client = f.Ask(Get("/"));
    f.Advance(2s);
    CHECK(Outcome(client.peer.received()) == "504 first_byte_timeout");
  }
  SUBCASE("idle, in the head") {
    auto& client = f.Ask(Get("/"));
    f.Answer(0, "HTTP");
    f.Advance(3s);
    CHECK(Outcome(client.peer.received()) == "504 idle_timeout");
  }
  SUBCASE("idle, in the body") {
    auto& client = f.Ask(Get("/"));
    f.Answer(0, kOk + "Content-Length: 5\r\n\r\nhell");
    f.Advance(3s);
    CHECK(client.peer.reset());
    CHECK(f.Refused(Refusal::kIdleTimeout) == 1);
  }
  CHECK(f.traffic.upstream_connections.value() == 0);
}

TEST_CASE("the freshest idle connection is used again, and none that has closed") {
  ProxyFixture f;
  f.Ask(Get("/1"));
  f.Ask(Get("/2"));
  REQUIRE(f.servers.size() == 2);
  f.Answer(0, WithLength(""));
  f.Answer(1, WithLength(""));
  f.servers[0]->TakeReceived();
  f.servers[1]->TakeReceived();
  f.Ask(Get("/3"));
  CHECK(f.servers.size() == 2);
  CHECK(f.Received(1).starts_with("GET /3 "));
  f.servers[0]->ShutdownWrite();  // while it is idle
  f.Run();
  CHECK(f.traffic.upstream_idle.value() == 0);
  f.Ask(Get("/4"));
  CHECK(f.servers.size() == 3);
  CHECK(f.Received(2).starts_with("GET /4 "));
  CHECK(f.traffic.upstream_retries.value() == 0);
}

TEST_CASE("idle connections are dropped when told, when too old, and when the server is another") {
  ProxyFixture f;
  WarmUp(f);
  SUBCASE("when told") { f.pool.DropIdle(); }
  SUBCASE("when too old") { f.Advance(2s); }
  SUBCASE("when the server is another") {
    f.pool.SetServer(*SocketAddress::Parse("127.0.0.1", 8000));
    CHECK(f.traffic.upstream_idle.value() == 1);
    f.pool.SetServer(*SocketAddress::Parse("127.0.0.1", 8001));
  }
  CHECK(f.traffic.upstream_idle.value() == 0);
  CHECK(f.traffic.upstream_connections.value() == 0);
  CHECK(f.servers[0]->closed());
  f.Ask(Get("/"));
  CHECK(f.servers.size() == 2);
}

TEST_CASE("a connection to a server that has been replaced is not used again") {
  ProxyFixture f;
  auto& client = f.Ask(Get("/"));
  f.pool.SetServer(*SocketAddress::Parse("127.0.0.1", 8001));
  f.Answer(0, WithLength("old"));
  CHECK(BodyOf(client.peer.received()) == "old");
  CHECK(f.servers[0]->closed());
  CHECK(f.traffic.upstream_idle.value() == 0);
}

TEST_CASE("there is a limit to how many connections are kept") {
  ProxyFixture f;
  for (int i = 0; i < 66; ++i) f.Ask(Get("/"));
  for (size_t i = 0; i < 66; ++i) f.Answer(i, WithLength(""));
  CHECK(f.traffic.upstream_idle.value() == 64);
  CHECK(f.traffic.upstream_connections.value() == 64);
  CHECK(f.servers[0]->closed());  // those that have been idle longest
  CHECK(f.servers[1]->closed());
  CHECK_FALSE(f.servers[65]->closed());
}

TEST_CASE(
    "a request that meets a connection which is just closing is sent once more, on a new one") {
  ProxyFixture f;
  WarmUp(f);
  uint64_t retries = 1;
  SUBCASE("GET") {
    auto& client = f.Ask(Get("/again"));
    CHECK(f.Received(0).starts_with("GET /again "));
    f.servers[0]->ShutdownWrite();
    f.Run();
    REQUIRE(f.servers.size() == 2);
    CHECK(f.Received(1).starts_with("GET /again "));
    f.Answer(1, WithLength("second"));
    CHECK(BodyOf(client.peer.received()) == "second");
  }
  SUBCASE("PUT, with its body so far and the rest of it") {
    auto& client = f.Ask("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    f.servers[0]->Break();
    f.Run();
    REQUIRE(f.servers.size() == 2);
    client.peer.Send("world");
    f.Run();
    CHECK(BodyOf(f.Received(1)) == "helloworld");
    f.Answer(1, WithLength("second"));
    CHECK(BodyOf(client.peer.received()) == "second");
  }
  SUBCASE("PUT in chunks, whole") {
    auto& client = f.Ask(
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        "5\r\nhello\r\n0\r\n\r\n");
    f.servers[0]->ShutdownWrite();
    f.Run();
    REQUIRE(f.servers.size() == 2);
    CHECK(BodyOf(f.Received(1)) == "5\r\nhello\r\n0\r\n\r\n");
    f.Answer(1, WithLength("second"));
    CHECK(BodyOf(client.peer.received()) == "second");
  }
  SUBCASE("POST, which is not sent before the connection has been looked at") {
    retries = 0;
    f.servers[0]->StopListening();
    f.servers[0]->ShutdownWrite();
    f.clients.push_back(std::make_unique<test::GatekeeperFixture::Client>());
    auto& client = *f.clients.back();
    client.connection =
        std::make_unique<http::ServerConnection>(f.context, f, client.peer.Connect());
    client.peer.Send(Send("POST", "hello"));
    client.peer.Run();  // before the pool sees the end
    f.Run();
    REQUIRE(f.servers.size() == 2);
    CHECK(BodyOf(f.Received(1)) == "hello");
    f.Answer(1, WithLength("second"));
    CHECK(BodyOf(client.peer.received()) == "second");
  }
  CHECK(f.traffic.upstream_retries.value() == retries);
  CHECK(f.gatekeeper.in_flight() == 0);
}

TEST_CASE(
    "a request is not sent twice where that could do something twice, or where it is no use") {
  ProxyFixture f;
  SUBCASE("POST") {
    WarmUp(f);
    auto& client = f.Ask(Send("POST", "hello"));
    f.servers[0]->ShutdownWrite();
    f.Run();
    CHECK(Outcome(client.peer.received()) == "502 upstream_answer");
  }
  SUBCASE("PATCH") {
    WarmUp(f);
    auto& client = f.Ask(Send("PATCH", "hello"));
    f.servers[0]->Break();
    f.Run();
    CHECK(Outcome(client.peer.received()) == "502 upstream_answer");
  }
  SUBCASE("an answer has begun") {
    WarmUp(f);
    auto& client = f.Ask(Get("/"));
    f.Answer(0, "HTTP");
    f.servers[0]->ShutdownWrite();
    f.Run();
    CHECK(Outcome(client.peer.received()) == "502 upstream_answer");
  }
  SUBCASE("a new connection") {
    auto& client = f.Ask(Get("/"));
    f.servers[0]->ShutdownWrite();
    f.Run();
    CHECK(Outcome(client.peer.received()) == "502 upstream_answer");
  }
  SUBCASE("a body that was too large to keep") {
    WarmUp(f);
    auto& client = f.Ask(Send("PUT", std::string(17 * 1024, 'x')));
    f.servers[0]->ShutdownWrite();
    f.Run();
    CHECK(Outcome(client.peer.received()) == "502 upstream_answer");
  }
  SUBCASE("a time-out") {
    http::ClientOptions options;
    options.first_byte_timeout = 1s;
    ProxyFixture g(SomeConfig(), options);
    WarmUp(g);
    auto& client = g.Ask(Get("/"));
    g.Advance(1s);
    CHECK(Outcome(client.peer.received()) == "504 first_byte_timeout");
    CHECK(g.servers.size() == 1);
    return;
  }
  CHECK(f.servers.size() == 1);
  CHECK(f.traffic.upstream_retries.value() == 0);
}

TEST_CASE("a second try that fails is the last") {
  ProxyFixture f;
  WarmUp(f);
  auto& client = f.Ask(Get("/"));
  SUBCASE("there is no connection to be had") {
    f.refuses = true;
    f.servers[0]->ShutdownWrite();
    f.Run();
    CHECK(Outcome(client.peer.received()) == "502 upstream_connect");
  }
  SUBCASE("the new one closes too") {
    f.on_connect = [](test::FakePeer& server) { server.ShutdownWrite(); };
    f.servers[0]->ShutdownWrite();
    f.Run();
    CHECK(f.servers.size() == 2);
    CHECK(Outcome(client.peer.received()) == "502 upstream_answer");
  }
  CHECK(f.gatekeeper.in_flight() == 0);
}

TEST_CASE("a second try keeps head and body in order while the new connection is being made") {
  ProxyFixture f;
  WarmUp(f);
  const std::string body(400'000, 'x');
  f.on_connect = [](test::FakePeer& server) { server.TakeOnly(0); };
  auto& client =
      f.Ask("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 400000\r\n\r\n" + body.substr(0, 10'000));
  REQUIRE(f.servers.size() == 1);
  f.servers[0]->Break();
  f.Run();
  REQUIRE(f.servers.size() == 2);
  client.peer.Send(body.substr(10'000));
  f.Run();
  for (const size_t room : {10u, 300u, 5000u, 100'000u}) {
    f.servers[1]->TakeOnly(room);
    f.Run();
  }
  f.servers[1]->TakeOnly(kAll);
  f.Run();
  const std::string got = f.Received(1);
  CHECK(got.starts_with("PUT / HTTP/1.1\r\n"));
  CHECK(BodyOf(got) == body);
  f.Answer(1, WithLength("ok"));
  CHECK(Outcome(client.peer.received()) == "200");
}

TEST_CASE("large bodies arrive whole, with a slow reader at either end and little memory between") {
  std::string body;
  for (int i = 0; i < 1'000'000; ++i) body += static_cast<char>('a' + i % 23);
  ProxyFixture f;
  bool pipes = true;
  SUBCASE("through pipes") {}
  SUBCASE("where there are no pipes") { pipes = false; }
  CAPTURE(pipes);
  const auto slowly = [&](test::FakePeer& reader, const std::function<size_t()>& unread) {
    for (int i = 0; i < 100; ++i) {
      reader.TakeOnly(5'000);
      f.Run();
    }
    const size_t left = unread();
    reader.TakeOnly(kAll);
    f.Run();
    return left;
  };
  SUBCASE("up") {
    f.on_connect = [&](test::FakePeer& server) {
      server.TakeOnly(2000);
      if (!pipes) server.RefusePipes();
    };
    auto& client = f.Connect();
    if (!pipes) client.peer.RefusePipes();
    client.peer.Send(Send("POST", body));
    f.Run();
    const size_t left = slowly(*f.servers.at(0), [&] { return client.peer.unread(); });
    CHECK(left > 300'000);  // it was not read before there was room
    CHECK(BodyOf(f.Received(0)) == body);
    f.Answer(0, WithLength("ok"));
    CHECK(Outcome(client.peer.received()) == "200");
  }
  SUBCASE("down") {
    f.on_connect = [&](test::FakePeer& server) {
      if (!pipes) server.RefusePipes();
    };
    auto& client = f.Ask(Get("/"));
    if (!pipes) client.peer.RefusePipes();
    client.peer.TakeOnly(2000);
    f.Answer(0, WithLength(body));
    const size_t left = slowly(client.peer, [&] { return f.servers[0]->unread(); });
    CHECK(left > 300'000);
    CHECK(BodyOf(client.peer.received()) == body);
    CHECK(f.traffic.upstream_idle.value() == 1);
  }
  CHECK(f.gatekeeper.in_flight() == 0);
}

TEST_CASE("what follows a large upload on the connection is the next request") {
  ProxyFixture f;
  const std::string body(500'000, 'x');
  auto& client = f.Ask(Send("POST", body) + Get("/next"));
  CHECK(BodyOf(f.Received(0)) == body);
  f.Answer(0, WithLength("first"));
  CHECK(f.Received(0).starts_with("GET /next "));
  f.Answer(0, WithLength("second"));
  CHECK(Ends(client.peer.received(), "\r\n\r\nsecond"));
}

TEST_CASE("a client that leaves takes its request along") {
  ProxyFixture f;
  auto& client = f.Ask(Get("/"));
  f.Answer(0, kOk + "Content-Length: 5\r\n\r\nh");
  client.peer.Break();
  f.Run();
  CHECK(f.servers[0]->closed());
  CHECK(f.traffic.client_gone.value() == 1);
  CHECK(f.traffic.upstream_connections.value() == 0);
}

TEST_CASE("a WebSocket is a tunnel when both sides agree") {
  ProxyFixture f;
  const std::string upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
  auto& client = f.Ask(Get("/ws", upgrade + "Sec-WebSocket-Key: k\r\n"));
  const std::string got = f.Received(0);
  CHECK(Value(got, "Connection") == "Upgrade");
  CHECK(Value(got, "Upgrade") == "websocket");
  CHECK(Value(got, "Sec-WebSocket-Key") == "k");
  SUBCASE("the server agrees") {
    f.Answer(0, "HTTP/1.1 101 Switching Protocols\r\n" + upgrade +
                    "Sec-WebSocket-Accept: s\r\n\r\n\x82\x02hi");
    const std::string& answer = client.peer.received();
    CHECK(answer.starts_with("HTTP/1.1 101 "));
    CHECK(Value(answer, "Sec-WebSocket-Accept") == "s");
    CHECK(Value(answer, "Upgrade") == "websocket");
    CHECK(BodyOf(answer) == "\x82\x02hi");
    const std::string masked("\x82\x82\0\0\0\0yo", 8);
    client.peer.Send(masked);
    f.Run();
    CHECK(f.Received(0) == masked);
    CHECK(f.gatekeeper.in_flight() == 1);
    client.peer.Break();
    f.Run();
    CHECK(f.servers[0]->closed());
    CHECK(f.gatekeeper.in_flight() == 0);
  }
  SUBCASE("the server does not") {
    f.Answer(0, "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno");
    CHECK(Outcome(client.peer.received()) == "426");
    CHECK(f.traffic.websockets_opened.value() == 0);
  }
  SUBCASE("the client breaks between an interim answer and the switch") {
    client.peer.Break();
    f.servers[0]->Send(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        "HTTP/1.1 101 Switching Protocols\r\n" +
        upgrade + "\r\n");
    f.servers[0]->Run();  // before the client's end is seen
    f.Run();
    CHECK(f.servers[0]->closed());
    CHECK(f.gatekeeper.in_flight() == 0);
  }
}

TEST_CASE("a switch to another protocol than was asked for is none") {
  policy::GatewayConfig config = SomeConfig();
  std::strcpy(config.upgrades, "websocket,chat,tcp");
  ProxyFixture f(config);
  std::string asked = "websocket";
  std::string answered;
  const auto outcome = [&] {
    auto& client = f.Ask(Get("/", "Connection: Upgrade\r\nUpgrade: " + asked + "\r\n"));
    f.Answer(0, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n" + answered + "\r\n");
    return Outcome(client.peer.received());
  };
  SUBCASE("a third one") { answered = "Upgrade: h2c\r\n"; }
  SUBCASE("one that others may ask for") { answered = "Upgrade: chat\r\n"; }
  SUBCASE("a longer one") { answered = "Upgrade: websocket2\r\n"; }
  SUBCASE("several at once") { answered = "Upgrade: websocket, chat\r\n"; }
  SUBCASE("none") { answered = ""; }
  SUBCASE("one that was asked for, but may not be") {
    asked = "websocket, h2c";
    answered = "Upgrade: h2c\r\n";
  }
  CHECK(outcome() == "502 upstream_answer");
  CHECK(f.servers.size() == 1);
  CHECK(f.servers[0]->closed());
  CHECK(f.gatekeeper.in_flight() == 0);
  CHECK(f.traffic.websockets_opened.value() == 0);
}

TEST_CASE("of several protocols the server takes the one it likes") {
  policy::GatewayConfig config = SomeConfig();
  std::strcpy(config.upgrades, "websocket,tcp");
  ProxyFixture f(config);
  auto& client = f.Ask(Get("/",
                           "Connection: Upgrade\r\nUpgrade: h2c, WebSocket\r\n"
                           "Upgrade: TCP\r\n"));
  CHECK(Value(f.Received(0), "Upgrade") == "WebSocket, TCP");
  // No frame: as a WebSocket's it would be a violation.
  f.Answer(0, "HTTP/1.1 101 Up\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n\xff\xff bytes");
  CHECK(Value(client.peer.received(), "Connection") == "Upgrade");
  CHECK(Value(client.peer.received(), "Upgrade") == "tcp");
  CHECK(BodyOf(client.peer.received()) == "\xff\xff bytes");
  CHECK(f.traffic.websockets_opened.value() == 1);
  client.peer.Break();
  f.Run();
  CHECK(f.servers[0]->closed());
}

TEST_CASE("64 connections idle and no more: the one that did for longest is closed") {
  ProxyFixture f;
  constexpr size_t kMost = 64;
  for (size_t i = 0; i < kMost + 3; ++i) f.Ask(Get("/"));
  CHECK(f.traffic.upstream_connections.value() == kMost + 3);
  for (size_t i = 0; i < kMost; ++i) f.Answer(i, WithLength("ok"));
  CHECK(f.traffic.upstream_idle.value() == kMost);
  for (size_t i = kMost; i < kMost + 3; ++i) {
    CHECK_FALSE(f.servers[i - kMost]->closed());
    f.Answer(i, WithLength("ok"));
    CHECK(f.servers[i - kMost]->closed());
    CHECK(f.traffic.upstream_idle.value() == kMost);
  }
  CHECK(f.traffic.upstream_connections.value() == kMost);
}

TEST_CASE("times are measured from the sending to the first byte") {
  policy::GatewayConfig config = SomeConfig();
  config.server_timing = 1;
  ProxyFixture f(config);
  auto& client = f.Ask(Get("/"));
  f.clock.Advance(25ms);
  f.Answer(0, WithLength("ok"));
  CHECK(Value(client.peer.received(), "Server-Timing") == "total;dur=25.000, upstream;dur=25.000");
  CHECK(f.traffic.upstream_latency.sum_us.value() == 25'000);
}

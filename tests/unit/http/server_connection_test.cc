#include "agent/http/server_connection.h"

#include <doctest/doctest.h>

#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/http/server_fixture.h"

using namespace modal;
using namespace std::chrono_literals;
using test::ServerFixture;

namespace {

// Answers with what it was asked.
void Echo(const http::Request& request, http::Responder responder) {
  std::string text(request.method_name);
  text.append(" ").append(request.target).append(" ").append(request.body);
  for (const http::Header& trailer : request.trailers) {
    text.append(" ").append(trailer.name).append("=").append(trailer.value);
  }
  responder.Send({200, "text/plain", text});
}

std::string Ok(const std::string& body, const std::string& more = "") {
  return "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n" + more + "\r\n" + body;
}
const std::string kClose = "Connection: close\r\n";

std::string Get(const std::string& target, const std::string& more = "") {
  return "GET " + target + " HTTP/1.1\r\nHost: a\r\n" + more + "\r\n";
}
std::string Post(const std::string& body, const std::string& more = "") {
  return "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
         more + "\r\n" + body;
}

// The error word of an answer, after its status: "400 bad_request".
std::string Refusal(const std::string& answer) {
  const std::string key = "{\"error\":\"";
  const size_t at = answer.find(key);
  if (answer.size() < 12 || at == std::string::npos) return answer;
  const size_t end = answer.find('"', at + key.size());
  CHECK(answer.find("Connection: close\r\n") != std::string::npos);
  return answer.substr(9, 3) + " " + answer.substr(at + key.size(), end - at - key.size());
}

}  // namespace

TEST_CASE("a connection serves one request after the other") {
  ServerFixture server(Echo);
  CHECK(server.Ask(Get("/1")) == Ok("GET /1 "));
  CHECK(server.Ask(Post("hello")) == Ok("POST /p hello"));
  CHECK(server.Ask("PUT /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                   "3\r\nabc\r\n2\r\nde\r\n0\r\nT: u\r\n\r\n") == Ok("PUT /2 abcde T=u"));
  CHECK_FALSE(server.peer->at_end());
  CHECK(server.context.stats.requests == 3);
  CHECK(server.context.stats.bad_requests == 0);
  CHECK_FALSE(server.peer->spun());
}

TEST_CASE("answers carry the date") {
  ServerFixture server(Echo);
  server.peer->Send(Get("/"));
  server.Run();
  CHECK(server.peer->received().find(test::kDateLine) != std::string::npos);
}

TEST_CASE("a wall clock that jumps changes the date of answers, and no deadline") {
  static std::time_t wall;
  wall = test::SomeTime();
  for (const std::time_t jump : {std::time_t{-86'400}, std::time_t{86'400}}) {
    test::FakeClock clock;
    http::WholeExchanges handler(Echo);
    http::ServerContext context(clock, {}, handler, [] { return wall; });
    struct : http::ServerConnection::Owner {
      void Schedule(http::ServerConnection&) override {}
    } owner;
    test::FakePeer peer;
    http::ServerConnection connection(context, owner, peer.Connect());
    peer.Send(Get("/1"));
    peer.Run();
    CHECK(peer.TakeReceived().find("Date: Sat, 31 Jan 2026 12:34:56 GMT\r\n") != std::string::npos);
    wall += jump;
    peer.Send(Get("/2"));
    peer.Run();
    CHECK(peer.TakeReceived().find(jump < 0 ? "Date: Fri, 30 Jan 2026 12:34:56 GMT\r\n"
                                            : "Date: Sun, 01 Feb 2026 12:34:56 GMT\r\n") !=
          std::string::npos);
    wall -= jump;
    clock.Advance(context.options.idle_timeout - 1ms);
    CHECK_FALSE(peer.closed());
    wall += jump;
    clock.Advance(1ms);
    CHECK(peer.closed());
    wall -= jump;
  }
}

TEST_CASE("pipelined requests are answered in order") {
  ServerFixture server(Echo);
  CHECK(server.Ask(Get("/1") + Post("x") + Get("/2") + Get("/3").substr(0, 9)) ==
        Ok("GET /1 ") + Ok("POST /p x") + Ok("GET /2 "));
  CHECK(server.Ask(Get("/3").substr(9)) == Ok("GET /3 "));
}

TEST_CASE("however the bytes come in, the answers are the same") {
  const std::string text =
      "\r\n" + Get("/1") + Post("hello world") +
      "PUT /2 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
      "3;x\r\nabc\r\n0\r\n\r\n" +
      "HEAD /3 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + Get("/4") + "BAD\r\n\r\n";
  const auto answers_in_pieces = [&](auto size) {
    ServerFixture server(Echo);
    std::string answers;
    for (size_t at = 0; at < text.size();) {
      const size_t piece = size();
      answers += server.Ask(text.substr(at, piece));
      at += piece;
    }
    CHECK_FALSE(server.peer->spun());
    return answers;
  };
  const std::string whole = answers_in_pieces([&] { return text.size(); });
  CHECK(whole.find("405") == std::string::npos);
  CHECK(whole.find("400 Bad Request") != std::string::npos);
  CHECK(answers_in_pieces([] { return size_t{1}; }) == whole);
  for (unsigned seed = 0; seed < 50; ++seed) {
    std::minstd_rand random(seed);
    CHECK(answers_in_pieces([&] { return 1 + random() % 60; }) == whole);
  }
}

TEST_CASE("requests sent ahead wait for the answer before theirs") {
  std::optional<http::Responder> first;
  std::vector<std::string> seen;
  ServerFixture server([&](const http::Request& request, http::Responder responder) {
    seen.emplace_back(request.path);
    if (!first) {
      first.emplace(std::move(responder));
    } else {
      Echo(request, std::move(responder));
    }
  });
  CHECK(server.Ask(Get("/1") + Get("/2")) == "");
  CHECK(seen == std::vector<std::string>{"/1"});
  // More than is read ahead.
  server.peer->Send("GET /3 HTTP/1.1\r\nHost: a\r\nX: " + std::string(40'000, 'x') + "\r\n\r\n");
  server.Run();
  CHECK(server.peer->unread() > 0);
  first->Send({200, "text/plain", "one"});
  CHECK(seen.size() == 1);  // not from inside Send()
  server.Run();
  CHECK(server.Answer() == Ok("one") + Ok("GET /2 ") + Ok("GET /3 "));
  CHECK_FALSE(server.peer->spun());
}

TEST_CASE("an answer may come later, or never") {
  std::optional<http::Responder> kept;
  ServerFixture server(
      [&](const http::Request&, http::Responder responder) { kept.emplace(std::move(responder)); });
  CHECK(server.Ask(Post("body")) == "");

  SUBCASE("later") {
    server.Advance(1h);  // no timeout while the handler works
    CHECK(kept->is_open());
    kept->Send({200, "text/plain", "late"});
    CHECK_FALSE(kept->is_open());
    CHECK(server.Answer() == Ok("late"));
    kept->Send({200, "text/plain", "twice"});
    CHECK(server.Answer() == "");
  }
  SUBCASE("never") {
    kept.reset();
    CHECK(server.Answer().starts_with("HTTP/1.1 500 Internal Server Error\r\n"));
  }
  SUBCASE("after the client has gone") {
    server.peer->Break();
    server.Run();
    CHECK_FALSE(server.connection);
    CHECK_FALSE(kept->is_open());
    kept->Send({200, "text/plain", "late"});
    CHECK(server.Answer() == "");
  }
  SUBCASE("after the server has gone") {
    server.connection.reset();
    CHECK_FALSE(kept->is_open());
    kept.reset();
  }
}

TEST_CASE("answers to HEAD, and 204 and 304, have no body") {
  ServerFixture server([](const http::Request& request, http::Responder responder) {
    if (request.path == "/204") return responder.Send({204, "", "x"});
    if (request.path == "/304") return responder.Send({304, "", "x"});
    responder.Send({200, "text/plain", "hello"});
  });
  CHECK(server.Ask("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + Get("/204") + Get("/304")) ==
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\n"
        "HTTP/1.1 204 No Content\r\n\r\n"
        "HTTP/1.1 304 Not Modified\r\n\r\n");
}

TEST_CASE("the connection ends when either side says so") {
  ServerFixture server(Echo);
  std::string answer;
  SUBCASE("Connection: close") { CHECK(server.Ask(Get("/", kClose)) == Ok("GET / ", kClose)); }
  SUBCASE("HTTP/1.0") { CHECK(server.Ask("GET / HTTP/1.0\r\n\r\n") == Ok("GET / ", kClose)); }
  SUBCASE("HTTP/1.0 without keep-alive, after one with") {
    CHECK(server.Ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n") ==
          Ok("GET / ", "Connection: keep-alive\r\n"));
    CHECK_FALSE(server.peer->at_end());
    CHECK(server.Ask("GET / HTTP/1.0\r\n\r\n") == Ok("GET / ", kClose));
  }
  SUBCASE("the server is closing") {
    CHECK(server.Ask(Get("/1")) == Ok("GET /1 "));
    server.context.closing = true;
    CHECK_FALSE(server.peer->at_end());  // one more request may be on its way
    CHECK(server.Ask(Get("/2")) == Ok("GET /2 ", kClose));
  }
  CHECK(server.peer->closed());
  CHECK_FALSE(server.peer->reset());
  CHECK(server.context.stats.connections_open == 0);
}

TEST_CASE("after Connection: close nothing more is served, and the answer is not lost to a reset") {
  ServerFixture server(Echo);
  CHECK(server.Ask(Get("/1", kClose) + Get("/2")) == Ok("GET /1 ", kClose));
  CHECK(server.peer->at_end());
  CHECK_FALSE(server.peer->closed());  // lingers
  SUBCASE("until the client closes") {
    server.peer->Send(Get("/3"));
    server.Run();
    CHECK(server.peer->unread() == 0);
    server.peer->ShutdownWrite();
    server.Run();
  }
  SUBCASE("or two seconds are over") { server.Advance(2s); }
  CHECK(server.peer->closed());
  CHECK(server.Answer() == "");
}

TEST_CASE("a client that has shut its side gets its answers") {
  ServerFixture server(Echo);
  server.peer->ShutdownWrite();
  CHECK(server.Ask(Get("/1") + Get("/2")) == Ok("GET /1 ") + Ok("GET /2 "));
  CHECK(server.peer->closed());
  CHECK_FALSE(server.peer->reset());
  CHECK_FALSE(server.peer->spun());
}

TEST_CASE("a client that has shut its side gets an answer that comes late") {
  std::vector<http::Responder> kept;
  ServerFixture server([&](const http::Request&, http::Responder responder) {
    kept.push_back(std::move(responder));
  });
  server.peer->ShutdownWrite();
  CHECK(server.Ask(Get("/1") + Get("/2")) == "");
  CHECK_FALSE(server.peer->spun());
  REQUIRE(kept.size() == 1);
  kept[0].Send({200, "text/plain", "1"});
  server.Run();
  REQUIRE(kept.size() == 2);
  CHECK_FALSE(server.peer->closed());
  kept[1].Send({200, "text/plain", "2"});
  server.Run();
  CHECK(server.Answer() == Ok("1") + Ok("2"));
  CHECK(server.peer->closed());
}

TEST_CASE("when closing, a client that was promised more is told with its next answer") {
  std::vector<http::Responder> kept;
  ServerFixture server([&](const http::Request&, http::Responder responder) {
    kept.push_back(std::move(responder));
  });
  const auto answer = [&] {
    kept.back().Send({200, "text/plain", "x"});
    server.Run();
    return server.Answer();
  };
  server.Ask(Get("/1"));
  SUBCASE("the head of the answer was out before") {
    CHECK(answer() == Ok("x"));
    server.context.closing = true;
    server.Ask(Get("/2"));
  }
  SUBCASE("the head is not out yet") { server.context.closing = true; }
  CHECK(answer().find("Connection: close\r\n") != std::string::npos);
  CHECK(server.peer->at_end());
}

TEST_CASE("a client that leaves in the middle is forgotten") {
  const std::string head = "PUT / HTTP/1.1\r\nHost: a\r\n";
  for (const std::string& sent : {std::string(), std::string("\r\n"), std::string("GET / HT"),
                                  head + "Content-Length: 5\r\n\r\nhel",
                                  head + "Transfer-Encoding: chunked\r\n\r\n5\r\nab", Get("/")}) {
    for (const bool politely : {true, false}) {
      CAPTURE(sent);
      CAPTURE(politely);
      ServerFixture server(Echo);
      server.Ask(sent);
      if (politely) {
        server.peer->ShutdownWrite();
      } else {
        server.peer->Break();
      }
      server.Run();
      CHECK_FALSE(server.connection);
      CHECK(server.Answer() == "");
      CHECK(server.context.stats.connections_open == 0);
      CHECK(server.clock.pending() == 0);
    }
  }
}

TEST_CASE("a bad request is answered, counted, and ends the connection") {
  ServerFixture server(Echo);
  CHECK(server.Ask(Get("/1")) == Ok("GET /1 "));
  CHECK(Refusal(server.Ask("GET / HTTP/1.1\r\n\r\n" + Get("/2"))) == "400 bad_request");
  CHECK(server.peer->at_end());
  CHECK_FALSE(server.peer->closed());
  CHECK(server.context.stats.bad_requests == 1);
  server.peer->ShutdownWrite();
  server.Run();
  CHECK(server.peer->closed());
  CHECK_FALSE(server.peer->reset());
}

TEST_CASE("other protocols get an answer in ours") {
  for (const std::string& hello :
       {std::string("\x16\x03\x01\x02\0\x01", 6), std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        std::string("\x80\x2e\x01\0", 4), std::string("SSH-2.0-x\r\n")}) {
    ServerFixture server(Echo);
    CHECK(Refusal(server.Ask(hello)) == "400 bad_request");
    CHECK(server.peer->at_end());
  }
}

TEST_CASE("limits have their own answers") {
  http::ServerOptions options;
  options.max_head = 500;
  options.max_headers = 5;
  options.max_body = 10;
  ServerFixture server(Echo, options);
  CHECK(Refusal(server.Ask(Get("/", "X: " + std::string(500, 'x') + "\r\n"))) ==
        "431 header_too_large");
  server.Connect();
  CHECK(Refusal(server.Ask(Get("/", "A:\r\nA:\r\nA:\r\nA:\r\nA:\r\n"))) == "431 header_too_large");
  server.Connect();
  CHECK(Refusal(server.Ask(Get("/" + std::string(500, 'x')))) == "414 uri_too_long");
  server.Connect();
  CHECK(server.Ask(Post("0123456789")) == Ok("POST /p 0123456789"));
  CHECK(Refusal(server.Ask(Post("0123456789a"))) == "413 body_too_large");
  CHECK(server.context.stats.bad_requests == 4);
}

TEST_CASE(
    "a body that is too large is refused before it is read, a chunked one when it gets there") {
  int handled = 0;
  http::ServerOptions options;
  options.max_body = 10;
  ServerFixture server(
      [&](const http::Request& request, http::Responder responder) {
        ++handled;
        Echo(request, std::move(responder));
      },
      options);
  SUBCASE("announced") {
    CHECK(Refusal(server.Ask("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                             "Content-Length: 11\r\n\r\n")) == "413 body_too_large");
  }
  SUBCASE("chunked") {
    server.peer->Send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    CHECK(server.Ask("5\r\nhello\r\n5\r\nworld\r\n") == "");
    CHECK(Refusal(server.Ask("1\r\n!")) == "413 body_too_large");
  }
  // The client goes on sending for a while: nothing of it is kept, and it is not reset.
  server.peer->Send(std::string(1'000'000, 'x'));
  server.Run();
  CHECK(server.peer->unread() == 0);
  CHECK_FALSE(server.peer->reset());
  CHECK(handled == 0);
}

TEST_CASE("with max_body 0 a request without a body is served, one with is not") {
  http::ServerOptions options;
  options.max_body = 0;
  ServerFixture server(Echo, options);
  CHECK(server.Ask(Get("/")) == Ok("GET / "));
  CHECK(server.Ask(Post("")) == Ok("POST /p "));
  CHECK(Refusal(server.Ask(Post("x"))) == "413 body_too_large");
}

TEST_CASE("a client that expects it is told to continue") {
  ServerFixture server(Echo);
  const std::string expect = "Expect: 100-continue\r\n";
  CHECK(server.Ask(Post("hello", expect).substr(0, Post("hello", expect).size() - 5)) ==
        "HTTP/1.1 100 Continue\r\n\r\n");
  CHECK(server.Ask("hello") == Ok("POST /p hello"));
  CHECK(server.Ask(Get("/", expect)) == Ok("GET / "));  // there is nothing to continue with
  CHECK(server.Ask("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n") == "");
  CHECK(server.Ask("x") == Ok("POST / x", kClose));
  server.Connect();
  CHECK(Refusal(server.Ask(Post("x", "Expect: miracles\r\n"))) == "417 expectation_failed");
}

TEST_CASE("a head that trickles in is answered 408") {
  ServerFixture server(Echo);
  const std::string text = Get("/");
  for (int second = 0; second < 9; ++second) {
    server.peer->Send(text.substr(static_cast<size_t>(second), 1));
    server.Run();
    server.Advance(1s);
  }
  CHECK(server.Answer() == "");
  server.Advance(1s);
  CHECK(Refusal(server.Answer()) == "408 request_timeout");
  CHECK(server.peer->at_end());
  CHECK(server.context.stats.connections_timed_out == 1);
  CHECK(server.context.stats.bad_requests == 1);
}

TEST_CASE("each head has its own time") {
  ServerFixture server(Echo);
  for (int i = 0; i < 5; ++i) {
    server.peer->Send(Get("/").substr(0, 5));
    server.Run();
    server.Advance(9s);
    CHECK(server.Ask(Get("/").substr(5) + Get("/").substr(0, 5)) == Ok("GET / "));
    server.Advance(9s);
    CHECK(server.Ask(Get("/").substr(5)) == Ok("GET / "));
  }
}

TEST_CASE("a body that stops coming is answered 408, one that goes on is not") {
  ServerFixture server(Echo);
  const std::string text = Post(std::string(20, 'x'));
  server.peer->Send(text.substr(0, text.size() - 20));
  server.Run();
  for (int i = 0; i < 19; ++i) {
    server.Advance(9s);
    CHECK(server.Ask("x") == "");
  }
  SUBCASE("it stops") {
    server.Advance(10s);
    CHECK(Refusal(server.Answer()) == "408 request_timeout");
    CHECK(server.context.stats.connections_timed_out == 1);
  }
  SUBCASE("it goes on") { CHECK(server.Ask("x") == Ok("POST /p " + std::string(20, 'x'))); }
}

TEST_CASE("a refusal of a HEAD has no body either") {
  http::ServerOptions options;
  options.body_timeout = 10s;
  ServerFixture server(Echo, options);
  server.Ask("HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
  SUBCASE("408") { server.Advance(10s); }
  SUBCASE("400") { server.peer->Send("x\r\n"); }
  server.Run();
  const std::string answer = server.Answer();
  CHECK(answer.starts_with("HTTP/1.1 40"));
  CHECK(answer.ends_with("\r\n\r\n"));
  CHECK(answer.find("Content-Length: 0\r\n") == std::string::npos);
}

TEST_CASE("idle connections are closed in silence") {
  ServerFixture server(Echo);
  SUBCASE("that never sent anything") {}
  SUBCASE("that sent a request") { CHECK(server.Ask(Get("/")) == Ok("GET / ")); }
  server.Advance(74s);
  CHECK_FALSE(server.peer->closed());
  server.Advance(1s);
  CHECK(server.peer->closed());
  CHECK(server.Answer() == "");
  CHECK(server.context.stats.connections_timed_out == 0);
}

TEST_CASE("empty lines after a request are not taken for a slow one") {
  ServerFixture server(Echo);
  CHECK(server.Ask(Get("/") + "\r\n") == Ok("GET / "));
  server.Advance(10s);
  CHECK(server.Answer() == "");
  CHECK(server.peer->closed());
}

TEST_CASE("a client that does not take its answer is cut off") {
  ServerFixture server([](const http::Request&, http::Responder responder) {
    responder.Send({200, "", std::string(1000, 'x')});
  });
  server.peer->TakeOnly(100);
  CHECK(server.Ask(Get("/")).starts_with("HTTP/1.1 200 OK\r\n"));
  for (int i = 0; i < 3; ++i) {
    server.Advance(29s);
    server.peer->TakeOnly(10);
    server.Run();
    CHECK(server.Answer().size() == 10);
  }
  SUBCASE("it stops taking") {
    server.Advance(30s);
    CHECK(server.peer->reset());
    CHECK(server.context.stats.connections_timed_out == 1);
  }
  SUBCASE("it takes the rest") {
    server.peer->TakeOnly(100'000);
    server.Run();
    CHECK(server.Answer().ends_with(std::string(900, 'x')));
    server.Advance(30s);
    CHECK_FALSE(server.peer->closed());
  }
}

TEST_CASE("a client that sends requests and takes no answers is stopped") {
  int handled = 0;
  ServerFixture server([&](const http::Request&, http::Responder responder) {
    ++handled;
    responder.Send({200, "", std::string(10'000, 'x')});
  });
  server.peer->TakeOnly(0);
  for (int i = 0; i < 20'000; ++i) server.peer->Send(Get("/"));
  server.Run();
  CHECK(handled < 10);
  CHECK(server.peer->unread() > 400'000);
  // It gets all of them once it takes them.
  server.peer->TakeOnly(1'000'000'000);
  server.Run();
  CHECK(handled == 20'000);
  CHECK_FALSE(server.peer->spun());
}

TEST_CASE("a client that is always a request ahead costs no more and more memory") {
  std::optional<http::Responder> kept;
  ServerFixture server(
      [&](const http::Request&, http::Responder responder) { kept.emplace(std::move(responder)); });
  const std::string request = Get("/", "X: " + std::string(900, 'x') + "\r\n");
  server.Ask(request + request);
  for (int i = 0; i < 1000; ++i) {
    server.Ask(request);
    kept->Send({200, "", "ok"});
    server.Run();
    CHECK(server.connection->held() < 10'000);
  }
}

TEST_CASE("a connection waits for nothing but its deadline") {
  ServerFixture server(Echo);
  CHECK(server.clock.pending() == 1);
  for (int i = 0; i < 100; ++i) server.Ask(Get("/"));
  CHECK(server.clock.pending() == 1);
  CHECK(server.peer->waits_to_read());
  CHECK_FALSE(server.peer->waits_to_write());
  server.peer->ShutdownWrite();
  server.Run();
  CHECK(server.clock.pending() == 0);
}

TEST_CASE("the connection that can best be spared is one without a request") {
  test::FakeClock clock;
  http::WholeExchanges handler(Echo);
  http::ServerContext context(clock, {}, handler, test::SomeTime);
  struct Owner : http::ServerConnection::Owner {
    void Schedule(http::ServerConnection&) override {}
  } owner;
  struct Pair {
    test::FakePeer peer;
    std::unique_ptr<http::ServerConnection> connection;
  };
  std::vector<std::unique_ptr<Pair>> pairs;
  for (const char* sent :
       {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n", "GET", "", "x"}) {
    auto pair = std::make_unique<Pair>();
    pair->connection =
        std::make_unique<http::ServerConnection>(context, owner, pair->peer.Connect());
    pair->peer.Send(sent);
    pair->peer.Run();
    pairs.push_back(std::move(pair));
  }
  // One that lingers first, then an idle one, then one in its head; a body only if it has stalled.
  for (const int expected : {3, 2, 1}) {
    http::ServerConnection* spared = http::ServerConnection::Dispensable(context);
    CHECK(spared == pairs[static_cast<size_t>(expected)]->connection.get());
    spared->GiveWay();
    CHECK(pairs[static_cast<size_t>(expected)]->peer.closed());
  }
  CHECK(http::ServerConnection::Dispensable(context) == nullptr);
  clock.Advance(1s);
  CHECK(http::ServerConnection::Dispensable(context) == pairs[0]->connection.get());
  CHECK(context.stats.connections_open == 1);
}

#include "agent/http/exchange.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "tests/unit/http/server_fixture.h"

using namespace modal;
using namespace std::chrono_literals;
using test::ServerFixture;

namespace {

// Writes down what it is told, and does what the test says.
class Script : public http::ExchangeHandler {
 public:
  void OnHead(http::Exchange& exchange) override {
    log += "head ";
    current = &exchange;
    if (on_head) on_head(exchange);
  }
  void OnBody(http::Exchange& exchange, std::string_view data) override {
    log.append("body:").append(data).append(" ");
    if (on_body) on_body(exchange, data);
  }
  void OnRequestEnd(http::Exchange& exchange) override {
    log += "end ";
    if (on_end) on_end(exchange);
  }
  void OnDrained(http::Exchange& exchange) override {
    log += "drained ";
    if (on_drained) on_drained(exchange);
  }
  void OnGone(http::Exchange& exchange) override {
    CHECK(&exchange == current);
    log += "gone ";
    current = nullptr;
  }
  std::string TakeLog() { return std::exchange(log, {}); }

  std::string log;
  http::Exchange* current = nullptr;
  std::function<void(http::Exchange&)> on_head;
  std::function<void(http::Exchange&, std::string_view)> on_body;
  std::function<void(http::Exchange&)> on_end;
  std::function<void(http::Exchange&)> on_drained;
};

const std::string kGet = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const std::string kPost = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
const std::string kChunkedHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

}  // namespace

TEST_CASE("an answer is streamed in chunks as it comes") {
  Script script;
  ServerFixture server(script);
  CHECK(server.Ask(kGet) == "");
  CHECK(script.TakeLog() == "head end ");
  const http::Header type{"Content-Type", "text/event-stream"};
  script.current->Begin({.headers = {&type, 1}});
  CHECK(server.Answer() == "");  // waits for the first piece
  CHECK(script.current->Write(""));
  CHECK(server.Answer() ==
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
  CHECK(script.current->Write("hello"));
  CHECK(server.Answer() == "5\r\nhello\r\n");
  CHECK(script.current->Write("0123456789abcdefg"));
  CHECK(server.Answer() == "11\r\n0123456789abcdefg\r\n");
  const http::Header trailer{"T", "u"};
  script.current->End({&trailer, 1});
  CHECK(server.Answer() == "0\r\nT: u\r\n\r\n");
  CHECK(server.Ask(kGet) == "");
  CHECK(script.TakeLog() == "head end ");
}

TEST_CASE("an answer of known length is not chunked") {
  Script script;
  ServerFixture server(script);
  server.Ask(kGet);
  script.current->Begin({.content_length = 10});
  script.current->Write("hello");
  CHECK(server.Answer() == "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");

  SUBCASE("and ends when it is whole") {
    script.current->Write("world");
    script.current->End();
    server.Run();
    CHECK(server.Answer() == "world");
    CHECK_FALSE(server.peer->closed());
  }
  SUBCASE("and cuts the connection if it is not whole at its end") {
    script.current->End();
    CHECK(server.peer->reset());
    server.Run();
    CHECK(script.TakeLog() == "head end ");
  }
  SUBCASE("and cuts the connection if it gets too long") {
    script.current->Write("worlds");
    CHECK(server.peer->reset());
    script.current->Write("x");
    server.Run();
    CHECK(server.Answer() == "");
    CHECK(script.TakeLog() == "head end gone ");
  }
}

TEST_CASE("an HTTP/1.0 client is never sent chunks") {
  Script script;
  ServerFixture server(script);
  server.Ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  script.current->Inform(103, {});
  script.current->Begin({});
  script.current->Write("hello");
  script.current->End();
  server.Run();
  CHECK(server.Answer() == "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello");
  CHECK(server.peer->closed());
  CHECK_FALSE(server.peer->reset());
}

TEST_CASE("what is written where there is no body is dropped") {
  Script script;
  ServerFixture server(script);
  script.on_end = [](http::Exchange& exchange) {
    exchange.Begin({.status = exchange.request().path == "/204" ? 204 : 200});
    exchange.Write("hello");
    exchange.End();
  };
  CHECK(server.Ask("HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET /204 HTTP/1.1\r\nHost: a\r\n\r\n") ==
        "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n");
}

TEST_CASE("interim answers come before the answer") {
  Script script;
  ServerFixture server(script);
  server.Ask(kGet);
  const http::Header link{"Link", "</x>"};
  script.current->Inform(103, {&link, 1});
  CHECK(server.Answer() == "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
  script.current->Send({204});
  CHECK(server.Answer() == "HTTP/1.1 204 No Content\r\n\r\n");
}

TEST_CASE("a body is handed over as it comes, and can be paused") {
  Script script;
  ServerFixture server(script);
  server.Ask(kPost + "he");
  CHECK(script.TakeLog() == "head body:he ");
  script.current->PauseBody();
  server.Ask("llo" + kGet);
  CHECK(script.TakeLog() == "");
  server.Advance(1h);  // it is not the client that is slow
  CHECK_FALSE(server.peer->closed());
  script.current->ResumeBody();
  CHECK(script.TakeLog() == "");  // never from inside a call
  server.Run();
  CHECK(script.TakeLog() == "body:llo end ");
  script.current->Send({204});
  server.Run();
  CHECK(script.TakeLog() == "head end ");
  CHECK_FALSE(server.peer->spun());
}

TEST_CASE("a body that is paused at its head is not asked for until it is resumed") {
  Script script;
  script.on_head = [](http::Exchange& exchange) { exchange.PauseBody(); };
  ServerFixture server(script);
  CHECK(server.Ask(
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n") ==
        "");
  script.current->ResumeBody();
  server.Run();
  CHECK(server.Answer() == "HTTP/1.1 100 Continue\r\n\r\n");
  server.Ask("x");
  CHECK(script.TakeLog() == "head body:x end ");
}

TEST_CASE("an answer to a paused request that has no body completes it") {
  Script script;
  script.on_head = [](http::Exchange& exchange) { exchange.PauseBody(); };
  ServerFixture server(script);
  server.Ask(kGet);
  CHECK(script.TakeLog() == "head ");
  script.current->Send({204});
  server.Run();
  CHECK(server.Answer() == "HTTP/1.1 204 No Content\r\n\r\n");
  server.Ask(kGet);
  CHECK(script.TakeLog() == "head ");
}

TEST_CASE("an early answer goes out while the upload still runs") {
  Script script;
  ServerFixture server(script);
  SUBCASE("whole: the rest of the body is not wanted") {
    script.on_head = [](http::Exchange& exchange) { exchange.Send({403}); };
    CHECK(server.Ask(kPost + "he") ==
          "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    CHECK(server.peer->at_end());
    CHECK_FALSE(server.peer->closed());
    CHECK(script.TakeLog() == "head ");
    server.peer->Send("llo");
    server.peer->ShutdownWrite();
    server.Run();
    CHECK(server.peer->closed());
    CHECK_FALSE(server.peer->reset());
  }
  SUBCASE("streamed: what is left of the body is read and dropped, the connection stays") {
    server.Ask(kPost + "he");
    script.current->Begin({.content_length = 2});
    script.current->Write("ok");
    script.current->End();
    server.Run();
    CHECK(server.Answer() == "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    script.TakeLog();
    server.Ask("llo" + kGet);
    CHECK(script.TakeLog() == "head end ");
  }
  SUBCASE("streamed: but not for ever") {
    server.Ask(kPost + "he");
    script.current->Begin({.content_length = 0});
    script.current->End();
    server.Run();
    server.Advance(10s);
    CHECK(server.peer->at_end());
    CHECK(server.Answer() == "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  }
  SUBCASE("a body that was never asked for may not come") {
    script.on_head = [](http::Exchange& exchange) {
      exchange.Begin({.content_length = 0});
      exchange.End();
    };
    CHECK(server.Ask(
              "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n") ==
          "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    CHECK(server.peer->at_end());
  }
}

TEST_CASE("a writer is told to wait for a slow client, and when to go on") {
  Script script;
  ServerFixture server(script);
  server.Ask(kGet);
  server.peer->TakeOnly(0);
  script.current->Begin({.content_length = 1'000'000});
  size_t written = 0;
  const std::string piece(10'000, 'x');
  while (script.current->Write(piece)) written += piece.size();
  written += piece.size();
  CHECK(written < 100'000);
  CHECK(script.TakeLog() == "head end ");
  server.peer->TakeOnly(40'000);
  server.Run();
  CHECK(script.TakeLog() == "");
  server.peer->TakeOnly(20'000);
  server.Run();
  CHECK(script.TakeLog() == "drained ");
  script.on_drained = [&](http::Exchange& exchange) {
    while (written < 1'000'000) {
      written += piece.size();
      if (!exchange.Write(piece)) return;
    }
    exchange.End();
  };
  script.on_drained(*script.current);
  server.peer->TakeOnly(2'000'000);
  server.Run();
  CHECK(server.Answer().size() > 1'000'000);
  CHECK(written == 1'000'000);
  CHECK_FALSE(server.peer->spun());
  server.Ask(kGet);
  CHECK(script.TakeLog().ends_with("head end "));
}

TEST_CASE("a handler is told once when its client has gone, never from inside a call") {
  Script script;
  ServerFixture server(script);
  SUBCASE("reset while it waits") {
    server.Ask(kGet);
    server.peer->Break();
    server.Run();
    CHECK(script.TakeLog() == "head end gone ");
  }
  SUBCASE("noticed while it writes") {
    server.Ask(kGet);
    script.current->Begin({});
    server.peer->Break();
    script.current->Write("hello");
    CHECK(script.TakeLog() == "head end ");
    script.current->Write("more");
    server.Run();
    CHECK(script.TakeLog() == "gone ");
  }
  SUBCASE("noticed by its answer: then it need not be told") {
    server.Ask(kGet);
    server.peer->Break();
    script.current->Send({204});
    server.Run();
    CHECK(script.TakeLog() == "head end ");
  }
  SUBCASE("the body ends too soon") {
    server.Ask(kPost + "he");
    server.peer->ShutdownWrite();
    server.Run();
    CHECK(script.TakeLog() == "head body:he gone ");
  }
  SUBCASE("the body ends too soon, with the answer begun") {
    server.Ask(kPost + "he");
    script.current->Begin({});
    server.peer->ShutdownWrite();
    server.Run();
    CHECK(script.TakeLog() == "head body:he gone ");
    CHECK(server.peer->reset());
  }
  SUBCASE("the chunks are bad") {
    CHECK(server.Ask("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n")
              .starts_with("HTTP/1.1 400 Bad Request\r\n"));
    CHECK(script.TakeLog() == "head gone ");
  }
  SUBCASE("the chunks are bad, with the answer begun: it must not look whole") {
    script.on_head = [](http::Exchange& exchange) { exchange.Begin({}); };
    server.Ask("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n");
    CHECK(script.TakeLog() == "head gone ");
    CHECK(server.peer->reset());
  }
  SUBCASE("the client takes nothing") {
    server.Ask(kGet);
    server.peer->TakeOnly(0);
    script.current->Begin({});
    script.current->Write("hello");
    server.Advance(30s);
    CHECK(script.TakeLog() == "head end gone ");
    CHECK(server.peer->reset());
  }
  SUBCASE("the body stalls") {
    server.Ask(kPost + "he");
    server.Advance(10s);
    CHECK(script.TakeLog() == "head body:he gone ");
    CHECK(server.Answer().starts_with("HTTP/1.1 408 "));
  }
  SUBCASE("the connection is destroyed") {
    server.Ask(kGet);
    server.connection.reset();
    CHECK(script.TakeLog() == "head end gone ");
    return;
  }
  CHECK(server.context.deadlines.Oldest(http::ServerContext::kForBody) == nullptr);
}

TEST_CASE("when closing, an answer that had promised more is followed by the end, a little later") {
  Script script;
  ServerFixture server(script);
  server.Ask(kGet);
  script.current->Begin({});
  script.current->Write("a");
  server.Run();
  CHECK(server.Answer().find("Connection: close") == std::string::npos);
  server.context.closing = true;
  server.Advance(1min);
  CHECK_FALSE(server.peer->at_end());
  script.current->End();
  server.Run();
  CHECK_FALSE(server.peer->at_end());
  SUBCASE("no other request was on its way") {
    server.Advance(2s);
    CHECK(server.peer->closed());
    CHECK_FALSE(server.peer->reset());
    CHECK_FALSE(server.connection);
  }
  SUBCASE("one was") {
    server.Advance(1s);
    server.Ask(kGet);
    script.current->Send({503});
    server.Run();
    CHECK(server.Answer().find("Connection: close\r\n") != std::string::npos);
    CHECK(server.peer->at_end());
  }
}

TEST_CASE("a client that has shut its side and breaks then is gone with the next piece for it") {
  Script script;
  ServerFixture server(script);
  server.peer->ShutdownWrite();
  server.Ask(kGet);
  script.current->Begin({});
  script.current->Write("a");
  server.Run();
  CHECK(script.TakeLog() == "head end ");
  CHECK_FALSE(server.peer->spun());
  server.peer->Break(EPIPE);
  server.Run();
  script.current->Write("b");
  server.Run();
  CHECK(script.TakeLog() == "gone ");
  CHECK(server.peer->closed());
  CHECK(server.context.stats.connections_open == 0);
}

TEST_CASE("a handler may answer itself for a body that will not come, or is none") {
  class Answering : public Script {
   public:
    void OnBadBody(http::Exchange& exchange, const http::ParseError& error) override {
      log += "bad ";
      if (!answers) return exchange.Abort();
      exchange.Send(http::ErrorResponse(error.status, error.error, error.message, "id"));
    }
    http::Response OnRefused(const http::RefusedRequest&) override {
      log += "refused ";
      return {400};
    }
    bool answers = true;
  } script;
  ServerFixture server(script);
  std::string status = "408";
  SUBCASE("it stalls") {
    server.Ask(kPost + "he");
    server.Advance(10s);
    CHECK(script.TakeLog() == "head body:he bad ");
  }
  SUBCASE("it is no chunk") {
    server.Ask("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    server.peer->Send("nonsense\r\n");
    server.Run();
    CHECK(script.TakeLog() == "head bad ");
    status = "400";
  }
  SUBCASE("by cutting it") {
    script.answers = false;
    server.Ask(kPost + "he");
    server.Advance(10s);
    CHECK(script.TakeLog() == "head body:he bad ");
    CHECK(server.Answer() == "");
    CHECK(server.peer->reset());
    return;
  }
  const std::string answer = server.Answer();
  CHECK(answer.starts_with("HTTP/1.1 " + status + " "));
  CHECK(answer.find("Connection: close\r\n") != std::string::npos);
  CHECK(answer.find("\"request_id\":\"id\"") != std::string::npos);
  CHECK(server.peer->at_end());
  CHECK(server.context.stats.bad_requests == 1);
}

TEST_CASE("an aborted answer never looks whole") {
  Script script;
  ServerFixture server(script);
  SUBCASE("from outside") {
    server.Ask(kGet);
    script.current->Begin({});
    script.current->Write("hello");
    script.current->Abort();
  }
  SUBCASE("from a callback") {
    script.on_head = [](http::Exchange& exchange) { exchange.Begin({}); };
    script.on_body = [](http::Exchange& exchange, std::string_view) { exchange.Abort(); };
    server.Ask(kPost + "hello" + kGet);
  }
  SUBCASE("before it began") {
    script.on_head = [](http::Exchange& exchange) { exchange.Abort(); };
    server.Ask(kPost + "hello" + kGet);
  }
  server.Run();
  CHECK(server.peer->reset());
  CHECK_FALSE(server.connection);
  CHECK(script.log.find("gone") == std::string::npos);
  CHECK(server.Answer().find("0\r\n\r\n") == std::string::npos);
}

TEST_CASE("an exchange may be answered from within any callback") {
  Script script;
  ServerFixture server(script);
  const std::string chunked =
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
  script.on_head = [](http::Exchange& exchange) { exchange.Begin({}); };
  script.on_body = [](http::Exchange& exchange, std::string_view data) { exchange.Write(data); };
  script.on_end = [](http::Exchange& exchange) { exchange.End(); };
  CHECK(server.Ask(chunked + chunked) ==
        kChunkedHead + "2\r\nhi\r\n0\r\n\r\n" + kChunkedHead + "2\r\nhi\r\n0\r\n\r\n");
}

TEST_CASE("ready header lines go out as they are, after the headers") {
  Script script;
  ServerFixture server(script);
  server.Ask(kGet);
  const http::Header type{"Content-Type", "text/plain"};
  script.current->Begin({.status = 299,
                         .reason = "Odd",
                         .headers = {&type, 1},
                         .lines = "X-A: b\r\nDate: then\r\n",
                         .has_date = true,
                         .content_length = 0});
  script.current->End();
  server.Run();
  CHECK(server.peer->received() ==
        "HTTP/1.1 299 Odd\r\nContent-Type: text/plain\r\nX-A: b\r\nDate: then\r\n"
        "Content-Length: 0\r\n\r\n");
}

TEST_CASE("what is corked goes out together, and not later than the end") {
  Script script;
  ServerFixture server(script);
  server.Ask(kGet);
  http::Exchange& exchange = *script.current;
  exchange.Begin({});
  exchange.Cork();
  exchange.Write("a");
  exchange.Write("b");
  server.Run();
  CHECK(server.Answer() == "");
  SUBCASE("uncorked") {
    exchange.Uncork();
    CHECK(server.Answer() == kChunkedHead + "1\r\na\r\n1\r\nb\r\n");
    exchange.Write("c");
    CHECK(server.Answer() == "1\r\nc\r\n");
    exchange.Cork();
    exchange.Write("d");
    CHECK(server.Answer() == "");
    exchange.End();
    CHECK(server.Answer() == "1\r\nd\r\n0\r\n\r\n");
  }
  SUBCASE("ended") {
    exchange.End();
    CHECK(server.Answer() == kChunkedHead + "1\r\na\r\n1\r\nb\r\n0\r\n\r\n");
    // The next answer is not corked.
    server.Ask(kGet);
    script.current->Begin({});
    script.current->Write("c");
    CHECK(server.Answer() == kChunkedHead + "1\r\nc\r\n");
  }
  SUBCASE("more than is kept waiting") {
    std::string all = kChunkedHead + "1\r\na\r\n1\r\nb\r\n";
    for (int i = 0; i < 40; ++i) {
      exchange.Write(std::string(2000, 'x'));
      all += "7d0\r\n" + std::string(2000, 'x') + "\r\n";
    }
    const std::string answer = server.Answer();
    CHECK(answer.size() > 60'000);
    CHECK(all.starts_with(answer));
  }
  SUBCASE("aborted: nothing of it") {
    exchange.Abort();
    server.Run();
    CHECK(server.Answer() == "");
    CHECK(server.peer->reset());
  }
}

TEST_CASE("a connection that was switched is the handler's, with all that is unread and unsent") {
  Script script;
  ServerFixture server(script);
  SUBCASE("at once") {
    server.Ask(kGet + "more");
    http::DetachedConnection detached = script.current->SwitchProtocols("Upgrade: x\r\n");
    server.Run();
    CHECK(detached.unread == "more");
    CHECK(detached.unsent == "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n");
    CHECK_FALSE(server.connection);
    CHECK_FALSE(server.peer->closed());
    CHECK(server.context.stats.connections_open == 0);
    CHECK(server.context.stats.connections_busy == 0);
    CHECK(server.clock.pending() == 0);
    CHECK(script.TakeLog() == "head end ");  // it knows
  }
  SUBCASE("with an earlier answer that is still on its way") {
    server.peer->TakeOnly(0);
    server.Ask(kGet);
    script.current->Send({200, "text/plain", "first"});
    server.Ask(kGet);
    http::DetachedConnection detached = script.current->SwitchProtocols("");
    CHECK(detached.unsent.starts_with("HTTP/1.1 200 OK\r\n"));
    CHECK(
        detached.unsent.ends_with("first"
                                  "HTTP/1.1 101 Switching Protocols\r\n\r\n"));
  }
  SUBCASE("not when it has just been cut") {
    server.Ask(kGet);
    server.peer->Break();
    const http::Header link{"Link", "</a>"};
    script.current->Inform(103, {&link, 1});
    CHECK_FALSE(script.current->SwitchProtocols("").stream);
    server.Run();
    CHECK(server.context.stats.connections_open == 0);
  }
}

TEST_CASE("a connection is busy from the head of a request until its answer is out") {
  Script script;
  ServerFixture server(script);
  const auto busy = [&] { return server.context.stats.connections_busy; };
  CHECK(busy() == 0);
  server.Ask("GET / HTTP");
  CHECK(busy() == 0);
  server.Ask(kGet.substr(10));
  CHECK(busy() == 1);
  server.peer->TakeOnly(10);
  script.current->Send({200, "text/plain", "hello"});
  server.Run();
  CHECK(busy() == 1);
  server.peer->TakeOnly(10'000);
  server.Run();
  CHECK(busy() == 0);
  server.Ask(kGet);
  CHECK(busy() == 1);
  server.peer->Break();
  server.Run();
  CHECK(busy() == 0);
}

TEST_CASE("a refusal reaches a client that takes slowly, and then the connection ends") {
  Script script;
  ServerFixture server(script);
  server.peer->TakeOnly(20);
  server.Ask(kPost);
  script.current->Send({413, "text/plain", "no"});
  server.Run();
  CHECK_FALSE(server.peer->at_end());
  server.peer->TakeOnly(10'000);
  server.Run();
  CHECK(server.peer->received().ends_with("Connection: close\r\n\r\nno"));
  CHECK(server.peer->at_end());
  CHECK_FALSE(server.peer->reset());
}

namespace {

// Takes bodies through a pipe.
class Splicer : public Script {
 public:
  Splicer() {
    on_body = [](http::Exchange& exchange, std::string_view) { exchange.SpliceBody(); };
  }
  void OnBodyReadable(http::Exchange& exchange) override {
    const event::IoResult result = exchange.ReadBodyInto(*pipe);
    if (result.kind == event::IoResult::Kind::kDone) log += "piped ";
    if (holds) exchange.PauseBody();
    if (!holds) Empty();
  }
  std::string Empty() {
    while (!pipe->empty()) {
      char buffer[4096];
      const ssize_t size = ::read(pipe->read_end(), buffer, sizeof buffer);
      REQUIRE(size > 0);
      pipe->Count(-size);
      passed.append(buffer, static_cast<size_t>(size));
    }
    return passed;
  }
  void Fill(const std::string& text) {
    REQUIRE(::write(pipe->write_end(), text.data(), text.size()) ==
            static_cast<ssize_t>(text.size()));
    pipe->Count(static_cast<ptrdiff_t>(text.size()));
  }

  std::unique_ptr<event::Pipe> pipe = *event::Pipe::Open();
  bool holds = false;
  std::string passed;
};

}  // namespace

TEST_CASE("a body of known length can pass through a pipe, and ends where it ends") {
  Splicer script;
  ServerFixture server(script);
  server.Ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nh");
  CHECK(script.TakeLog() == "head body:h ");
  SUBCASE("with the next request behind it") {
    server.Ask("ello world" + kGet);
    CHECK(script.TakeLog() == "piped end ");
    CHECK(script.passed == "ello world");
    script.current->Send({200, "text/plain", "ok"});
    server.Run();
    CHECK(script.TakeLog() == "head end ");
  }
  SUBCASE("held back, with the next request, and the end of the connection, behind it") {
    script.holds = true;
    server.Ask("ello world" + kGet);
    CHECK(script.TakeLog() == "piped ");
    server.peer->ShutdownWrite();
    CHECK(script.Empty() == "ello world");
    script.current->ResumeBody();
    // What follows may be seen before the connection has its turn.
    server.Run();
    CHECK(script.TakeLog() == "end ");
    script.current->Send({200, "text/plain", "ok"});
    server.Run();
    CHECK(script.TakeLog() == "head end ");
  }
  SUBCASE("a client that ends too early is gone") {
    server.Ask("ello");
    server.peer->ShutdownWrite();
    server.Run();
    CHECK(script.TakeLog() == "piped gone ");
  }
  SUBCASE("a client that breaks is gone") {
    server.peer->Break();
    server.Run();
    CHECK(script.TakeLog() == "gone ");
  }
  SUBCASE("where pipes do not work it comes in the usual way") {
    server.peer->RefusePipes();
    script.on_body = nullptr;
    server.Ask("ello world");
    CHECK(script.TakeLog() == "body:ello world end ");
  }
  SUBCASE("a client that stops is refused") {
    server.Advance(1h);
    CHECK(script.TakeLog() == "gone ");
    CHECK(server.Answer().starts_with("HTTP/1.1 408 "));
  }
}

TEST_CASE("a chunked body, or one of which something has been read, does not pass through a pipe") {
  Script script;
  ServerFixture server(script);
  bool spliced = true;
  script.on_body = [&](http::Exchange& exchange, std::string_view) {
    spliced = exchange.SpliceBody();
  };
  SUBCASE("chunked") {
    server.Ask("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
  }
  SUBCASE("all of it has been read") { server.Ask(kPost + "hello"); }
  CHECK_FALSE(spliced);
}

TEST_CASE("an answer of known length can be written from a pipe") {
  Splicer script;
  ServerFixture server(script);
  server.Ask(kGet);
  http::Exchange& exchange = *script.current;
  CHECK(exchange.room_to_splice() == 0);
  SUBCASE("after the head and the first piece have gone out") {
    exchange.Begin({.content_length = 11});
    CHECK(exchange.room_to_splice() == 0);  // the head waits
    exchange.Write("h");
    CHECK(exchange.room_to_splice() == 10);
    server.peer->TakeOnly(4);
    server.Answer();
    script.Fill("ello world");
    exchange.WriteFrom(*script.pipe);
    CHECK(server.Answer() == "ello");
    CHECK(exchange.room_to_splice() == 6);
    script.on_drained = [&](http::Exchange& same) { same.WriteFrom(*script.pipe); };
    server.Run();
    CHECK(script.TakeLog() == "head end ");
    server.peer->TakeOnly(1000);
    server.Run();
    CHECK(script.TakeLog() == "drained ");
    CHECK(server.Answer() == " world");
    exchange.End();
    server.Run();
    CHECK_FALSE(server.peer->at_end());
  }
  SUBCASE("less than was announced never looks whole") {
    exchange.Begin({.content_length = 11});
    exchange.Write("h");
    script.Fill("ello");
    exchange.WriteFrom(*script.pipe);
    exchange.End();
    server.Run();
    CHECK(server.peer->reset());
  }
  SUBCASE("not in chunks") {
    exchange.Begin({});
    exchange.Write("h");
    CHECK(exchange.room_to_splice() == 0);
  }
  SUBCASE("not to a client that is gone") {
    exchange.Begin({.content_length = 11});
    exchange.Write("h");
    server.peer->Break();
    script.Fill("ello world");
    exchange.WriteFrom(*script.pipe);
    CHECK(exchange.room_to_splice() == 0);
    server.Run();
    CHECK(script.TakeLog() == "head end gone ");
  }
}

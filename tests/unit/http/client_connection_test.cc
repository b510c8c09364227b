#include "agent/http/client_connection.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <string>

#include "agent/event/pipe.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_stream.h"

using namespace modal;
using namespace std::chrono_literals;
using http::BodyFraming;
using http::ClientFailure;
using http::Method;

namespace {

constexpr size_t kAll = std::numeric_limits<size_t>::max();
const std::string kHead = "GET / HTTP/1.1\r\nHost: a\r\n";
const std::string kOk = "HTTP/1.1 200 OK\r\n";
const std::string kEmpty = kOk + "Content-Length: 0\r\n\r\n";

std::string WithLength(const std::string& body, const std::string& more = "") {
  return kOk + "Content-Length: " + std::to_string(body.size()) + "\r\n" + more + "\r\n" + body;
}

std::string_view NameOf(ClientFailure failure) {
  switch (failure) {
    case ClientFailure::kConnect:
      return "connect";
    case ClientFailure::kConnectTimeout:
      return "connect_timeout";
    case ClientFailure::kFirstByteTimeout:
      return "first_byte_timeout";
    case ClientFailure::kIdleTimeout:
      return "idle_timeout";
    case ClientFailure::kClosed:
      return "closed";
    case ClientFailure::kBadAnswer:
      return "bad_answer";
  }
  return "";
}

// Writes down what it hears.
struct User : http::ClientUser {
  void OnAnswerInterim(const http::ReceivedResponse& response) override {
    story += "interim " + std::to_string(response.status) + "\n";
  }
  void OnAnswerHead(const http::ReceivedResponse& response) override {
    story += "head " + std::to_string(response.status) + "\n";
    if (on_head) on_head(response);
  }
  void OnAnswerBody(std::string_view data) override {
    body += data;
    if (on_body) on_body();
  }
  void OnAnswerPause() override {
    ++pauses;
    if (on_pause) on_pause();
  }
  void OnAnswerEnd(std::span<const http::Header> trailers) override {
    for (const http::Header& trailer : trailers) {
      story.append(trailer.name).append("=").append(trailer.value).append("\n");
    }
    story += "end\n";
    if (on_end) on_end();
  }
  void OnAnswerFailed(const http::ClientError& error) override {
    story.append("failed ").append(NameOf(error.failure));
    if (error.answered) story += " answered";
    if (error.was_used) story += " used";
    if (error.unsent) story += " unsent";
    story += "\n";
    message = error.message;
  }
  void OnRequestDrained() override {
    story += "drained\n";
    if (on_drained) on_drained();
  }
  void OnAnswerReadable() override {
    if (on_readable) on_readable();
  }
  std::string Take() { return std::exchange(story, {}); }

  std::string story;
  std::string body;
  std::string message;
  int pauses = 0;
  std::function<void(const http::ReceivedResponse&)> on_head;
  std::function<void()> on_body, on_pause, on_end, on_drained, on_readable;
};

struct Fixture : http::ClientConnection::Owner {
  explicit Fixture(const http::ClientOptions& options = {}) : context(clock, options) {
    clock.Advance(1s);
    connection = std::make_unique<http::ClientConnection>(context, *this, peer.Connect());
  }

  void Begin(Method method = Method::kGet, BodyFraming framing = BodyFraming::kNone,
             const std::string& head = kHead) {
    connection->head() += head;
    connection->Begin(user, method, framing);
    Run();
  }
  // Until nothing happens any more without time passing.
  void Run() {
    for (;;) {
      peer.Run();
      CHECK_FALSE(peer.spun());
      if (!connection->scheduled) return;
      connection->scheduled = false;
      connection->OnTurn();
    }
  }
  std::string Answer(std::string_view text) {
    peer.Send(text);
    Run();
    return user.Take();
  }
  void Advance(Milliseconds by) {
    clock.Advance(by);
    Run();
  }
  // One request and its answer.
  void Use() {
    Begin();
    REQUIRE(Answer(kEmpty) == "head 200\nend\n");
    peer.TakeReceived();
  }

  void Schedule(http::ClientConnection& one) override { one.scheduled = true; }
  void OnIdle(http::ClientConnection&) override { ++idle; }
  void OnClosed(http::ClientConnection&) override { ++closed; }

  test::FakeClock clock;
  http::ClientContext context;
  User user;
  test::FakePeer peer;
  std::unique_ptr<http::ClientConnection> connection;
  int idle = 0;
  int closed = 0;
};

}  // namespace

TEST_CASE("a request goes out, its answer comes back, and the connection can be used again") {
  Fixture f;
  f.Begin();
  CHECK(f.peer.TakeReceived() == kHead + "\r\n");
  CHECK(f.Answer(WithLength("hello")) == "head 200\nend\n");
  CHECK(f.user.body == "hello");
  CHECK(f.connection->idle());
  CHECK(f.idle == 1);
  f.Begin();
  CHECK(f.peer.TakeReceived() == kHead + "\r\n");
  CHECK(f.Answer(kOk + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: u\r\n\r\n") ==
        "head 200\nT=u\nend\n");
  CHECK(f.user.body == "helloabc");
  CHECK(f.idle == 2);
  CHECK(f.closed == 0);
}

TEST_CASE("a body goes out as it is told to") {
  Fixture f;
  SUBCASE("by length") {
    f.Begin(Method::kPost, BodyFraming::kLength, "POST / HTTP/1.1\r\nContent-Length: 5\r\n");
    CHECK(f.connection->Write("he"));
    CHECK(f.connection->Write(""));
    CHECK(f.connection->Write("llo"));
    f.connection->End();
    f.Run();
    CHECK(f.peer.received() == "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello");
  }
  SUBCASE("in chunks") {
    f.Begin(Method::kPost, BodyFraming::kChunked, "POST / HTTP/1.1\r\n");
    CHECK(f.connection->Write("he"));
    CHECK(f.connection->Write(""));  // would be the last
    const http::Header trailer{"T", "u"};
    f.connection->End({&trailer, 1});
    f.Run();
    CHECK(f.peer.received() == "POST / HTTP/1.1\r\n\r\n2\r\nhe\r\n0\r\nT: u\r\n\r\n");
  }
  CHECK(f.Answer(kEmpty) == "head 200\nend\n");
  CHECK(f.connection->idle());
}

TEST_CASE("however the answer comes in, it is the same") {
  const std::string answer = "HTTP/1.1 103 X\r\n\r\n" + kOk +
                             "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nT: u\r\n\r\n";
  for (unsigned seed = 0; seed < 20; ++seed) {
    Fixture f;
    std::minstd_rand random(seed);
    f.Begin();
    for (size_t at = 0; at < answer.size();) {
      const size_t size = seed == 0 ? 1 : 1 + random() % 20;
      f.peer.Send(answer.substr(at, size));
      f.Run();
      at += size;
    }
    CHECK(f.user.story == "interim 103\nhead 200\nT=u\nend\n");
    CHECK(f.user.body == "hello");
    CHECK(f.connection->idle());
  }
}

TEST_CASE("interim answers are told of, but for 100, and too many are not an answer") {
  Fixture f;
  f.Begin();
  CHECK(f.Answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n") ==
        "interim 103\n");
  SUBCASE("then the answer") { CHECK(f.Answer(kEmpty) == "head 200\nend\n"); }
  SUBCASE("a flood of them") {
    std::string flood;
    for (int i = 0; i < 200; ++i) flood += "HTTP/1.1 102 Processing\r\n\r\n";
    CHECK(f.Answer(flood).ends_with("failed bad_answer answered\n"));
    CHECK(f.peer.closed());
  }
}

TEST_CASE("a connection is not used again after anything that makes its state doubtful") {
  Fixture f;
  SUBCASE("the server closes it") {
    f.Begin();
    CHECK(f.Answer(WithLength("a", "Connection: close\r\n")) == "head 200\nend\n");
    CHECK_FALSE(f.peer.reset());
  }
  SUBCASE("the body ended with it") {
    f.Begin();
    CHECK(f.Answer(kOk + "\r\nall") == "head 200\n");
    f.peer.ShutdownWrite();
    f.Run();
    CHECK(f.user.Take() == "end\n");
    CHECK(f.user.body == "all");
  }
  SUBCASE("the server said more than it was asked") {
    f.Begin();
    CHECK(f.Answer(WithLength("a") + "HTTP") == "head 200\nend\n");
  }
  SUBCASE("the request was not over") {
    f.Begin(Method::kPost, BodyFraming::kLength);
    CHECK(f.connection->Write("a"));
    CHECK(f.Answer(kEmpty) == "head 200\nend\n");
    CHECK(f.peer.reset());  // the server must not take what came for all
  }
  CHECK(f.connection->closed());
  CHECK(f.peer.closed());
  CHECK(f.idle == 0);
  CHECK(f.closed == 1);
}

TEST_CASE("an idle connection that says anything, or ends, is closed at once") {
  Fixture f;
  f.Use();
  SUBCASE("says something") { f.peer.Send("HTTP/1.1 408 Request Timeout\r\n\r\n"); }
  SUBCASE("ends") { f.peer.ShutdownWrite(); }
  SUBCASE("breaks") { f.peer.Break(); }
  f.Run();
  CHECK(f.connection->closed());
  CHECK(f.closed == 1);
  CHECK(f.user.Take() == "");
}

TEST_CASE("an idle connection is closed in time, later where the server promises to keep it") {
  http::ClientOptions options;
  options.pool_timeout = 1500ms;
  Fixture f(options);
  f.Begin();
  SUBCASE("nothing promised") {
    f.Answer(kEmpty);
    f.Advance(1499ms);
    CHECK(f.connection->idle());
    f.Advance(1ms);
  }
  SUBCASE("too little promised") {
    f.Answer(kOk + "Keep-Alive: timeout=2\r\nContent-Length: 0\r\n\r\n");
    f.Advance(1500ms);
  }
  SUBCASE("five seconds") {
    f.Answer(kOk + "Keep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n");
    f.Advance(3999ms);
    CHECK(f.connection->idle());
    f.Advance(1ms);
  }
  CHECK(f.connection->closed());
  CHECK_FALSE(f.peer.reset());
  CHECK(f.clock.pending() == 0);
}

TEST_CASE("a failure tells what a second try depends on") {
  Fixture f;
  SUBCASE("a new connection that breaks before it stands") {
    f.peer.TakeOnly(0);
    f.Begin();
    f.peer.Break(ECONNREFUSED);
    f.Run();
    CHECK(f.user.Take() == "failed connect unsent\n");
    CHECK(f.user.message == "Broken pipe");
  }
  SUBCASE("a new connection that closes without an answer") {
    f.Begin();
    f.peer.ShutdownWrite();
    f.Run();
    CHECK(f.user.Take() == "failed closed\n");
    CHECK(f.user.message == "the server closed without an answer");
  }
  SUBCASE("one that was used, and closes without an answer") {
    f.Use();
    f.Begin();
    f.peer.ShutdownWrite();
    f.Run();
    CHECK(f.user.Take() == "failed closed used\n");
  }
  SUBCASE("one that was used, and has been closed before the request went out") {
    f.Use();
    f.peer.StopListening();
    f.peer.ShutdownWrite();
    f.connection->head() += kHead;
    f.connection->Begin(f.user, Method::kGet, BodyFraming::kNone);
    CHECK(f.user.story == "");  // never from inside a call
    f.Run();
    CHECK(f.user.Take() == "failed closed used unsent\n");
  }
  SUBCASE("one that was used, and is reset in the middle of the request") {
    f.Use();
    f.peer.TakeOnly(5);
    f.Begin();
    f.peer.Break();
    f.Run();
    CHECK(f.user.Take() == "failed closed used\n");
  }
  SUBCASE("in the middle of the answer's head") {
    f.Use();
    f.Begin();
    CHECK(f.Answer(kOk.substr(0, 5)) == "");
    f.peer.ShutdownWrite();
    f.Run();
    CHECK(f.user.Take() == "failed closed answered used\n");
  }
  SUBCASE("in the middle of the body") {
    f.Begin();
    CHECK(f.Answer(WithLength("hello").substr(0, 39)) == "head 200\n");
    f.peer.ShutdownWrite();
    f.Run();
    CHECK(f.user.Take() == "failed closed answered\n");
  }
  SUBCASE("what is no HTTP") {
    f.Begin();
    CHECK(f.Answer("SSH-2.0-x\r\n") == "failed bad_answer answered\n");
  }
  SUBCASE("a bad chunk") {
    f.Begin();
    CHECK(f.Answer(kOk + "Transfer-Encoding: chunked\r\n\r\n1\r\nabc") ==
          "head 200\nfailed bad_answer answered\n");
  }
  CHECK(f.connection->closed());
  CHECK(f.peer.closed());
  CHECK(f.closed == 1);
  CHECK(f.clock.pending() == 0);
}

TEST_CASE("every wait has its time, and its name") {
  http::ClientOptions options;
  options.connect_timeout = 5s;
  options.first_byte_timeout = 20s;
  options.idle_timeout = 10s;
  Fixture f(options);
  SUBCASE("the connection") {
    f.peer.TakeOnly(0);
    f.Begin();
    f.Advance(4999ms);
    CHECK(f.user.story == "");
    f.Advance(1ms);
    CHECK(f.user.Take() == "failed connect_timeout unsent\n");
  }
  SUBCASE("the first byte, from the end of the request") {
    f.Begin(Method::kPost, BodyFraming::kLength);
    f.connection->Write("a");
    f.Advance(1h);  // the client's affair
    f.connection->End();
    f.Run();
    f.Advance(19999ms);
    CHECK(f.user.story == "");
    f.Advance(1ms);
    CHECK(f.user.Take() == "failed first_byte_timeout\n");
  }
  SUBCASE("an answer that stops") {
    f.Begin();
    f.Advance(15s);
    CHECK(f.Answer(kOk + "Content-Length: 2\r\n\r\n") == "head 200\n");
    f.Advance(9999ms);
    CHECK(f.Answer("a") == "");
    f.Advance(9999ms);
    CHECK(f.user.story == "");
    f.Advance(1ms);
    CHECK(f.user.Take() == "failed idle_timeout answered\n");
    CHECK(f.user.message == "the server stopped answering");
  }
  SUBCASE("a request that is not taken") {
    f.peer.TakeOnly(10);
    f.Begin();
    f.Advance(9999ms);
    CHECK(f.user.story == "");
    f.Advance(1ms);
    CHECK(f.user.Take() == "failed idle_timeout\n");
    CHECK(f.user.message == "the server stopped reading");
  }
  CHECK(f.peer.closed());
  CHECK(f.clock.pending() == 0);
}

TEST_CASE("neither a user who waits nor a stream of events runs out of time") {
  http::ClientOptions options;
  options.idle_timeout = 10s;
  Fixture f(options);
  f.Begin();
  SUBCASE("the user has paused the answer") {
    f.user.on_head = [&](const auto&) { f.connection->PauseAnswer(); };
    CHECK(f.Answer(kOk + "Content-Length: 2\r\n\r\n") == "head 200\n");
    f.Advance(1h);
    f.connection->ResumeAnswer();
    f.Run();
    f.Advance(9999ms);
    CHECK(f.Answer("ab") == "end\n");
  }
  SUBCASE("silence is allowed") {
    f.user.on_head = [&](const auto&) { f.connection->AllowSilence(); };
    CHECK(f.Answer(kOk + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n") == "head 200\n");
    f.Advance(1h);
    CHECK(f.Answer("0\r\n\r\n") == "end\n");
    // Of this answer only.
    f.user.on_head = nullptr;
    f.Begin();
    CHECK(f.Answer(kOk + "Content-Length: 2\r\n\r\n") == "head 200\n");
    f.Advance(10s);
    CHECK(f.user.Take() == "failed idle_timeout answered used\n");
  }
}

TEST_CASE("a server that reads slowly holds the writer back") {
  Fixture f;
  f.peer.TakeOnly(1000);
  f.Begin(Method::kPost, BodyFraming::kChunked);
  const std::string piece(10'000, 'x');
  int pieces = 0;
  do {
    ++pieces;
    REQUIRE(pieces < 20);
  } while (f.connection->Write(piece));
  CHECK(pieces == 7);  // 64 KiB
  f.Run();
  CHECK(f.user.story == "");
  f.peer.TakeOnly(20'000);
  f.Run();
  CHECK(f.user.story == "");
  f.peer.TakeOnly(kAll);
  f.Run();
  CHECK(f.user.Take() == "drained\n");
  CHECK_FALSE(f.peer.waits_to_write());
  f.connection->End();
  f.Run();
  CHECK(f.peer.received().ends_with("\r\n0\r\n\r\n"));
  CHECK(f.Answer(kEmpty) == "head 200\nend\n");
}

TEST_CASE("a paused answer is not read") {
  Fixture f;
  f.Begin();
  f.user.on_body = [&] { f.connection->PauseAnswer(); };
  CHECK(f.Answer(WithLength(std::string(1000, 'x')).substr(0, 500)) == "head 200\n");
  f.peer.Send(std::string(600, 'x'));
  f.Run();
  CHECK(f.peer.unread() == 600);
  f.user.on_body = nullptr;
  f.connection->ResumeAnswer();
  f.Run();
  CHECK(f.user.body == std::string(1000, 'x'));
  CHECK(f.user.Take() == "end\n");
}

TEST_CASE("the answer of a server that stopped reading is not lost") {
  Fixture f;
  f.Begin(Method::kPost, BodyFraming::kLength);
  SUBCASE("all of it is there") {
    f.peer.Send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
    f.peer.StopListening();
    f.peer.ShutdownWrite();
    CHECK(f.connection->Write(std::string(100'000, 'x')));
    CHECK(f.user.story == "");
    f.Run();
    CHECK(f.user.Take() == "head 413\nend\n");
    CHECK(f.user.body == "no");
    CHECK(f.idle == 0);
  }
  SUBCASE("half of it is there") {
    f.peer.Send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nn");
    f.peer.StopListening();
    f.peer.ShutdownWrite();
    f.connection->Write("x");
    f.Run();
    CHECK(f.user.Take() == "head 413\nfailed closed answered\n");
  }
  SUBCASE("nothing is there") {
    f.peer.StopListening();
    f.connection->Write("x");
    f.Run();
    CHECK(f.user.Take() == "failed closed\n");
  }
  CHECK(f.connection->closed());
}

TEST_CASE("an answer may end before the request does, and writing on does no harm") {
  Fixture f;
  f.Begin(Method::kPost, BodyFraming::kChunked);
  f.user.on_head = [&](const auto&) { f.connection->Write("more"); };
  CHECK(f.Answer(WithLength("early")) == "head 200\nend\n");
  CHECK(f.user.body == "early");
  CHECK(f.connection->closed());
  CHECK(f.connection->Write("more"));
  f.connection->End();
  f.Run();
  CHECK(f.closed == 1);
}

TEST_CASE("an abandoned request is heard of no more, and the server sees that it was cut") {
  Fixture f;
  SUBCASE("while it waits") {
    f.Begin();
    f.connection->Abandon();
    CHECK_FALSE(f.peer.reset());  // the request was whole
  }
  SUBCASE("while it is sent") {
    f.Begin(Method::kPost, BodyFraming::kLength);
    f.connection->Abandon();
    CHECK(f.peer.reset());
  }
  SUBCASE("from inside of its head") {
    f.Begin();
    f.user.on_head = [&](const auto&) { f.connection->Abandon(); };
    CHECK(f.Answer(WithLength("hello")) == "head 200\n");
    CHECK(f.user.body == "");
  }
  SUBCASE("from inside of its body") {
    f.Begin();
    f.user.on_body = [&] { f.connection->Abandon(); };
    CHECK(f.Answer(WithLength("hello")) == "head 200\n");
  }
  f.Run();
  CHECK(f.peer.closed());
  CHECK(f.closed == 1);
  CHECK(f.user.Take() == "");
  CHECK(f.clock.pending() == 0);
}

TEST_CASE("after 101 the connection is the user's, with what came behind the head") {
  Fixture f;
  f.Begin();
  http::DetachedConnection detached;
  f.user.on_head = [&](const http::ReceivedResponse& response) {
    CHECK(response.switches);
    detached = f.connection->TakeOver();
  };
  CHECK(f.Answer("HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x02hi") == "head 101\n");
  CHECK(detached.unread == "\x81\x02hi");
  CHECK(detached.unsent == "");
  REQUIRE(detached.stream);
  CHECK_FALSE(f.peer.closed());
  CHECK(f.connection->closed());
  CHECK(f.closed == 1);
  CHECK(f.clock.pending() == 0);
}

namespace {

// Takes the answer's body through a pipe.
struct Splicing : Fixture {
  Splicing() {
    user.on_pause = [this] {
      if (connection->answer_left() > 0) connection->SpliceAnswer();
    };
    user.on_readable = [this] {
      const event::IoResult result = connection->ReadAnswerInto(*pipe);
      if (result.kind != event::IoResult::Kind::kDone) return;
      if (holds) {
        connection->PauseAnswer();
      } else {
        Empty();
      }
    };
  }
  void Empty() {
    while (!pipe->empty()) {
      char buffer[4096];
      const ssize_t size = ::read(pipe->read_end(), buffer, sizeof buffer);
      REQUIRE(size > 0);
      pipe->Count(-size);
      passed.append(buffer, static_cast<size_t>(size));
    }
  }

  std::unique_ptr<event::Pipe> pipe = *event::Pipe::Open();
  bool holds = false;
  std::string passed;
};

}  // namespace

TEST_CASE("a large answer can pass through a pipe") {
  Splicing f;
  f.Begin();
  CHECK(f.Answer(kOk + "Content-Length: 10000\r\n\r\nab") == "head 200\n");
  CHECK(f.user.body == "ab");
  std::string rest;
  for (int i = 0; i < 9998; ++i) rest += static_cast<char>('a' + i % 26);
  SUBCASE("as it comes") {
    CHECK(f.Answer(rest.substr(0, 5000)) == "");
    CHECK(f.Answer(rest.substr(5000)) == "end\n");
    CHECK(f.passed == rest);
    CHECK(f.connection->idle());
    // The next one is read as usual.
    f.user.on_pause = nullptr;
    f.Begin();
    CHECK(f.Answer(WithLength("hello")) == "head 200\nend\n");
    CHECK(f.user.body == "abhello");
  }
  SUBCASE("and another answer, unasked, is no part of it") {
    CHECK(f.Answer(rest + "HTTP/1.1 200") == "end\n");
    CHECK(f.passed == rest);
    CHECK(f.idle == 0);  // it is not used again
    CHECK(f.connection->closed());
  }
  SUBCASE("where pipes do not work it is read in the usual way") {
    f.peer.RefusePipes();
    CHECK(f.Answer(rest) == "end\n");
    CHECK(f.user.body == "ab" + rest);
  }
  SUBCASE("a server that closes too early is found out") {
    CHECK(f.Answer(rest.substr(0, 5000)) == "");
    f.peer.ShutdownWrite();
    f.Run();
    CHECK(f.user.Take() == "failed closed answered\n");
  }
  SUBCASE("a server that breaks is found out") {
    f.peer.Break();
    f.Run();
    CHECK(f.user.Take() == "failed closed answered\n");
  }
}

TEST_CASE("an answer that is whole in the pipe is whole, whatever the server does after it") {
  Splicing f;
  f.holds = true;
  f.Begin();
  CHECK(f.Answer(kOk + "Connection: close\r\nContent-Length: 1000\r\n\r\n") == "head 200\n");
  CHECK(f.Answer(std::string(1000, 'x')) == "");
  CHECK(f.pipe->size() == 1000);
  f.peer.ShutdownWrite();
  f.Run();
  CHECK(f.user.story == "");
  f.Empty();
  // The end of the connection may be seen first.
  f.connection->ResumeAnswer();
  f.Run();
  CHECK(f.user.Take() == "end\n");
  CHECK(f.passed.size() == 1000);
}

TEST_CASE("only bodies of known length pass through a pipe") {
  Fixture f;
  f.user.on_pause = [&] {
    CHECK(f.connection->answer_left() == 0);
    CHECK_FALSE(f.connection->SpliceAnswer());
  };
  f.Begin();
  SUBCASE("no answer yet") { f.Answer(kOk); }
  SUBCASE("chunks") { f.Answer(kOk + "Transfer-Encoding: chunked\r\n\r\n5\r\nhe"); }
  SUBCASE("until the end") { f.Answer(kOk + "\r\nhe"); }
  CHECK(f.user.pauses == 1);
}

TEST_CASE("a request's body can pass through a pipe, behind what was written before it") {
  Fixture f;
  const auto pipe = *event::Pipe::Open();
  const std::string body(3000, 'b');
  const auto fill = [&] {
    REQUIRE(::write(pipe->write_end(), body.data(), body.size()) ==
            static_cast<ssize_t>(body.size()));
    pipe->Count(static_cast<ptrdiff_t>(body.size()));
  };
  const std::string head = "PUT / HTTP/1.1\r\nContent-Length: 3001\r\n";
  SUBCASE("the server takes it") {
    f.Begin(Method::kPut, BodyFraming::kLength, head);
    f.connection->Write("a");
    CHECK(f.connection->CanSpliceRequest());
    fill();
    f.connection->WriteFrom(*pipe);
    CHECK(pipe->empty());
  }
  SUBCASE("the server is slow") {
    f.Begin(Method::kPut, BodyFraming::kLength, head);
    f.connection->Write("a");
    f.Run();
    f.peer.TakeOnly(1000);
    fill();
    f.connection->WriteFrom(*pipe);
    CHECK(pipe->size() == 2000);
    f.user.on_drained = [&] { f.connection->WriteFrom(*pipe); };
    f.Run();
    CHECK(f.user.Take() == "");
    f.peer.TakeOnly(kAll);
    f.Run();
    CHECK(f.user.Take() == "drained\n");
    CHECK(pipe->empty());
  }
  SUBCASE("the head has not gone out yet") {
    f.peer.TakeOnly(0);
    f.Begin(Method::kPut, BodyFraming::kLength, head);
    f.connection->Write("a");
    CHECK_FALSE(f.connection->CanSpliceRequest());
    fill();
    f.peer.TakeOnly(5);
    f.connection->WriteFrom(*pipe);
    CHECK(pipe->size() == 3000);
    f.user.on_drained = [&] { f.connection->WriteFrom(*pipe); };
    f.Run();
    f.peer.TakeOnly(20);
    f.Run();
    f.peer.TakeOnly(kAll);
    f.Run();
    CHECK(pipe->empty());
  }
  f.connection->End();
  f.Run();
  CHECK(f.peer.received() == head + "\r\na" + body);
  f.user.Take();
  CHECK(f.Answer(kEmpty) == "head 200\nend\n");
  CHECK(f.connection->idle());
}

TEST_CASE("a chunked request does not pass through a pipe") {
  Fixture f;
  f.Begin(Method::kPut, BodyFraming::kChunked);
  f.connection->Write("a");
  CHECK_FALSE(f.connection->CanSpliceRequest());
}

TEST_CASE("a user may begin the next request when it hears of the end of the last") {
  Fixture f;
  User second;
  f.user.on_end = [&] {
    REQUIRE(f.connection->idle());
    f.connection->head() += kHead;
    f.connection->Begin(second, Method::kGet, BodyFraming::kNone);
  };
  f.Begin();
  CHECK(f.Answer(kEmpty) == "head 200\nend\n");
  CHECK(f.peer.TakeReceived() == kHead + "\r\n" + kHead + "\r\n");
  f.Answer(kEmpty);
  CHECK(second.Take() == "head 200\nend\n");
}

#include "agent/event/stream.h"

#include <doctest/doctest.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <functional>
#include <string>

#include "tests/support/tcp_client.h"

using namespace modal;
using event::IoResult;

namespace {

struct Listener : event::StreamListener {
  void OnReady(event::Poller::Ready ready) override {
    ++calls;
    readable = readable || ready.readable;
    writable = writable || ready.writable;
    if (then) then();
  }
  int calls = 0;
  bool readable = false;
  bool writable = false;
  std::function<void()> then;
};

// A stream over TCP, and its other end.
struct Connected {
  Connected()
      : listening(*event::ListenOn(*SocketAddress::Parse("127.0.0.1", 0))),
        client(*event::BoundAddress(listening.get())) {
    // Connected before it is accepted, so there is one.
    UniqueFd fd(::accept4(listening.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    stream = *event::SocketStream::Open(loop, std::move(fd));
    stream->Listen(listener);
  }
  std::string Read() {
    std::array<char, 100> buffer;
    const IoResult result = stream->Read(buffer);
    return std::string(buffer.data(), result.size);
  }

  event::Loop loop;
  UniqueFd listening;
  test::TcpClient client;
  Listener listener;
  std::unique_ptr<event::SocketStream> stream;
};

}  // namespace

TEST_CASE("a stream carries bytes both ways") {
  Connected c;
  std::array<char, 100> buffer;
  CHECK(c.stream->Read(buffer).kind == IoResult::Kind::kAgain);
  c.client.Send("hello");
  c.stream->WaitFor(true, false);
  test::RunUntil(c.loop, [&] { return c.listener.readable; });
  CHECK_FALSE(c.listener.writable);
  CHECK(c.Read() == "hello");
  const IoResult written = c.stream->Write("world");
  CHECK(written.kind == IoResult::Kind::kDone);
  CHECK(written.size == 5);
  test::RunUntil(c.loop, [&] { return c.client.received() == "world"; });
}

TEST_CASE("a stream tells only of what is waited for") {
  Connected c;
  c.client.Send("hello");
  for (int i = 0; i < 3; ++i) c.loop.RunOnce();
  CHECK(c.listener.calls == 0);
  c.stream->WaitFor(false, true);
  test::RunUntil(c.loop, [&] { return c.listener.calls > 0; });
  CHECK(c.listener.writable);
  CHECK_FALSE(c.listener.readable);
  c.stream->WaitFor(false, false);
  c.listener = {};
  for (int i = 0; i < 3; ++i) c.loop.RunOnce();
  CHECK(c.listener.calls == 0);
}

TEST_CASE("what nobody waits for any more does not wake anybody, and is told again when it is") {
  Connected c;
  c.stream->WaitFor(true, false);
  c.loop.RunOnce();
  c.stream->WaitFor(false, false);
  c.client.Send("hello");
  for (int i = 0; i < 3; ++i) c.loop.RunOnce();
  CHECK(c.listener.calls == 0);
  c.stream->WaitFor(true, false);
  test::RunUntil(c.loop, [&] { return c.listener.calls > 0; });
  CHECK(c.Read() == "hello");
}

TEST_CASE("a full stream says so, and tells when there is room") {
  Connected c;
  const std::string piece(100'000, 'x');
  size_t sent = 0;
  IoResult result{};
  while ((result = c.stream->Write(piece)).kind == IoResult::Kind::kDone) sent += result.size;
  CHECK(result.kind == IoResult::Kind::kAgain);
  c.stream->WaitFor(false, true);
  for (int i = 0; i < 3; ++i) c.loop.RunOnce();
  CHECK(c.listener.calls == 0);
  test::RunUntil(c.loop, [&] {
    c.client.received();
    return c.listener.writable;
  });
  c.stream->Close();
  test::RunUntil(c.loop, [&] { return c.client.at_end(); });
  CHECK(c.client.received().size() == sent);
  CHECK_FALSE(c.client.reset());
}

TEST_CASE("either side can be shut alone") {
  Connected c;
  c.stream->ShutdownWrite();
  test::RunUntil(c.loop, [&] { return c.client.at_end(); });
  c.client.Send("hello");
  c.client.ShutdownWrite();
  c.stream->WaitFor(true, false);
  std::string read;
  test::RunUntil(c.loop, [&] {
    read += c.Read();
    return read == "hello";
  });
  std::array<char, 100> buffer;
  CHECK(c.stream->Read(buffer).kind == IoResult::Kind::kEnd);
}

TEST_CASE("a reset stream looks broken at the other end") {
  Connected c;
  c.stream->Write("hello");
  c.stream->Reset();
  test::RunUntil(c.loop, [&] { return c.client.at_end(); });
  CHECK(c.client.reset());
}

TEST_CASE("a broken connection is an error of the next read or write") {
  Connected c;
  c.client.Break();
  c.stream->WaitFor(true, false);
  test::RunUntil(c.loop, [&] { return c.listener.calls > 0; });
  std::array<char, 100> buffer;
  const IoResult read = c.stream->Read(buffer);
  CHECK(read.kind == IoResult::Kind::kError);
  CHECK(read.error == ECONNRESET);
  const IoResult written = c.stream->Write("x");
  CHECK(written.kind == IoResult::Kind::kError);
  CHECK(written.error == EPIPE);
}

TEST_CASE("a stream may be closed or destroyed from its callback, and is silent then") {
  Connected c;
  c.client.Send("hello");
  SUBCASE("closed") {
    c.listener.then = [&] { c.stream->Close(); };
  }
  SUBCASE("destroyed") {
    c.listener.then = [&] { c.stream.reset(); };
  }
  c.stream->WaitFor(true, true);
  test::RunUntil(c.loop, [&] { return c.listener.calls > 0; });
  for (int i = 0; i < 3; ++i) c.loop.RunOnce();
  CHECK(c.listener.calls == 1);
  test::RunUntil(c.loop, [&] { return c.client.at_end(); });
  if (c.stream) {
    c.stream->WaitFor(true, true);
    std::array<char, 100> buffer;
    CHECK(c.stream->Read(buffer).kind == IoResult::Kind::kError);
    CHECK(c.stream->Write("x").kind == IoResult::Kind::kError);
    c.stream->Reset();
  }
}

TEST_CASE("several pieces are written one after the other, as far as there is room") {
  Connected c;
  std::array<std::string_view, 4> pieces{"one ", "", "two ", "three"};
  const IoResult result = c.stream->Write(pieces);
  CHECK(result.kind == IoResult::Kind::kDone);
  CHECK(result.size == 13);
  test::RunUntil(c.loop, [&] { return c.client.received().size() == 13; });
  CHECK(c.client.received() == "one two three");
  // Until it is full, in the middle of a piece or between two.
  const std::string large(1'000'000, 'x');
  const std::string tail = "tail";
  pieces = {large, tail, large, tail};
  size_t sent = 0;
  IoResult last = c.stream->Write(pieces);
  while (last.kind == IoResult::Kind::kDone) {
    sent += last.size;
    last = c.stream->Write(pieces);
  }
  CHECK(last.kind == IoResult::Kind::kAgain);
  CHECK(last.size == 0);
  test::RunUntil(c.loop, [&] { return c.client.received().size() == 13 + sent; });
  // A broken connection is an error.
  c.client.Break();
  do {
    last = c.stream->Write(pieces);
    ::sched_yield();
  } while (last.kind != IoResult::Kind::kError);
  CHECK((last.error == EPIPE || last.error == ECONNRESET));
}

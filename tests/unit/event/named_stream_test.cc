#include "agent/event/named_stream.h"

#include <doctest/doctest.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "agent/base/strings.h"
#include "agent/event/listener.h"
#include "agent/event/uv_clock.h"
#include "tests/support/fake_log.h"
#include "tests/support/run_loop.h"

using namespace modal;
using namespace std::chrono_literals;
using event::Destination;
using event::IoResult;
using event::NamedStream;

namespace {

// Nobody answers, unless the test does.
class SilentServers : public event::NameServers {
 public:
  uint64_t Ask(const std::string&, Family family,
               std::function<void(const event::DnsAnswer&)> on_answer) override {
    open[static_cast<size_t>(family)] = std::move(on_answer);
    return static_cast<uint64_t>(family);
  }
  void Drop(uint64_t question) override { open[question] = nullptr; }
  void SetServers(const std::vector<SocketAddress>&) override {}
  void AnswerBoth(const event::DnsAnswer& answer) {
    for (auto& one : open) std::exchange(one, nullptr)(answer);
  }
  std::array<std::function<void(const event::DnsAnswer&)>, 2> open;
};

struct Connecting : event::StreamListener {
  explicit Connecting(const std::string& hosts = "")
      : resolver(clock, log.log, servers, {hosts, ""}, 60s) {}

  Result<std::unique_ptr<event::Stream>> Open(const std::string& name, uint16_t port,
                                              Milliseconds patience = 60s) {
    return NamedStream::Open(loop, clock, resolver, Destination::OfName(name, port), patience);
  }
  void OnReady(event::Poller::Ready ready) override {
    if (ready.writable) ++writable;
    stream->WaitFor(false, false);
  }
  // As a connection does it: writes, and waits where that does not go.
  IoResult WriteWhenReady() {
    stream->Listen(*this);
    IoResult result = stream->Write("hello");
    while (result.kind == IoResult::Kind::kAgain) {
      const int before = writable;
      stream->WaitFor(false, true);
      REQUIRE(test::RunUntil(loop, [&] { return writable > before; }));
      result = stream->Write("hello");
    }
    return result;
  }

  event::Loop loop;
  event::UvClock clock{loop};
  test::FakeLog log;
  SilentServers servers;
  event::Resolver resolver;
  std::unique_ptr<event::Stream> stream;
  int writable = 0;
};

struct Server {
  explicit Server(const char* address = "127.0.0.1")
      : listener(*event::ListenOn(*SocketAddress::Parse(address, 0))),
        port(event::BoundAddress(listener.get())->port()) {}
  UniqueFd Accept() const {
    UniqueFd peer(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    REQUIRE(static_cast<bool>(peer));
    return peer;
  }
  UniqueFd listener;
  uint16_t port;
};

std::string Received(const UniqueFd& peer, size_t size) {
  std::string text(size, '\0');
  const ssize_t got = ::recv(peer.get(), text.data(), size, MSG_WAITALL);
  return text.substr(0, got < 0 ? 0 : static_cast<size_t>(got));
}

}  // namespace

TEST_CASE("a stream to a name is one to its address") {
  Connecting connecting;
  const Server server;
  connecting.stream = *connecting.Open("localhost", server.port);
  CHECK(connecting.WriteWhenReady().size == 5);
  const UniqueFd peer = server.Accept();
  CHECK(Received(peer, 5) == "hello");
  CHECK(connecting.stream->Trouble().empty());
  REQUIRE(::send(peer.get(), "back", 4, 0) == 4);
  std::array<char, 16> buffer;
  IoResult got{IoResult::Kind::kAgain};
  REQUIRE(test::RunUntil(connecting.loop, [&] {
    got = connecting.stream->Read(buffer);
    return got.kind != IoResult::Kind::kAgain;
  }));
  CHECK(std::string(buffer.data(), got.size) == "back");
  connecting.stream->ShutdownWrite();
  CHECK(Received(peer, 1).empty());
  connecting.stream->Close();
}

TEST_CASE("an address that refuses is no reason to give up while there are others") {
  Connecting connecting("127.0.0.2 app\n127.0.0.3 app\n127.0.0.1 app\n");
  const Server server;
  connecting.stream = *connecting.Open("app", server.port);
  CHECK(connecting.WriteWhenReady().size == 5);
  CHECK(Received(server.Accept(), 5) == "hello");
  // It is tried first from then on.
  struct : event::Resolver::Waiter {
    void OnResolved(const event::Resolver::Answer&) override {}
  } waiter;
  CHECK(connecting.resolver.Find("app", waiter)->addresses.at(0).host() == "127.0.0.1");
}

TEST_CASE("an address that is silent has its share of the time, and no more") {
  Connecting connecting("127.0.0.2 app\n127.0.0.1 app\n");
  // A queue of none that is full: the kernel answers nobody.
  const Server server;
  const UniqueFd deaf(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const SocketAddress at = *SocketAddress::Parse("127.0.0.2", server.port);
  REQUIRE(::bind(deaf.get(), at.get(), at.size()) == 0);
  REQUIRE(::listen(deaf.get(), 0) == 0);
  const UniqueFd in_queue = *event::StartConnect(at);
  connecting.stream = *connecting.Open("app", server.port, 100ms);
  CHECK(connecting.WriteWhenReady().size == 5);
  CHECK(Received(server.Accept(), 5) == "hello");
}

TEST_CASE("where no address takes the connection, the last one's reason is told") {
  Connecting connecting("127.0.0.2 app\n127.0.0.3 app\n");
  const Server server;  // at another address
  const uint16_t port = server.port;
  Result<std::unique_ptr<event::Stream>> opened = connecting.Open("app", port);
  if (!opened) {  // known at once
    CHECK(opened.error().message() == "connect: Connection refused");
    return;
  }
  connecting.stream = *std::move(opened);
  const IoResult result = connecting.WriteWhenReady();
  CHECK(result.kind == IoResult::Kind::kError);
  CHECK(result.error == ECONNREFUSED);
  CHECK(connecting.stream->Trouble().empty());
}

TEST_CASE("while a name is being looked up nothing moves; then it does, or says why not") {
  Connecting connecting;
  const Server server;
  connecting.stream = *connecting.Open("app", server.port);
  connecting.stream->Listen(connecting);
  connecting.stream->WaitFor(false, true);
  CHECK(connecting.stream->Write("x").kind == IoResult::Kind::kAgain);
  CHECK(connecting.stream->Trouble() ==
        "the name 'app' has no address yet: no name server has answered");
  SUBCASE("found") {
    connecting.servers.AnswerBoth(
        {event::DnsAnswer::Kind::kFound, {*SocketAddress::Parse("127.0.0.1", 0)}, 30s});
    CHECK(connecting.WriteWhenReady().size == 5);
    CHECK(Received(server.Accept(), 5) == "hello");
  }
  SUBCASE("unknown") {
    connecting.servers.AnswerBoth({event::DnsAnswer::Kind::kUnknown, {}});
    CHECK(connecting.writable == 0);  // not from inside
    REQUIRE(test::RunUntil(connecting.loop, [&] { return connecting.writable == 1; }));
    CHECK(connecting.stream->Write("x").kind == IoResult::Kind::kError);
    std::array<char, 1> buffer;
    CHECK(connecting.stream->Read(buffer).kind == IoResult::Kind::kError);
    CHECK(connecting.stream->Trouble() == "the name 'app' has no address: no such name is known");
    // What is known is said at once.
    CHECK(connecting.Open("app", server.port).error().message() ==
          "the name 'app' has no address: no such name is known");
  }
  SUBCASE("closed meanwhile") {
    connecting.stream->Close();
    connecting.servers.AnswerBoth({event::DnsAnswer::Kind::kUnknown, {}});
    CHECK(connecting.writable == 0);
  }
  SUBCASE("gone meanwhile") {
    connecting.stream.reset();
    connecting.servers.AnswerBoth({event::DnsAnswer::Kind::kUnknown, {}});
  }
}

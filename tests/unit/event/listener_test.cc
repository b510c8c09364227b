#include "agent/event/listener.h"

#include <doctest/doctest.h>
#include <fcntl.h>

#include <string>
#include <vector>

#include "tests/support/descriptor_limit.h"
#include "tests/support/fake_clock.h"
#include "tests/support/tcp_client.h"

using namespace modal;
using namespace std::chrono_literals;

namespace {

SocketAddress Address(std::string_view text, uint16_t port = 0) {
  return *SocketAddress::Parse(text, port);
}

// Keeps what it is given; has `spare` of them to give away.
struct Owner : event::Acceptor::Owner {
  void OnConnection(UniqueFd fd, const SocketAddress& peer) override {
    taken.push_back(std::move(fd));
    peers.push_back(peer);
  }
  bool MakeRoom() override {
    ++asked;
    if (spare == 0) return false;
    --spare;
    taken.erase(taken.begin());
    return true;
  }
  void Shed(UniqueFd fd) override {
    CHECK(fd);
    ++shed;
  }
  std::vector<UniqueFd> taken;
  std::vector<SocketAddress> peers;
  int spare = 0;
  int asked = 0;
  int shed = 0;
};

// What opens descriptors on first use does it here: the loop for itself, and UBSan, which needs a
// pipe to look at each kind of object that it has not met before.
void Rehearse(event::Loop& loop, test::FakeClock& clock, Owner& owner) {
  UniqueFd listener = *event::ListenOn(Address("127.0.0.1"));
  const SocketAddress address = *event::BoundAddress(listener.get());
  const auto acceptor = *event::Acceptor::Start(loop, clock, std::move(listener), owner);
  test::TcpClient client(address);
  test::RunUntil(loop, [&] { return !owner.taken.empty(); });
  owner.spare = 1;
  owner.MakeRoom();
  owner.Shed(UniqueFd(::dup(client.fd())));
  clock.After(1ms, [] {}).reset();
  owner.asked = owner.shed = 0;
  owner.peers.clear();
}

}  // namespace

TEST_CASE("a listening socket has the port it was given, or one that the kernel chose") {
  const Result<UniqueFd> first = event::ListenOn(Address("127.0.0.1"));
  REQUIRE(first);
  const SocketAddress bound = *event::BoundAddress(first->get());
  CHECK(bound.port() != 0);
  CHECK(bound.host() == "127.0.0.1");
  CHECK((::fcntl(first->get(), F_GETFD) & FD_CLOEXEC) != 0);
  CHECK((::fcntl(first->get(), F_GETFL) & O_NONBLOCK) != 0);

  SUBCASE("a port that is taken is named") {
    const Result<UniqueFd> second = event::ListenOn(Address("127.0.0.1", bound.port()));
    REQUIRE_FALSE(second);
    const std::string port = std::to_string(bound.port());
    CHECK(second.error().message() ==
          "listen on 127.0.0.1:" + port + ": port " + port + " is already taken");
  }
  SUBCASE("a port that has just been in use is free again") {
    test::TcpClient client(bound);
    // Closed on this side first: the connection stays in TIME_WAIT.
    const UniqueFd accepted(::accept4(first->get(), nullptr, nullptr, SOCK_CLOEXEC));
    REQUIRE(accepted);
    UniqueFd(::dup(accepted.get())).Reset();
    ::shutdown(accepted.get(), SHUT_RDWR);
    client.Close();
    *const_cast<Result<UniqueFd>&>(first) = UniqueFd();
    CHECK(event::ListenOn(Address("127.0.0.1", bound.port())));
  }
}

TEST_CASE("an address that is not here is named") {
  // 192.0.2.0/24 is for documentation.
  const Result<UniqueFd> socket = event::ListenOn(Address("192.0.2.1", 8001));
  REQUIRE_FALSE(socket);
  CHECK(socket.error().message() == "listen on 192.0.2.1:8001: no interface here has that address");
}

TEST_CASE("several sockets may share a port if all of them say so") {
  const Result<UniqueFd> first = event::ListenOn(Address("127.0.0.1"), {16, true});
  REQUIRE(first);
  const uint16_t port = event::BoundAddress(first->get())->port();
  CHECK(event::ListenOn(Address("127.0.0.1", port), {16, true}));
  CHECK_FALSE(event::ListenOn(Address("127.0.0.1", port)));
}

TEST_CASE("an acceptor hands over every connection, and who it is from") {
  event::Loop loop;
  test::FakeClock clock;
  Owner owner;
  UniqueFd listener = *event::ListenOn(Address("127.0.0.1"));
  const SocketAddress address = *event::BoundAddress(listener.get());
  const auto acceptor = *event::Acceptor::Start(loop, clock, std::move(listener), owner);
  std::vector<test::TcpClient> clients;
  for (int i = 0; i < 200; ++i) clients.emplace_back(address);
  test::RunUntil(loop, [&] { return owner.taken.size() == 200; });
  const UniqueFd& fd = owner.taken.front();
  CHECK((::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
  CHECK((::fcntl(fd.get(), F_GETFL) & O_NONBLOCK) != 0);
  CHECK(owner.peers.front().ToString() == event::BoundAddress(clients.front().fd())->ToString());
  CHECK(owner.asked == 0);
}

TEST_CASE("an acceptor takes connections of both families on [::]") {
  const Result<UniqueFd> v6 = event::ListenOn(Address("::1"));
  if (!v6) {
    MESSAGE("there is no IPv6 here");
    return;
  }
  event::Loop loop;
  test::FakeClock clock;
  Owner owner;
  UniqueFd listener = *event::ListenOn(Address("::"));
  const uint16_t port = event::BoundAddress(listener.get())->port();
  const auto acceptor = *event::Acceptor::Start(loop, clock, std::move(listener), owner);
  test::TcpClient first(Address("::1", port));
  test::TcpClient second(Address("127.0.0.1", port));
  test::RunUntil(loop, [&] { return owner.taken.size() == 2; });
  CHECK(owner.peers[0].host() == "::1");
  CHECK(owner.peers[1].host() == "127.0.0.1");
}

TEST_CASE("a destroyed acceptor is silent, and its port is free") {
  event::Loop loop;
  test::FakeClock clock;
  Owner owner;
  UniqueFd listener = *event::ListenOn(Address("127.0.0.1"));
  const SocketAddress address = *event::BoundAddress(listener.get());
  auto acceptor = *event::Acceptor::Start(loop, clock, std::move(listener), owner);
  test::TcpClient client(address);
  acceptor.reset();
  loop.RunOnce();
  CHECK(owner.taken.empty());
  CHECK(event::ListenOn(address));
}

TEST_CASE("out of descriptors, an acceptor asks for room") {
  event::Loop loop;
  test::FakeClock clock;
  Owner owner;
  UniqueFd listener = *event::ListenOn(Address("127.0.0.1"));
  const SocketAddress address = *event::BoundAddress(listener.get());
  const auto acceptor = *event::Acceptor::Start(loop, clock, std::move(listener), owner);
  Rehearse(loop, clock, owner);
  std::vector<test::TcpClient> clients;
  for (int i = 0; i < 5; ++i) clients.emplace_back(address);
  const test::DescriptorLimit limit(3);

  SUBCASE("and gets it") {
    owner.spare = 2;
    test::RunUntil(loop, [&] { return owner.peers.size() == 5; });
    CHECK(owner.taken.size() == 3);
    CHECK(owner.shed == 0);
  }
  SUBCASE("and sheds what it cannot keep") {
    test::RunUntil(loop, [&] { return owner.shed == 2; });
    CHECK(owner.taken.size() == 3);
    // The clients that were shed see an end, the others nothing.
    size_t ended = 0;
    for (test::TcpClient& client : clients) ended += client.at_end() ? 1 : 0;
    CHECK(ended == 2);
    loop.RunOnce();
    CHECK(owner.asked == 2);
    CHECK(clock.pending() == 0);
  }
}

TEST_CASE("out of descriptors even for shedding, an acceptor pauses rather than spins") {
  event::Loop loop;
  test::FakeClock clock;
  Owner owner;
  UniqueFd listener = *event::ListenOn(Address("127.0.0.1"));
  const SocketAddress address = *event::BoundAddress(listener.get());
  test::TcpClient client(address);
  Rehearse(loop, clock, owner);
  std::unique_ptr<event::Acceptor> acceptor;
  {
    // Its reserve is a descriptor that it does not get here, but the watch needs none.
    const test::DescriptorLimit limit;
    acceptor = *event::Acceptor::Start(loop, clock, std::move(listener), owner);
    test::RunUntil(loop, [&] { return owner.asked == 1; });
    CHECK(clock.pending() == 1);
    for (int i = 0; i < 10; ++i) loop.RunOnce();
    CHECK(owner.asked == 1);
    CHECK(owner.shed == 0);
  }
  clock.Advance(100ms);
  test::RunUntil(loop, [&] { return owner.taken.size() == 1; });
  CHECK(clock.pending() == 0);
}

// c-ares, asking a name server that the test plays itself, on the same loop.
#include "agent/event/ares_name_servers.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"
#include "agent/event/poller.h"
#include "agent/event/uv_clock.h"
#include "tests/support/run_loop.h"

using namespace modal;
using event::AresNameServers;
using event::DnsAnswer;
using Family = event::NameServers::Family;
using Kind = DnsAnswer::Kind;
using Texts = std::vector<std::string>;

namespace {

UniqueFd BoundSocket(int type, uint16_t port) {
  UniqueFd fd(::socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const SocketAddress address = *SocketAddress::Parse("127.0.0.1", port);
  if (::bind(fd.get(), address.get(), address.size()) != 0) fd.Reset();
  return fd;
}

SocketAddress AddressOf(const UniqueFd& fd) {
  sockaddr_storage name{};
  socklen_t size = sizeof name;
  REQUIRE(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&name), &size) == 0);
  return SocketAddress::FromSockaddr(reinterpret_cast<sockaddr*>(&name), size);
}

std::string Number(uint32_t value, size_t bytes) {
  std::string text;
  for (size_t i = bytes; i-- > 0;) text += static_cast<char>(value >> (8 * i));
  return text;
}

// An answer to `query`: its header with `flags` and so many records, its question, the records.
std::string Reply(const std::string& query, uint32_t flags,
                  const std::vector<std::string>& records) {
  return query.substr(0, 2) + Number(flags, 2) + Number(1, 2) +
         Number(static_cast<uint32_t>(records.size()), 2) + Number(0, 4) + query.substr(12) +
         Join(records, "");
}

// A record about the name that was asked for.
std::string Record(uint32_t type, uint32_t ttl, const std::string& data) {
  return "\xc0\x0c" + Number(type, 2) + Number(1, 2) + Number(ttl, 4) +
         Number(static_cast<uint32_t>(data.size()), 2) + data;
}

constexpr uint32_t kA = 1;
constexpr uint32_t kAaaa = 28;
constexpr uint32_t kFine = 0x8180;
constexpr uint32_t kTruncated = 0x8380;
constexpr uint32_t kServFail = 0x8182;
constexpr uint32_t kNxDomain = 0x8183;

bool AsksForIpv6(const std::string& query) {
  return static_cast<unsigned char>(query[query.size() - 3]) == kAaaa;
}

// Over UDP, and over TCP at the same port.
class NameServer {
 public:
  explicit NameServer(event::Loop& loop) : loop_(loop) {
    // Of the ports that the kernel chooses for one, somebody may have the other.
    for (int tries = 0; tries < 100 && !tcp_; ++tries) {
      udp_ = BoundSocket(SOCK_DGRAM, 0);
      tcp_ = BoundSocket(SOCK_STREAM, AddressOf(udp_).port());
    }
    REQUIRE(static_cast<bool>(tcp_));
    REQUIRE(::listen(tcp_.get(), 8) == 0);
    udp_poller_ = *event::Poller::Watch(loop, udp_.get(), [this](auto) { OnDatagram(); });
    udp_poller_->WaitFor(true, false);
    tcp_poller_ = *event::Poller::Watch(loop, tcp_.get(), [this](auto) { OnConnection(); });
    tcp_poller_->WaitFor(true, false);
  }

  SocketAddress address() const { return AddressOf(udp_); }
  // Empty: says nothing.
  std::function<std::string(const std::string& query)> answer;
  std::function<std::string(const std::string& query)> answer_tcp;
  int queries = 0;

 private:
  void OnDatagram() {
    std::array<char, 512> buffer;
    sockaddr_storage from{};
    socklen_t size = sizeof from;
    auto* const peer = reinterpret_cast<sockaddr*>(&from);
    const ssize_t got = ::recvfrom(udp_.get(), buffer.data(), buffer.size(), 0, peer, &size);
    if (got <= 12) return;
    ++queries;
    const std::string reply = answer(std::string(buffer.data(), static_cast<size_t>(got)));
    if (!reply.empty()) ::sendto(udp_.get(), reply.data(), reply.size(), 0, peer, size);
  }
  void OnConnection() {
    peer_.reset();
    peer_fd_.Reset(::accept4(tcp_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    peer_ = *event::Poller::Watch(loop_, peer_fd_.get(), [this](auto) { OnQuery(); });
    peer_->WaitFor(true, false);
  }
  // Short enough to come in one piece.
  void OnQuery() {
    std::array<char, 514> buffer;
    const ssize_t got = ::recv(peer_fd_.get(), buffer.data(), buffer.size(), 0);
    peer_->WaitFor(false, false);
    if (got <= 14) return;
    const std::string query(buffer.data() + 2, static_cast<size_t>(got) - 2);
    const std::string reply = answer_tcp(query);
    const std::string framed = Number(static_cast<uint32_t>(reply.size()), 2) + reply;
    REQUIRE(::send(peer_fd_.get(), framed.data(), framed.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(framed.size()));
  }

  event::Loop& loop_;
  UniqueFd udp_, tcp_, peer_fd_;
  std::unique_ptr<event::Poller> peer_;
  std::unique_ptr<event::Poller> udp_poller_, tcp_poller_;
};

struct Asking {
  explicit Asking(int attempts = 2) {
    event::ResolverSettings settings;
    settings.servers = {server.address()};
    settings.timeout = Milliseconds(50);
    settings.attempts = attempts;
    servers = *AresNameServers::Create(loop, clock, settings);
  }
  DnsAnswer Ask(Family family = Family::kIpv4) {
    std::optional<DnsAnswer> heard;
    servers->Ask("app.test", family, [&](const DnsAnswer& answer) { heard = answer; });
    CHECK_FALSE(heard.has_value());  // not from inside
    REQUIRE(test::RunUntil(loop, [&] { return heard.has_value(); }));
    return *heard;
  }

  event::Loop loop;
  event::UvClock clock{loop};
  NameServer server{loop};
  std::unique_ptr<AresNameServers> servers;
};

Texts Addresses(const DnsAnswer& answer) {
  Texts texts;
  for (const SocketAddress& address : answer.addresses) texts.push_back(address.host());
  return texts;
}

}  // namespace

TEST_CASE("a name server is asked for the addresses of a name, and how long they are good") {
  Asking asking;
  asking.server.answer = [](const std::string& query) {
    CHECK(query.substr(12, 10) == std::string("\3app\4test\0", 10));
    if (AsksForIpv6(query)) {
      return Reply(query, kFine,
                   {Record(kAaaa, 7, std::string("\xfd") + std::string(14, '\0') + "\1")});
    }
    return Reply(query, kFine, {Record(kA, 30, "\x0a\1\1\1"), Record(kA, 20, "\x0a\1\1\2")});
  };
  const DnsAnswer v4 = asking.Ask();
  CHECK(v4.kind == Kind::kFound);
  CHECK(Addresses(v4) == Texts{"10.1.1.1", "10.1.1.2"});
  CHECK(v4.ttl == std::chrono::seconds(20));
  const DnsAnswer v6 = asking.Ask(Family::kIpv6);
  CHECK(v6.kind == Kind::kFound);
  CHECK(Addresses(v6) == Texts{"fd00::1"});
  CHECK(v6.ttl == std::chrono::seconds(7));
}

TEST_CASE("an alias is followed, and its life counts") {
  Asking asking;
  asking.server.answer = [](const std::string& query) {
    const std::string other = "\5other\4test" + std::string(1, '\0');
    std::string address = other + Record(kA, 30, "\x0a\1\1\1").substr(2);
    return Reply(query, kFine, {Record(5, 9, other), address});
  };
  const DnsAnswer answer = asking.Ask();
  CHECK(Addresses(answer) == Texts{"10.1.1.1"});
  CHECK(answer.ttl == std::chrono::seconds(9));
}

TEST_CASE("an answer that is cut is asked for again over TCP") {
  Asking asking;
  std::vector<std::string> many;
  for (char i = 1; i <= 60; ++i) many.push_back(Record(kA, 30, std::string("\x0a\1\1") + i));
  asking.server.answer = [](const std::string& query) { return Reply(query, kTruncated, {}); };
  asking.server.answer_tcp = [&](const std::string& query) { return Reply(query, kFine, many); };
  const DnsAnswer answer = asking.Ask();
  CHECK(answer.kind == Kind::kFound);
  CHECK(answer.addresses.size() == 60);
}

TEST_CASE("what went wrong with a question is told apart") {
  Asking asking;
  SUBCASE("no such name") {
    asking.server.answer = [](const std::string& query) { return Reply(query, kNxDomain, {}); };
    CHECK(asking.Ask().kind == Kind::kUnknown);
  }
  SUBCASE("no such address") {
    asking.server.answer = [](const std::string& query) { return Reply(query, kFine, {}); };
    CHECK(asking.Ask().kind == Kind::kUnknown);
  }
  SUBCASE("a server that cannot tell") {
    asking.server.answer = [](const std::string& query) { return Reply(query, kServFail, {}); };
    CHECK(asking.Ask().kind == Kind::kFailed);
  }
  SUBCASE("garbage") {
    asking.server.answer = [](const std::string& query) {
      return Reply(query, kFine, {}).substr(0, 6) + Number(500, 2) + query.substr(8);
    };
    CHECK(asking.Ask().kind == Kind::kFailed);
  }
  SUBCASE("a silent server") {
    asking.server.answer = [](const std::string&) { return std::string(); };
    CHECK(asking.Ask().kind == Kind::kTimedOut);
    CHECK(asking.server.queries == 2);
  }
  SUBCASE("no server") {
    // Of a socket that hears another one only: to all others the kernel says that nobody is there.
    const UniqueFd deaf = BoundSocket(SOCK_DGRAM, 0);
    const UniqueFd other = BoundSocket(SOCK_DGRAM, 0);
    const SocketAddress friend_of_it = AddressOf(other);
    REQUIRE(::connect(deaf.get(), friend_of_it.get(), friend_of_it.size()) == 0);
    asking.servers->SetServers({AddressOf(deaf)});
    CHECK(asking.Ask().kind == Kind::kNoServer);
  }
}

TEST_CASE("of two servers the second is asked when the first is silent, or cannot tell") {
  Asking asking;
  NameServer second(asking.loop);
  asking.servers->SetServers({asking.server.address(), second.address()});
  SUBCASE("silent") {
    asking.server.answer = [](const std::string&) { return std::string(); };
  }
  SUBCASE("cannot tell") {
    asking.server.answer = [](const std::string& query) { return Reply(query, kServFail, {}); };
  }
  second.answer = [](const std::string& query) {
    return Reply(query, kFine, {Record(kA, 30, "\x0a\1\1\1")});
  };
  CHECK(Addresses(asking.Ask()) == Texts{"10.1.1.1"});
}

TEST_CASE("a question that is open is asked again where the servers are now") {
  Asking asking;
  asking.server.answer = [](const std::string&) { return std::string(); };
  NameServer other(asking.loop);
  other.answer = [](const std::string& query) {
    return Reply(query, kFine, {Record(kA, 30, "\x0a\1\1\1")});
  };
  std::optional<DnsAnswer> heard;
  asking.servers->Ask("app.test", Family::kIpv4, [&](const auto& answer) { heard = answer; });
  asking.servers->SetServers({other.address()});
  REQUIRE(test::RunUntil(asking.loop, [&] { return heard.has_value(); }));
  CHECK(Addresses(*heard) == Texts{"10.1.1.1"});
}

TEST_CASE("a question that was dropped is never answered, nor one whose asker has gone") {
  Asking asking;
  asking.server.answer = [](const std::string& query) {
    return Reply(query, kFine, {Record(kA, 30, "\x0a\1\1\1")});
  };
  int heard = 0;
  const uint64_t question =
      asking.servers->Ask("one.test", Family::kIpv4, [&](const auto&) { ++heard; });
  asking.servers->Drop(question);
  asking.Ask();
  asking.servers->Ask("two.test", Family::kIpv4, [&](const auto&) { ++heard; });
  asking.servers.reset();
  const std::unique_ptr<Timer> nothing = asking.clock.After(Milliseconds(1), [] {});
  bool turned = false;
  const std::unique_ptr<Timer> turn = asking.clock.After(Milliseconds(2), [&] { turned = true; });
  REQUIRE(test::RunUntil(asking.loop, [&] { return turned; }));
  CHECK(heard == 0);
}

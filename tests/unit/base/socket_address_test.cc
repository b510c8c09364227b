#include "agent/base/socket_address.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <sys/un.h>

#include <array>

namespace modal {
namespace {

SocketAddress Address(std::string_view text, uint16_t port = 0) {
  const Result<SocketAddress> parsed = SocketAddress::Parse(text, port);
  REQUIRE(parsed);
  return *parsed;
}

TEST_CASE("addresses are numbers, never names") {
  CHECK(Address("127.0.0.1", 80).ToString() == "127.0.0.1:80");
  CHECK(Address("10.0.0.1", 65535).ToString() == "10.0.0.1:65535");
  CHECK(Address("::1", 80).ToString() == "[::1]:80");
  CHECK(Address("[::]", 8001).ToString() == "[::]:8001");
  CHECK(Address("127.0.0.1", 80).port() == 80);
  for (const char* text : {"", "localhost", "127.0.0.1:80", "127.1", "[127.0.0.1]", "::1%lo",
                           "[::1", "1.2.3.4.5", "0x7f.0.0.1", " 127.0.0.1"}) {
    CAPTURE(text);
    const Result<SocketAddress> parsed = SocketAddress::Parse(text, 80);
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().message() == "'" + std::string(text) + "' is not an IPv4 or IPv6 address");
  }
}

TEST_CASE("an IPv4 address that is mapped into IPv6 is shown as IPv4, and known as both") {
  const SocketAddress mapped = Address("::ffff:10.0.0.1", 1);
  CHECK(mapped.ToString() == "10.0.0.1:1");
  CHECK(mapped.host() == "10.0.0.1");
  CHECK(mapped.is_ipv4());
  CHECK(mapped.is_ipv6());
  CHECK_FALSE(mapped == Address("10.0.0.1", 1));
  CHECK(Address("10.0.0.1").is_ipv4());
  CHECK_FALSE(Address("10.0.0.1").is_ipv6());
  CHECK_FALSE(Address("::").is_ipv4());
  CHECK_FALSE(Address("::10.0.0.1").is_ipv4());
}

TEST_CASE("loopback addresses are known as such") {
  for (const char* text : {"127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1"}) {
    CAPTURE(text);
    CHECK(Address(text).is_loopback());
  }
  for (const char* text : {"0.0.0.0", "10.0.0.1", "128.0.0.1", "::", "::127.0.0.1", "::2"}) {
    CAPTURE(text);
    CHECK_FALSE(Address(text).is_loopback());
  }
}

TEST_CASE("addresses that stand for all are known as such") {
  for (const char* text : {"0.0.0.0", "::", "::ffff:0.0.0.0"}) {
    CAPTURE(text);
    CHECK(Address(text).is_any());
  }
  for (const char* text : {"0.0.0.1", "1.0.0.0", "::1", "::ffff:0.0.0.1"}) {
    CAPTURE(text);
    CHECK_FALSE(Address(text).is_any());
  }
}

TEST_CASE("addresses are equal when family, bytes and port are") {
  CHECK(Address("127.0.0.1", 80) == Address("127.0.0.1", 80));
  CHECK_FALSE(Address("127.0.0.1", 80) == Address("127.0.0.1", 81));
  CHECK_FALSE(Address("127.0.0.1", 80) == Address("127.0.0.2", 80));
  CHECK(Address("::1", 80) == Address("[::1]", 80));
  CHECK_FALSE(Address("::1", 80) == Address("::2", 80));
  CHECK(SocketAddress() == SocketAddress());
  CHECK_FALSE(SocketAddress() == Address("0.0.0.0"));
}

TEST_CASE("what the system calls are given comes back as it was") {
  for (const char* text : {"127.0.0.1", "fe80::1", "::ffff:1.2.3.4"}) {
    CAPTURE(text);
    const SocketAddress address = Address(text, 8000);
    CHECK(SocketAddress::FromSockaddr(address.get(), address.size()) == address);
    CHECK(SocketAddress::FromSockaddr(address.get(), address.size() - 1) == SocketAddress());
  }
  const std::array<uint8_t, 16> bytes{0x20, 0x01, 0x0d, 0xb8};
  CHECK(SocketAddress::FromBytes(AF_INET6, bytes.data(), 1) == Address("2001:db8::", 1));
  CHECK(SocketAddress::FromBytes(AF_INET, bytes.data(), 1) == Address("32.1.13.184", 1));
}

TEST_CASE("what is neither IPv4 nor IPv6 is unknown, and nothing in particular") {
  sockaddr_un local{};
  local.sun_family = AF_UNIX;
  for (const SocketAddress& address :
       {SocketAddress(),
        SocketAddress::FromSockaddr(reinterpret_cast<const sockaddr*>(&local), sizeof local)}) {
    CHECK(address.ToString() == "unknown");
    CHECK(address.host() == "unknown");
    CHECK(address.port() == 0);
    CHECK(address.size() == 0);
    CHECK_FALSE(address.is_tcp());
    CHECK_FALSE(address.is_ipv4());
    CHECK_FALSE(address.is_any());
    CHECK_FALSE(address.is_loopback());
  }
}

}  // namespace
}  // namespace modal

#include "agent/base/socket_address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "agent/base/strings.h"

namespace modal {
namespace {

constexpr size_t kMappedPrefix = 12;

}  // namespace

Result<SocketAddress> SocketAddress::Parse(std::string_view address, uint16_t port) {
  std::string text(address);
  if (text.size() > 2 && text.front() == '[' && text.back() == ']') {
    text = text.substr(1, text.size() - 2);
  }
  std::array<uint8_t, sizeof(in6_addr)> bytes;
  for (const int family : {AF_INET, AF_INET6}) {
    if (family == AF_INET && text != address) continue;  // brackets are for IPv6
    if (::inet_pton(family, text.c_str(), bytes.data()) != 1) continue;
    return FromBytes(family, bytes.data(), port);
  }
  return Error(Concat("'", address, "' is not an IPv4 or IPv6 address"));
}

SocketAddress SocketAddress::FromSockaddr(const sockaddr* address, socklen_t size) {
  SocketAddress result;
  if (size < sizeof address->sa_family) return result;
  const bool is_ipv4 = address->sa_family == AF_INET && size >= sizeof(sockaddr_in);
  const bool is_ipv6 = address->sa_family == AF_INET6 && size >= sizeof(sockaddr_in6);
  if (is_ipv4) std::memcpy(&result.address_.v4, address, sizeof(sockaddr_in));
  if (is_ipv6) std::memcpy(&result.address_.v6, address, sizeof(sockaddr_in6));
  return result;
}

SocketAddress SocketAddress::FromBytes(int family, const void* bytes, uint16_t port) {
  SocketAddress result;
  if (family == AF_INET6) {
    result.address_.v6 = {};
    result.address_.v6.sin6_family = AF_INET6;
    result.address_.v6.sin6_port = htons(port);
    std::memcpy(&result.address_.v6.sin6_addr, bytes, sizeof(in6_addr));
  } else {
    result.address_.v4 = {};
    result.address_.v4.sin_family = AF_INET;
    result.address_.v4.sin_port = htons(port);
    std::memcpy(&result.address_.v4.sin_addr, bytes, sizeof(in_addr));
  }
  return result;
}

socklen_t SocketAddress::size() const {
  if (!is_tcp()) return 0;
  return is_ipv6() ? sizeof address_.v6 : sizeof address_.v4;
}

uint16_t SocketAddress::port() const {
  if (!is_tcp()) return 0;
  return ntohs(is_ipv6() ? address_.v6.sin6_port : address_.v4.sin_port);
}

// The four bytes of an IPv4 address, or null.
const uint8_t* SocketAddress::Ipv4Bytes() const {
  if (!is_tcp()) return nullptr;
  if (!is_ipv6()) return reinterpret_cast<const uint8_t*>(&address_.v4.sin_addr);
  const in6_addr& v6 = address_.v6.sin6_addr;
  return IN6_IS_ADDR_V4MAPPED(&v6) ? v6.s6_addr + kMappedPrefix : nullptr;
}

bool SocketAddress::is_any() const {
  if (const uint8_t* v4 = Ipv4Bytes()) {
    return std::all_of(v4, v4 + sizeof(in_addr), [](uint8_t byte) { return byte == 0; });
  }
  return is_ipv6() && IN6_IS_ADDR_UNSPECIFIED(&address_.v6.sin6_addr);
}

bool SocketAddress::is_loopback() const {
  if (const uint8_t* v4 = Ipv4Bytes()) return *v4 == 127;
  return is_ipv6() && IN6_IS_ADDR_LOOPBACK(&address_.v6.sin6_addr);
}

std::string SocketAddress::host() const {
  if (!is_tcp()) return "unknown";
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (const uint8_t* v4 = Ipv4Bytes()) {
    ::inet_ntop(AF_INET, v4, text.data(), text.size());
  } else {
    ::inet_ntop(AF_INET6, &address_.v6.sin6_addr, text.data(), text.size());
  }
  return text.data();
}

std::string SocketAddress::ToString() const {
  if (!is_tcp()) return "unknown";
  return is_ipv4() ? Concat(host(), ":", port()) : Concat("[", host(), "]:", port());
}

bool SocketAddress::operator==(const SocketAddress& other) const {
  if (address_.any.sa_family != other.address_.any.sa_family || port() != other.port())
    return false;
  if (is_ipv6()) return IN6_ARE_ADDR_EQUAL(&address_.v6.sin6_addr, &other.address_.v6.sin6_addr);
  return !is_tcp() || address_.v4.sin_addr.s_addr == other.address_.v4.sin_addr.s_addr;
}

}  // namespace modal

// An IPv4 or IPv6 address with a port. Numeric only: no name is ever looked up.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace modal {

class SocketAddress {
 public:
  SocketAddress() : address_{} {}  // of no family; ToString() is "unknown"

  // "127.0.0.1", "::", "[::1]". Anything else is an error that says so.
  static Result<SocketAddress> Parse(std::string_view address, uint16_t port);
  // Of no family if it is neither AF_INET nor AF_INET6, or cut short.
  static SocketAddress FromSockaddr(const sockaddr* address, socklen_t size);
  // `bytes` in network order: 4 of them for AF_INET, 16 for AF_INET6.
  static SocketAddress FromBytes(int family, const void* bytes, uint16_t port);

  uint16_t port() const;
  bool is_ipv6() const { return address_.any.sa_family == AF_INET6; }
  bool is_tcp() const { return address_.any.sa_family == AF_INET || is_ipv6(); }
  // An IPv4 address, also one that is mapped into IPv6 (::ffff:0.0.0.0/96).
  bool is_ipv4() const { return Ipv4Bytes() != nullptr; }
  bool is_any() const;       // 0.0.0.0, ::, ::ffff:0.0.0.0
  bool is_loopback() const;  // 127.0.0.0/8, ::1, ::ffff:127.0.0.0/104
  // "127.0.0.1:8001", "[::1]:8001"; a mapped IPv4 address is shown as IPv4.
  std::string ToString() const;
  // The address alone: "127.0.0.1", "::1".
  std::string host() const;
  // A mapped address equals no IPv4 address: the kernel tells their sockets apart.
  bool operator==(const SocketAddress& other) const;

  // As the system calls take it.
  const sockaddr* get() const { return &address_.any; }
  socklen_t size() const;

 private:
  const uint8_t* Ipv4Bytes() const;

  union {
    sockaddr any;
    sockaddr_in v4;
    sockaddr_in6 v6;
  } address_;
};

}  // namespace modal

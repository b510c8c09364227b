// Starts a connection without waiting for it.
//
// The socket is non-blocking and close-on-exec; it becomes writable when the outcome is known, and
// ConnectOutcome() then tells it. TCP sockets send at once (TCP_NODELAY) and have their peer's
// life looked after by the kernel (SO_KEEPALIVE).
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/base/socket_address.h"
#include "agent/base/unique_fd.h"

namespace modal::event {

// Whom to connect to: a TCP address, a unix socket, or a port of whoever has a name (NamedStream).
class Destination {
 public:
  Destination(const SocketAddress& address);  // NOLINT: implicit
  // An Error if the path is too long.
  static Result<Destination> OfUnixSocket(std::string_view path);
  static Destination OfName(std::string_view name, uint16_t port);

  bool is_tcp() const { return storage_.ss_family != AF_UNIX; }
  // Empty: it has an address.
  const std::string& name() const { return name_; }
  uint16_t port() const { return port_; }  // that goes with the name
  bool operator==(const Destination& other) const;

  // As the system calls take it; not if it is a name.
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t size() const { return size_; }

 private:
  Destination() = default;

  sockaddr_storage storage_{};
  socklen_t size_ = 0;
  std::string name_;
  uint16_t port_ = 0;
};

// `at_once`, if given, is set to whether it is connected already.
Result<UniqueFd> StartConnect(const Destination& address, bool* at_once = nullptr);
// 0, or the errno of what went wrong.
int ConnectOutcome(int fd);

}  // namespace modal::event

// Starts a connection without waiting for it.
//
// The socket is non-blocking and close-on-exec; it becomes writable when the outcome is known, and
// ConnectOutcome() then tells it. TCP sockets send at once (TCP_NODELAY) and have their peer's
// life looked after by the kernel (SO_KEEPALIVE).
#pragma once

#include <sys/socket.h>

#include <string_view>

#include "agent/base/result.h"
#include "agent/base/socket_address.h"
#include "agent/base/unique_fd.h"

namespace modal::event {

// Whom to connect to: a TCP address, or a unix socket.
class Destination {
 public:
  Destination(const SocketAddress& address);  // NOLINT: implicit
  // An Error if the path is too long.
  static Result<Destination> OfUnixSocket(std::string_view path);

  bool is_tcp() const { return storage_.ss_family != AF_UNIX; }
  bool operator==(const Destination& other) const;

  // As the system calls take it.
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t size() const { return size_; }

 private:
  Destination() = default;

  sockaddr_storage storage_{};
  socklen_t size_ = 0;
};

// `at_once`, if given, is set to whether it is connected already.
Result<UniqueFd> StartConnect(const Destination& address, bool* at_once = nullptr);
// 0, or the errno of what went wrong.
int ConnectOutcome(int fd);

}  // namespace modal::event

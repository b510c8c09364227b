#include "agent/event/connect.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>

namespace modal::event {

Result<UniqueFd> StartConnect(const SocketAddress& address, bool* at_once) {
  UniqueFd fd(::socket(address.get()->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return Error::FromErrno("socket", errno);
  if (address.is_tcp()) {
    const int on = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ::setsockopt(fd.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  }
  const bool connected = ::connect(fd.get(), address.get(), address.size()) == 0;
  if (!connected && errno != EINPROGRESS) return Error::FromErrno("connect", errno);
  if (at_once != nullptr) *at_once = connected;
  return fd;
}

int ConnectOutcome(int fd) {
  int code = 0;
  socklen_t size = sizeof code;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size) != 0) return errno;
  return code;
}

}  // namespace modal::event

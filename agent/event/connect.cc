#include "agent/event/connect.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace modal::event {

Destination::Destination(const SocketAddress& address) : size_(address.size()) {
  std::memcpy(&storage_, address.get(), size_);
}

Result<Destination> Destination::OfUnixSocket(std::string_view path) {
  sockaddr_un name{};
  if (path.empty() || path.size() >= sizeof name.sun_path) {
    return Error("the path of a unix socket is empty, or too long");
  }
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, path.data(), path.size());
  Destination destination;
  destination.size_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
  std::memcpy(&destination.storage_, &name, destination.size_);
  return destination;
}

Destination Destination::OfName(std::string_view name, uint16_t port) {
  Destination destination;
  destination.name_ = name;
  destination.port_ = port;
  return destination;
}

bool Destination::operator==(const Destination& other) const {
  return size_ == other.size_ && std::memcmp(&storage_, &other.storage_, size_) == 0 &&
         port_ == other.port_ && name_ == other.name_;
}

Result<UniqueFd> StartConnect(const Destination& address, bool* at_once) {
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

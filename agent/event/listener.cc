#include "agent/event/listener.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "agent/base/strings.h"

namespace modal::event {
namespace {

// What a listening socket has, its connections inherit (on Linux): a system call saved for each.
void PrepareConnections(int listener) {
  const auto set = [listener](int level, int option, int value) {
    (void)::setsockopt(listener, level, option, &value, sizeof value);  // not all are TCP
  };
  // Answers are written whole: waiting for more to send with them only delays them.
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  // A client that has vanished from a quiet connection (a WebSocket) is noticed in two minutes.
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 60);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 15);
  set(IPPROTO_TCP, TCP_KEEPCNT, 4);
}

constexpr int kBatch = 64;  // connections taken before others on the loop have their turn
constexpr Milliseconds kPause{100};

Error ListenError(const SocketAddress& address, int code) {
  const std::string what = Concat("listen on ", address.ToString());
  switch (code) {
    case EADDRINUSE:
      return Error(Concat(what, ": port ", address.port(), " is already taken"));
    case EACCES:
      return Error(Concat(what, ": port ", address.port(),
                          " is privileged, and this process may not bind it"));
    case EADDRNOTAVAIL:
      return Error(Concat(what, ": no interface here has that address"));
    case EAFNOSUPPORT:
      return Error(Concat(what, address.is_ipv6() ? ": there is no IPv6 here"
                                                  : ": there is no such address family here"));
    default:
      return Error::FromErrno(what, code);
  }
}

}  // namespace

Result<SocketAddress> SocketAddress::Parse(std::string_view address, uint16_t port) {
  std::string text(address);
  if (text.size() > 2 && text.front() == '[' && text.back() == ']') {
    text = text.substr(1, text.size() - 2);
  }
  sockaddr_in v4{};
  if (::inet_pton(AF_INET, text.c_str(), &v4.sin_addr) == 1 && text == address) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    return FromSockaddr(reinterpret_cast<const sockaddr*>(&v4), sizeof v4);
  }
  sockaddr_in6 v6{};
  if (::inet_pton(AF_INET6, text.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    return FromSockaddr(reinterpret_cast<const sockaddr*>(&v6), sizeof v6);
  }
  return Error(Concat("'", address, "' is not an IPv4 or IPv6 address"));
}

SocketAddress SocketAddress::FromSockaddr(const sockaddr* address, socklen_t size) {
  SocketAddress result;
  if (size > sizeof result.storage_) return result;
  std::memcpy(&result.storage_, address, size);
  result.size_ = size;
  return result;
}

uint16_t SocketAddress::port() const {
  if (is_ipv6()) return ntohs(reinterpret_cast<const sockaddr_in6*>(&storage_)->sin6_port);
  if (storage_.ss_family != AF_INET) return 0;
  return ntohs(reinterpret_cast<const sockaddr_in*>(&storage_)->sin_port);
}

bool SocketAddress::is_loopback() const {
  if (storage_.ss_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(&storage_);
    return (ntohl(v4->sin_addr.s_addr) >> 24) == 127;
  }
  if (!is_ipv6()) return false;
  const in6_addr& v6 = reinterpret_cast<const sockaddr_in6*>(&storage_)->sin6_addr;
  return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
}

std::string SocketAddress::host() const {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (storage_.ss_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(&storage_);
    ::inet_ntop(AF_INET, &v4->sin_addr, text.data(), text.size());
    return text.data();
  }
  if (!is_ipv6()) return "unknown";
  const in6_addr& v6 = reinterpret_cast<const sockaddr_in6*>(&storage_)->sin6_addr;
  if (IN6_IS_ADDR_V4MAPPED(&v6)) {
    ::inet_ntop(AF_INET, &v6.s6_addr[12], text.data(), text.size());
  } else {
    ::inet_ntop(AF_INET6, &v6, text.data(), text.size());
  }
  return text.data();
}

std::string SocketAddress::ToString() const {
  if (size_ == 0) return "unknown";
  const std::string address = host();
  if (address.find(':') == std::string::npos) return Concat(address, ":", port());
  return Concat("[", address, "]:", port());
}

Result<UniqueFd> ListenOn(const SocketAddress& address, const ListenOptions& options) {
  UniqueFd fd(::socket(address.get()->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return ListenError(address, errno);
  const int on = 1;
  const int off = 0;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (options.reuse_port && ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) {
    return ListenError(address, errno);
  }
  if (address.is_ipv6()) {
    ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  }
  if (::bind(fd.get(), address.get(), address.size()) != 0 ||
      ::listen(fd.get(), options.backlog) != 0) {
    return ListenError(address, errno);
  }
  return fd;
}

Result<SocketAddress> BoundAddress(int fd) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  auto* address = reinterpret_cast<sockaddr*>(&storage);
  if (::getsockname(fd, address, &size) != 0) return Error::FromErrno("getsockname", errno);
  return SocketAddress::FromSockaddr(address, size);
}

Result<std::unique_ptr<Acceptor>> Acceptor::Start(Loop& loop, Clock& clock, UniqueFd listener,
                                                  Owner& owner) {
  // A listener that was inherited may be shared with others, who may accept first.
  if (::fcntl(listener.get(), F_SETFL, ::fcntl(listener.get(), F_GETFL) | O_NONBLOCK) != 0) {
    return Error::FromErrno("accept connections", errno);
  }
  PrepareConnections(listener.get());
  std::unique_ptr<Acceptor> acceptor(new Acceptor(clock, std::move(listener), owner));
  Acceptor* self = acceptor.get();
  Result<std::unique_ptr<Poller>> poller =
      Poller::Watch(loop, acceptor->fd(), [self](Poller::Ready) { self->OnReadable(); });
  if (!poller) return std::move(poller.error()).While("accept connections");
  acceptor->poller_ = *std::move(poller);
  acceptor->poller_->WaitFor(true, false);
  return acceptor;
}

Acceptor::Acceptor(Clock& clock, UniqueFd listener, Owner& owner)
    : clock_(clock),
      listener_(std::move(listener)),
      reserve_(::fcntl(listener_.get(), F_DUPFD_CLOEXEC, 0)),
      owner_(owner) {}

UniqueFd Acceptor::Accept(SocketAddress* peer) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  auto* address = reinterpret_cast<sockaddr*>(&storage);
  UniqueFd fd(::accept4(listener_.get(), address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!fd) return fd;
  *peer = SocketAddress::FromSockaddr(address, size);
  return fd;
}

void Acceptor::OnReadable() {
  bool taken = false;
  for (int i = 0; i < kBatch; ++i) {
    SocketAddress peer;
    UniqueFd fd = Accept(&peer);
    if (fd) {
      owner_.OnConnection(std::move(fd), peer);
      taken = true;
      continue;
    }
    switch (errno) {
      case EAGAIN:
        return;
      case EMFILE:
      case ENFILE:
        switch (AcceptOnReserve()) {
          case OnReserve::kTaken:
            taken = true;
            break;
          case OnReserve::kNobodyWaits:
            return;
          case OnReserve::kFailed:
            return Pause();
        }
        break;
      case ENOBUFS:
      case ENOMEM:
        return Pause();
      case EBADF:
      case EINVAL:
      case ENOTSOCK:
      case EOPNOTSUPP:
        // Not a listening socket (any more): nothing will ever come from it.
        return poller_->WaitFor(false, false);
      default:
        break;  // that connection's own trouble: see accept(2)
    }
  }
  // Nothing but errors: not the connections' own, it seems.
  if (!taken) Pause();
}

// Out of descriptors. The kernel says so before it looks whether anybody waits, so first somebody
// is taken, and then a place is sought.
Acceptor::OnReserve Acceptor::AcceptOnReserve() {
  if (!reserve_) return owner_.MakeRoom() ? OnReserve::kTaken : OnReserve::kFailed;
  reserve_.Reset();
  SocketAddress peer;
  UniqueFd fd = Accept(&peer);
  OnReserve result = OnReserve::kTaken;
  if (!fd) {
    // Without room even for one, others have been faster, or the whole system is out of files.
    const bool nobody_waits = errno == EAGAIN;
    if (nobody_waits || !owner_.MakeRoom()) {
      result = nobody_waits ? OnReserve::kNobodyWaits : OnReserve::kFailed;
    }
  } else if (owner_.MakeRoom()) {
    owner_.OnConnection(std::move(fd), peer);
  } else {
    owner_.Shed(std::move(fd));
  }
  reserve_.Reset(::fcntl(listener_.get(), F_DUPFD_CLOEXEC, 0));
  return result;
}

void Acceptor::Pause() {
  poller_->WaitFor(false, false);
  pause_ = clock_.After(kPause, [this] {
    if (!reserve_) reserve_.Reset(::fcntl(listener_.get(), F_DUPFD_CLOEXEC, 0));
    poller_->WaitFor(true, false);
  });
}

}  // namespace modal::event

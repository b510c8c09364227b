#include "agent/event/listener.h"

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

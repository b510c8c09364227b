// Listening sockets: where to listen, how to get such a socket, and taking connections from it.
//
// Sockets are made in one process and may be served in another: ListenOn() needs no loop, and an
// Acceptor takes any listening descriptor, made here or inherited.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "agent/base/clock.h"
#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/event/loop.h"
#include "agent/event/poller.h"

namespace modal::event {

// An IPv4 or IPv6 address with a port. Numeric only: no name is ever looked up.
class SocketAddress {
 public:
  SocketAddress() = default;  // of no family; ToString() is "unknown"

  // "127.0.0.1", "::", "[::1]". Anything else is an error that says so.
  static Result<SocketAddress> Parse(std::string_view address, uint16_t port);
  static SocketAddress FromSockaddr(const sockaddr* address, socklen_t size);

  uint16_t port() const;
  bool is_ipv6() const { return storage_.ss_family == AF_INET6; }
  bool is_tcp() const { return storage_.ss_family == AF_INET || is_ipv6(); }
  bool is_loopback() const;
  // "127.0.0.1:8001", "[::1]:8001"; an IPv4 client of a dual-stack socket is shown as IPv4.
  std::string ToString() const;
  // The address alone: "127.0.0.1", "::1".
  std::string host() const;

  bool operator==(const SocketAddress& other) const {
    return size_ == other.size_ && std::memcmp(&storage_, &other.storage_, size_) == 0;
  }

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t size() const { return size_; }

 private:
  sockaddr_storage storage_{};
  socklen_t size_ = 0;
};

struct ListenOptions {
  int backlog = 1024;
  bool reuse_port = false;  // several sockets share the port, and the kernel its connections
};

// A non-blocking listening TCP socket, SO_REUSEADDR set; port 0 lets the kernel choose one. "::"
// takes IPv4 too where the kernel has both. Errors name address and cause: "listen on 0.0.0.0:8001:
// port 8001 is already taken".
Result<UniqueFd> ListenOn(const SocketAddress& address, const ListenOptions& options = {});

// Where a socket is bound (which tells the port that the kernel chose).
Result<SocketAddress> BoundAddress(int fd);

// Takes connections from a listening socket, in batches, and hands them over non-blocking and
// close-on-exec.
//
// When the process or the system is out of descriptors a connection is taken on one held in
// reserve; then MakeRoom() is asked to close something, so that it can be kept; if that cannot be,
// it is handed to Shed(), which closes it before it returns. Where not even that is possible
// accepting pauses for a moment. It never spins, and a destroyed Acceptor is silent. No callback
// may destroy it.
class Acceptor {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void OnConnection(UniqueFd fd, const SocketAddress& peer) = 0;
    // Out of descriptors: true if one has been freed.
    virtual bool MakeRoom() = 0;
    // One more than can be served: say so, if it takes no time, and close it.
    virtual void Shed(UniqueFd fd) = 0;
  };

  // `owner`, `loop` and `clock` outlive the Acceptor.
  static Result<std::unique_ptr<Acceptor>> Start(Loop& loop, Clock& clock, UniqueFd listener,
                                                 Owner& owner);

  int fd() const { return listener_.get(); }

 private:
  Acceptor(Clock& clock, UniqueFd listener, Owner& owner);
  void OnReadable();
  UniqueFd Accept(SocketAddress* peer);
  enum class OnReserve { kTaken, kNobodyWaits, kFailed };
  OnReserve AcceptOnReserve();
  void Pause();

  Clock& clock_;
  UniqueFd listener_;
  UniqueFd reserve_;
  Owner& owner_;
  std::unique_ptr<Poller> poller_;  // before listener_ goes
  std::unique_ptr<Timer> pause_;
};

}  // namespace modal::event

// Listening sockets: where to listen, how to get such a socket, and taking connections from it.
//
// Sockets are made in one process and may be served in another: ListenOn() needs no loop, and an
// Acceptor takes any listening descriptor, made here or inherited.
#pragma once

#include <functional>
#include <memory>

#include "agent/base/clock.h"
#include "agent/base/result.h"
#include "agent/base/socket_address.h"
#include "agent/base/unique_fd.h"
#include "agent/event/loop.h"
#include "agent/event/poller.h"

namespace modal::event {

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

// A network namespace of the test's own, with nothing but loopback, for as long as it lives: any
// port is free, and only the test's sockets are in the tables. The calling thread is in it, and
// what it forks. Where that is not permitted, entered() is false and nothing has changed.
#pragma once

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstring>

#include "agent/base/check.h"
#include "agent/base/unique_fd.h"

namespace modal::test {

// In a new network namespace it is down.
inline void BringUpLoopback() {
  const UniqueFd any_socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  MODAL_CHECK(::ioctl(any_socket.get(), SIOCGIFFLAGS, &request) == 0);
  request.ifr_flags |= IFF_UP;
  MODAL_CHECK(::ioctl(any_socket.get(), SIOCSIFFLAGS, &request) == 0);
}

class NetworkNamespace {
 public:
  NetworkNamespace() : outside_(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
    entered_ = outside_ && ::unshare(CLONE_NEWNET) == 0;
    if (entered_) BringUpLoopback();
  }
  ~NetworkNamespace() {
    if (entered_) MODAL_CHECK(::setns(outside_.get(), CLONE_NEWNET) == 0);
  }
  NetworkNamespace(const NetworkNamespace&) = delete;
  NetworkNamespace& operator=(const NetworkNamespace&) = delete;

  bool entered() const { return entered_; }

 private:
  UniqueFd outside_;
  bool entered_ = false;
};

}  // namespace modal::test

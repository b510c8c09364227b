// A plain TCP client on this machine, for tests of servers that live on a Loop in the same thread:
// nothing here waits; RunUntil() turns the loop until what the test wants has happened.
#pragma once

#include <sched.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <string>
#include <string_view>

#include "agent/base/check.h"
#include "agent/base/unique_fd.h"
#include "agent/event/listener.h"
#include "agent/event/loop.h"

namespace modal::test {

template <class Condition>
void RunUntil(event::Loop& loop, const Condition& condition) {
  while (!condition()) {
    loop.RunOnce();
    ::sched_yield();
  }
}

class TcpClient {
 public:
  // The connection stands when this returns: the kernel completes it, accepted or not.
  explicit TcpClient(const SocketAddress& address)
      : fd_(::socket(address.get()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    MODAL_CHECK(fd_);
    MODAL_CHECK(::connect(fd_.get(), address.get(), address.size()) == 0);
  }

  void Send(std::string_view data) {
    while (!data.empty()) {
      const ssize_t size = ::send(fd_.get(), data.data(), data.size(), MSG_NOSIGNAL);
      if (size <= 0) return;
      data.remove_prefix(static_cast<size_t>(size));
    }
  }
  void ShutdownWrite() { ::shutdown(fd_.get(), SHUT_WR); }
  void Close() { fd_.Reset(); }
  // Closes with a reset.
  void Break() {
    const linger now{1, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    fd_.Reset();
  }

  // Everything received so far.
  const std::string& received() {
    Poll();
    return received_;
  }
  bool at_end() {
    Poll();
    return at_end_;
  }
  bool reset() const { return reset_; }
  int fd() const { return fd_.get(); }

 private:
  void Poll() {
    std::array<char, 16 * 1024> buffer;
    while (!at_end_) {
      const ssize_t size = ::recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (size > 0) {
        received_.append(buffer.data(), static_cast<size_t>(size));
        continue;
      }
      if (size < 0 && errno == EAGAIN) return;
      at_end_ = true;
      reset_ = size < 0;
    }
  }

  UniqueFd fd_;
  std::string received_;
  bool at_end_ = false;
  bool reset_ = false;
};

}  // namespace modal::test

// The TCP sockets of this network namespace, as the kernel tells them: no connection is ever made.
//
// Read through sock_diag (netlink(7), NETLINK_SOCK_DIAG) and, where that is not permitted, from
// /proc/net/tcp and /proc/net/tcp6.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/socket_address.h"

namespace modal::health {

struct ListeningSocket {
  SocketAddress local;
  bool v6_only = false;       // IPV6_V6ONLY: [::] then does not take IPv4 (unknown counts as false)
  uint32_t accept_queue = 0;  // connections that nobody has accepted yet
  uint32_t uid = 0;
  uint64_t inode = 0;  // as in /proc/PID/fd: "socket:[inode]"
};

struct Connection {
  SocketAddress local;
  SocketAddress remote;
  uint32_t receive_queue = 0;  // bytes that the server has not read
  uint32_t send_queue = 0;     // bytes that the client has not acknowledged
  uint64_t inode = 0;          // 0: still in the accept queue
  bool half_closed = false;    // the client has sent its FIN (CLOSE_WAIT)
  // Milliseconds since the last data in each direction, and bytes got from the client so far; empty
  // where the kernel does not tell (no sock_diag).
  std::optional<uint32_t> last_sent_ms;
  std::optional<uint32_t> last_received_ms;
  std::optional<uint64_t> bytes_received;
  // Segments with data in each direction so far. They tell who spoke last when both spoke within
  // one tick of the kernel's clock (as much as 10 ms), which is how long the times above are exact.
  std::optional<uint32_t> segments_received;
  std::optional<uint32_t> segments_sent;
};

class SockDiag;
struct TcpSocket;

class SocketTable {
 public:
  virtual ~SocketTable() = default;
  // All TCP listeners, or those on `port` alone (0: all).
  virtual Result<std::vector<ListeningSocket>> Listeners(uint16_t port) = 0;
  // Connections whose local port is `port`, established or half-closed by the client.
  virtual Result<std::vector<Connection>> Connections(uint16_t port) = 0;
};

// The kernel's. Cheap: one netlink socket, opened when it is first needed and kept. Where sock_diag
// is not there or not permitted (seccomp, gVisor, a kernel without it), this is remembered and
// /proc/net/tcp read from then on; that takes longer, and tells less of connections.
class KernelSocketTable : public SocketTable {
 public:
  // `proc`: where procfs is mounted (tests).
  explicit KernelSocketTable(std::string proc = "/proc");
  ~KernelSocketTable() override;
  Result<std::vector<ListeningSocket>> Listeners(uint16_t port) override;
  Result<std::vector<Connection>> Connections(uint16_t port) override;

 private:
  Result<std::vector<TcpSocket>> Read(uint32_t states, uint16_t port);
  Result<std::vector<TcpSocket>> ReadSockDiag(uint32_t states, uint16_t port);
  Result<std::vector<TcpSocket>> ReadProc(uint32_t states, uint16_t port);

  std::string proc_;
  std::unique_ptr<SockDiag> sock_diag_;
  bool sock_diag_works_ = true;  // false: it cannot, here
};

// Which of our processes holds a socket: a look through /proc/PID/fd.
class SocketOwners {
 public:
  virtual ~SocketOwners() = default;
  enum class Answer { kOurs, kForeign, kUnknown };  // kUnknown: /proc is missing or not readable
  // Is the socket held by this process's descendants (or, as process 1, by anybody we can see)?
  virtual Answer OwnerOf(uint64_t inode) = 0;
};

// The real answer. A socket is ours if one of our descendants has it among its descriptors (as
// process 1: any process of this PID namespace), and foreign if none of them has it and all could
// be read, or if we hold it ourselves: it is then the agent's, not the workload's. Unknown if one
// could not be read (another user's, without CAP_SYS_PTRACE) or if /proc is not of our namespace.
//
// It costs a few dozen microseconds a process, so it is asked about one candidate, not every tick.
class ProcSocketOwners : public SocketOwners {
 public:
  explicit ProcSocketOwners(std::string proc = "/proc") : proc_(std::move(proc)) {}
  Answer OwnerOf(uint64_t inode) override;

 private:
  std::string proc_;
};

// For attaching to a server that somebody else started: every listener will do.
class AnySocketOwner : public SocketOwners {
 public:
  Answer OwnerOf(uint64_t) override { return Answer::kOurs; }
};

}  // namespace modal::health

// A TCP socket as a table of the kernel shows it, whichever table that is: what sock_diag and
// /proc/net/tcp have in common, and what only sock_diag tells.
#pragma once

#include <netinet/tcp.h>

#include <cstdint>
#include <optional>

#include "healthcheck/socket_table.h"

namespace modal::health {

// A set of TCP states: 1 << TCP_LISTEN ...
using StateSet = uint32_t;
inline constexpr StateSet kListening = 1U << TCP_LISTEN;
inline constexpr StateSet kConnected = (1U << TCP_ESTABLISHED) | (1U << TCP_CLOSE_WAIT);

struct TcpSocket {
  uint8_t state = 0;  // TCP_LISTEN ...
  SocketAddress local;
  SocketAddress remote;
  uint32_t receive_queue = 0;  // of a listener: connections that nobody has accepted yet
  uint32_t send_queue = 0;
  uint32_t uid = 0;
  uint64_t inode = 0;
  // Known to sock_diag alone; of connections each may be missing on its own (old kernels).
  bool v6_only = false;
  std::optional<uint32_t> last_sent_ms;
  std::optional<uint32_t> last_received_ms;
  std::optional<uint64_t> bytes_received;
  std::optional<uint32_t> segments_received;
  std::optional<uint32_t> segments_sent;
};

}  // namespace modal::health

// TCP sockets over netlink: sock_diag(7).
//
// One request dumps IPv4 and IPv6 together, already filtered by state and local port in the kernel
// (the form TCPDIAG_GETSOCK, which asks for any family; SOCK_DIAG_BY_FAMILY walks the same hash
// table once for each family, and that walk is the whole cost: 64 KiB of buckets on a large
// machine). The answer stands ready when the request returns, so nothing here ever blocks.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "healthcheck/tcp_socket.h"

namespace modal::health {

// What one datagram of a dump said besides sockets.
struct DumpPart {
  bool done = false;         // it was the last
  bool interrupted = false;  // the table changed meanwhile: something may be missing
  int error = 0;             // errno; the dump has ended
};

// Decodes one datagram and appends the sockets in it. Pure. Messages with another sequence number
// (answers to a request that was given up) are skipped, as is whatever does not fit its own length.
DumpPart DecodeDump(std::span<const uint8_t> datagram, uint32_t sequence,
                    std::vector<TcpSocket>& sockets);

class SockDiag {
 public:
  static Result<SockDiag> Open();

  // Sockets in one of `states` whose local port is `port` (0: all). A table that keeps changing
  // under a dump is read again a few times; then the last reading stands. After an Error this
  // object is of no more use.
  Result<std::vector<TcpSocket>> Dump(StateSet states, uint16_t port);

 private:
  explicit SockDiag(UniqueFd netlink);
  Result<DumpPart> DumpOnce(StateSet states, uint16_t port, std::vector<TcpSocket>& sockets);

  UniqueFd netlink_;
  uint32_t sequence_ = 0;
  std::vector<uint8_t> buffer_;
};

}  // namespace modal::health

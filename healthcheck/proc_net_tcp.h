// The text of /proc/net/tcp and /proc/net/tcp6: what is left where sock_diag is not permitted.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "healthcheck/tcp_socket.h"

namespace modal::health {

// The sockets in one of `states` whose local port is `port` (0: all). Pure. Whether a line is of
// IPv4 or IPv6 shows in the length of its addresses; lines that make no sense (the heading, the
// end of a text that was cut off) are skipped.
std::vector<TcpSocket> ParseProcNetTcp(std::string_view text, StateSet states, uint16_t port);

}  // namespace modal::health

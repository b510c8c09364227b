// What supervisor and gateway say to each other: fixed-size messages on a SOCK_SEQPACKET pair.
//
// The supervisor never parses a byte from the network: it asks the gateway to make the HTTP request
// of a health check and gets a number back. Replies are untrusted; whatever is not exactly one
// ProbeReply in size is dropped and counted as a failure. When the channel closes, the gateway
// ends.
#pragma once

#include <cstdint>

namespace modal::health {

// Descriptors that a gateway process starts with (argv: kGatewayArgv0, number of admin listeners).
inline constexpr const char* kGatewayArgv0 = "modal-agent-gateway";
inline constexpr int kGatewayChannelFd = 3;
inline constexpr int kGatewayAgentBoardFd = 4;  // AgentStatus, read-only
inline constexpr int kGatewayOwnBoardFd = 5;    // GatewayStatus, to write
inline constexpr int kGatewayFirstListenerFd = 6;

// One GET of `path` at `address` (numeric) and `port`; healthy is a 2xx or 3xx status.
struct ProbeRequest {
  uint32_t id;
  uint32_t timeout_ms;
  uint16_t port;
  char address[46];  // "127.0.0.1", "::1": INET6_ADDRSTRLEN
  char path[1024];  // NUL-terminated, starts with '/'
};

struct ProbeReply {
  uint32_t id;
  int32_t status;   // of HTTP; 0: there was none, see `error`
  char error[200];  // NUL-terminated: "connect: Connection refused", "no answer within 2000 ms"
};

}  // namespace modal::health

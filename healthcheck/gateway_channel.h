// What supervisor and gateway say to each other: fixed-size messages on a SOCK_SEQPACKET pair.
//
// The supervisor never parses a byte from the network: it asks the gateway to make the HTTP request
// of a health check and gets a number back. Replies are untrusted; whatever is not exactly one
// GatewayReply in size is dropped and counted as a failure. When the channel closes, the gateway
// ends.
#pragma once

#include <cstdint>

namespace modal::health {

// Descriptors that a gateway process starts with. argv: kGatewayArgv0, the number of admin
// listeners, the number of data listeners.
inline constexpr const char* kGatewayArgv0 = "modal-agent-gateway";
inline constexpr int kGatewayChannelFd = 3;
inline constexpr int kGatewayAgentBoardFd = 4;     // AgentStatus, read-only
inline constexpr int kGatewayOwnBoardFd = 5;       // GatewayStatus, to write
inline constexpr int kGatewayConfigFd = 6;         // policy::GatewayConfig in a sealed memfd
inline constexpr int kGatewayAccessLogFd = 7;      // to append to; /dev/null where there is none
inline constexpr int kGatewayFirstListenerFd = 8;  // the admin ones, then the data ones

// How requests on the data plane are to be met.
enum class Carriage : uint32_t {
  kNotYet,    // the server is not ready: held for a while, or refused
  kServing,   // carried
  kDraining,  // new ones are refused, those in flight go on; kDrained is sent once none is left
  kCutting,   // WebSockets are closed with 1001, everything else is cut; then kDrained
};

// To the gateway.
struct GatewayRequest {
  enum class Kind : uint32_t {
    kProbe,     // one GET of `path` at `address` and `port`, within `timeout_ms`
    kCarriage,  // `carriage` from now on; `id` comes back with kDrained
    kConfig,    // with two descriptors (SCM_RIGHTS): a new config memfd, and the access log again
  };
  Kind kind;
  uint32_t id;
  Carriage carriage;
  uint32_t timeout_ms;
  uint16_t port;
  char address[256];  // "127.0.0.1", "::1", or the name of the upstream
  char path[1024];    // NUL-terminated, starts with '/'
};

// From the gateway.
struct GatewayReply {
  enum class Kind : uint32_t {
    kProbe,    // `status` and `error`; healthy is a 2xx or 3xx status
    kDrained,  // nothing is in flight any more, for the kCarriage of this `id`
  };
  Kind kind;
  uint32_t id;
  int32_t status;   // of HTTP; 0: there was none, see `error`
  char error[200];  // NUL-terminated: "connect: Connection refused", "no answer within 2000 ms"
};

}  // namespace modal::health

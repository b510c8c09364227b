// What a gateway is told to do on the data plane: plain bytes, made by the supervisor from flags,
// environment and files, and handed over in a sealed memfd (writer and reader are the same binary).
//
// The memfd holds one GatewayConfig and behind it `token_count` TokenRecords; then, where the
// server has a name, `hosts_size` bytes of /etc/hosts and `resolver_size` of /etc/resolv.conf.
// Times are milliseconds, sizes bytes, and 0 means "off" or "without limit" unless said otherwise.
#pragma once

#include <cstdint>

namespace modal::policy {

// Addresses whose word about their client is believed; IPv4 ones are mapped (::ffff:a.b.c.d).
struct Network {
  uint8_t address[16];
  uint8_t prefix;  // of 128 bits
};

// One line of the tokens file. Neither key nor secret is kept.
struct TokenRecord {
  uint8_t key_sha256[32];
  uint8_t secret_sha256[32];
  char environment[64];  // NUL-terminated; empty: good in every environment
};

enum class AccessLogFormat : uint32_t { kOff, kCommon, kJson };

struct GatewayConfig {
  uint32_t threads;  // at least 1: as many as there are data listeners

  // The server: a numeric address and a port, a name and a port, or else the path of a unix socket.
  char upstream_address[46];
  uint16_t upstream_port;
  char upstream_name[256];  // NUL-terminated; empty: it has an address, or a path
  char upstream_path[108];  // NUL-terminated; empty: TCP

  uint32_t rate_limit;  // requests a second
  uint32_t rate_burst;
  uint32_t max_concurrency;
  uint32_t target_concurrency;  // told to autoscalers, and nothing else
  uint32_t queue;               // how many may wait for a place
  uint32_t queue_timeout_ms;
  uint32_t hold_ms;    // how long a request may wait for the server to be ready
  uint32_t hold_most;  // and how many may

  uint64_t max_header;
  uint64_t max_body;
  uint64_t max_message;  // of a WebSocket

  uint32_t header_timeout_ms;
  uint32_t connect_timeout_ms;
  uint32_t first_byte_timeout_ms;
  uint32_t idle_timeout_ms;
  uint32_t request_timeout_ms;

  uint32_t auth_required;  // 0: no tokens file was given, and everybody is welcome
  uint32_t token_count;
  uint32_t hosts_size;
  uint32_t resolver_size;
  char environment[64];  // ours, for tokens that are good in one only

  uint32_t trusted_count;
  Network trusted[64];

  char upgrades[128];  // protocols that are tunnelled, lower case, comma-separated: "websocket"

  AccessLogFormat access_log;
  uint32_t log_json;         // 1: what we log ourselves is JSON, not text
  uint32_t slow_request_ms;  // requests that took longer are told in the log
  uint32_t server_timing;    // 1: answers tell their times in Server-Timing
};

}  // namespace modal::policy

// What the agent says about itself: the structs on the status boards, and the names in them.
//
// The supervisor publishes AgentStatus; each gateway publishes GatewayStatus. Both are plain bytes
// with a fixed layout within one build (writer and reader are the same binary). Times are
// milliseconds: *_unix_ms since 1970, *_ms since the agent's start (-1: has not happened).
#pragma once

#include <cstdint>
#include <string_view>

#include "agent/base/boot_timeline.h"
#include "agent/policy/traffic.h"

namespace modal::health {

enum class Phase : uint32_t {
  kStartupHooks,
  kRestoring,
  kLaunching,
  kWaitingForPort,
  kServing,
  kCheckpointing,
  kDraining,
  kStopping,
  kStopped,
};
inline constexpr int kPhaseCount = 9;

// "StartupHooks", "WaitingForPort", ...; "Unknown" for a number that is none.
std::string_view PhaseName(Phase phase);

struct AgentStatus {
  char version[32];
  int32_t agent_pid;
  int64_t started_unix_ms;
  int64_t updated_ms;

  Phase phase;
  int64_t entered_ms[kPhaseCount];  // when each phase was entered last
  int64_t spent_ms[kPhaseCount];    // how long that visit lasted; 0 while it does
  int64_t total_ms[kPhaseCount];    // all finished visits together (restarts come by again)
  int64_t ready_ms;                 // when it was ready for the first time
  BootTimeline timeline;            // microseconds since the agent's start
  bool startup_done;                // has been Serving once
  bool ready;                       // takes requests: Serving, and not told to drain
  bool live;                        // false once the workload was found unhealthy
  bool drain_requested;             // `modal-agent drain`

  // Snapshots; empty without --snapshot-dir.
  char origin[16];          // "cold" or "restore": how what serves came to be
  char snapshot_key[40];    // of this container; empty: it has none
  char snapshot_note[512];  // the last thing that is to be known: why it was a cold start, ...
  int64_t restored_ms;      // when the restored tree ran; -1: none was
  char snapshot_pages[8];   // of a restored tree: "eager" or "lazy"
  int64_t pages_in_ms;      // lazy: when all of its memory was in; -1: it is not yet
  int64_t dump_ms;          // how long the tree was disturbed by a dump; -1: by none

  int32_t workload_pid;  // 0: none
  uint32_t restarts;
  char command[256];

  uint16_t port;           // 0: the server is at none
  char listening[128];     // "0.0.0.0:8000", empty while it is not
  char waiting_note[512];  // while it waits: what was found instead

  // The data plane; empty and 0 without.
  char listen[64];     // "0.0.0.0:80"
  char upstream[272];  // "127.0.0.1:8000", "db.internal:80", "unix:/run/app.sock"
  uint32_t max_concurrency;
  uint32_t target_concurrency;

  uint64_t checks;
  uint64_t check_failures;
  uint32_t consecutive_failures;
  uint32_t failure_threshold;
  int64_t last_check_ms;
  char last_failure[256];

  uint32_t hooks_run;
  uint32_t hooks_failed;
  uint64_t orphans_reaped;  // with a keeper also its, until it is left alone for a dump
  uint64_t log_lines_lost;
  uint32_t gateway_restarts;
  uint32_t connections_draining;

  char stop_by[64];  // "SIGTERM from pid 12", "the workload", "health checks", "modal-agent"
  char stop_reason[256];
  int32_t stop_longest_ms;  // the longest that the stop may take
  int32_t exit_code;        // -1 until it is known
};

// A status in which nothing has happened yet.
AgentStatus NewAgentStatus();
// Keeps phase, entered_ms, spent_ms and total_ms in step: the phase that was current ends at
// `now_ms`.
void EnterPhase(AgentStatus& status, Phase phase, int64_t now_ms);

// The connections and requests are those of the admin port.
struct GatewayStatus {
  int32_t pid;
  uint32_t sealed;  // 1: its seccomp filter is installed (0: the kernel has none)
  uint64_t connections_accepted;
  uint64_t connections_refused;  // shed at the limit of open connections or descriptors
  uint64_t connections_timed_out;
  uint32_t connections_open;
  uint64_t requests;
  uint64_t bad_requests;

  uint32_t carries;  // 1: there is a data plane (--listen); the rest is about it
  uint32_t threads;
  policy::TrafficStatus traffic;  // all threads together

  bool operator==(const GatewayStatus&) const = default;
};

}  // namespace modal::health

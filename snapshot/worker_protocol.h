// What the supervisor and a snapshot worker say to each other.
//
// The worker is a process of the agent's own binary that does what may block: reads and writes
// snapshots, and speaks with CRIU. It does one job, told in a sealed memfd (job.h), reports on a
// SOCK_SEQPACKET channel, and ends; when the channel closes, it ends as well. `criu swrk` is
// started by the supervisor, whose child the restored tree thus becomes; the worker holds the other
// end of its socket. Whatever is not exactly one WorkerReport in size is a failure of the worker.
#pragma once

#include <cstdint>

#include "agent/base/boot_timeline.h"

namespace modal::snapshot {

inline constexpr const char* kWorkerArgv0 = "modal-agent-snapshot";
inline constexpr int kWorkerChannelFd = 3;
inline constexpr int kWorkerJobFd = 4;
inline constexpr int kWorkerCriuFd = 5;  // to `criu swrk`; /dev/null: the job needs none

// Descriptors of `criu swrk` itself, which takes kCriuSocketFd as its argument: what stands in for
// the pipes of standard output and standard error, in this order.
inline constexpr int kCriuSocketFd = 3;
inline constexpr int kCriuFirstDescriptorFd = 4;
// Hooks' servers hold pipes of their own, for what is logged. CRIU closes each descriptor that has
// taken a pipe's place: standard error is there so many times.
inline constexpr int kCriuErrorFds = 8;

// To the worker.
struct WorkerRequest {
  enum class Kind : uint32_t {
    kBegin,    // kRestore: the first one. Until it comes there are no processes of a snapshot: what
               // was there before is being noted
    kGoOn,     // kRestore: the place is ready, restore now; `value` 1: with lazy pages, which
               // somebody serves. kDump: the workload is quiet, dump now
    kServed,   // kRestore: the restored tree was ready `value` ms after the agent's start
    kUseless,  // kRestore: it was not, as `text` tells
  };
  Kind kind;
  int64_t value;
  char text[256];
};

// From the worker. Times are milliseconds, -1: unknown.
struct WorkerReport {
  enum class Kind : uint32_t {
    kKey,      // `text`: the key. Or none: `text` empty, `reason` why (snapshots stay off)
    kFound,    // kRestore: there is a snapshot; `value`: bytes of its images; `other` 1: better
               // with lazy pages; `reason`: why these cannot be; waits for kGoOn
    kNothing,  // `reason` why there is nothing to do: the end of the job. kRestore: `value` 1 if
               // there is a snapshot of this key all the same, so that none can be made
    kProven,   // --snapshot create: there is one that has proved itself, as `reason` tells: the end
               // of the job
    kAgain,    // kRestore: what was begun was another key's snapshot, and there is one of ours, or
               // it was ours and has failed before that was known: the end of the job, to be done
               // again with another CRIU and without guessing. `value` 1: there were processes of
               // it, whose pids and ports have to be free before that. kDump: a process has left
               // the workload's tree; to be done again, with the keeper
    kRestored,  // kRestore: `pid` is the root, `other` the workload's own process
    kResumed,   // kDump: frozen for `value` ms, and running again
    kDone,      // the job is done; kDump: published, `value` bytes
    kFailed,    // the job has failed: `reason`; kDump: the workload runs on, but with `value` 1
                // CRIU was gone in the middle, and nobody knows what it has left in the tree
  };
  Kind kind;
  int32_t pid;
  int32_t other;
  int64_t value;
  int64_t cold_ms;  // kRestored: what the cold start had taken
  char text[64];
  char reason[512];
  BootTimeline steps;  // done since the last report, on CLOCK_MONOTONIC
};

inline WorkerReport NewReport(WorkerReport::Kind kind) {
  WorkerReport report{};
  report.kind = kind;
  report.value = -1;
  report.cold_ms = -1;
  return report;
}

}  // namespace modal::snapshot

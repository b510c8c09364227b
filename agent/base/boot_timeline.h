// What a boot has done, step by step, on one clock: plain bytes for status boards and for messages
// between our own processes.
//
// Steps at the top follow each other: Enter() ends the one before. Those with a dot in their names
// are parts of the step that stands in front of it; whoever does them tells them when they are over
// (Add()). The boot ends with kServing, the beginning of which is its last step; what a dump still
// writes then comes after it. Times are microseconds since whatever the owner counts from, and are
// bounded by Add(): the process that tells them need not be trusted.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace modal {

enum class BootStep : uint32_t {
  kHooks,            // startup hooks
  kExec,             // the server is launched
  kPort,             // it runs, until its port is open and it answers
  kRestore,          // until the restored tree runs, or it is known that there will be none
  kRestoreStart,     // our helper and CRIU are started
  kRestoreIdentity,  // the key is made: what image, command and environment this is
  kRestoreFind,      // the snapshot is looked for, and looked at
  kRestorePids,      // there is nothing to restore: a dump that follows needs high ids
  kRestoreFiles,     // files that travel with it are put in their places
  kRestoreCriu,      // CRIU is waited for, if it has not started yet
  kRestoreImages,    // it looks at the kernel, and reads what the tree is to be
  kRestoreMemory,    // it makes the processes, and fills their memory
  kRestoreResume,    // it lets them go
  kDump,             // from readiness until the server runs on
  kDumpWarmup,       // requests of --snapshot-warmup
  kDumpQuiesce,      // nothing of us is in the tree any more, and what is to be dumped is known
  kDumpCriu,         // CRIU starts, and stops the tree
  kDumpFrozen,       // the tree stands still
  kDumpWritten,      // checksums, fsync, and the snapshot can be found
  kLateHooks,        // hooks after a snapshot or restore
  kServing,
};
inline constexpr size_t kBootStepCount = 21;

// "hooks", "restore", "restore.memory", ...; "unknown" for a number that is none.
std::string_view BootStepName(BootStep step);

struct BootSpan {
  BootStep step;
  uint32_t failed;  // 1: it came to nothing
  int64_t begin_us;
  int64_t end_us;  // -1: it is under way
};

class BootTimeline {
 public:
  static constexpr size_t kMost = 32;  // a server that is started again and again fills it

  // The step begins, and the one before it ends. Nothing follows kServing, for which there is
  // always room; what else finds none is left out.
  void Enter(BootStep step, int64_t now_us);
  void End(int64_t now_us);
  // The step that is under way has come to nothing, or a part of it.
  void Fail();
  // A part that is over; one that has failed makes its step a failed one. What lies outside of
  // [0, now_us], or is no part, is cut or left out.
  void Add(const BootSpan& part, int64_t now_us);

  // In the order of their beginnings.
  std::span<const BootSpan> spans() const;

 private:
  BootSpan* Current();
  void Insert(const BootSpan& span);

  uint32_t count_ = 0;
  std::array<BootSpan, kMost> spans_{};
};

}  // namespace modal

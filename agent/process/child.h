// What a child does between fork and exec: the steps in their order, each of which may fail.
//
// The plan is made before the fork. RunChild() runs in the vfork child, in the parent's memory: it
// allocates nothing, takes no lock, calls nothing that keeps state in the C library (raw system
// calls where glibc would tell other threads), and leaves only by execve or _exit. RunCopy() runs
// in the child of a fork, which has its memory to itself.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "agent/process/launcher.h"

namespace modal::process {

enum class Step {
  kNone,  // nothing failed: the program runs
  kSession,
  kDescriptors,
  kLimits,
  kBoundingSet,
  kGroups,
  kGroupId,
  kUserId,
  kCapabilities,
  kWorkdir,
  kNoNewPrivileges,
  kParentDeathSignal,
  kSignals,
  kSeccomp,
  kExec,
};

// Where the child stopped. `index` is the number of the descriptor, limit or candidate.
struct ChildReport {
  Step step = Step::kNone;
  int error = 0;
  int index = 0;
};

struct ChildPlan {
  std::vector<const char*> candidates;  // paths to try in turn, as execvp(3) does
  std::vector<const char*> argv;        // ends with nullptr
  std::vector<const char*> environment;

  SessionMode session = SessionMode::kNewSession;
  std::vector<FdMapping> fds;
  std::vector<ResourceLimit> limits;

  uint64_t bounding_drops = 0;  // capabilities to take from the bounding set
  std::optional<std::vector<gid_t>> groups;
  std::optional<gid_t> gid;
  std::optional<uid_t> uid;
  std::optional<uint64_t> capabilities;  // to hold from now on
  bool inherit_capabilities = false;     // and to keep over the exec of a user who is not root

  const char* workdir = nullptr;
  bool no_new_privileges = false;
  int parent_death_signal = 0;
  pid_t parent = 0;
  const SeccompFilter* seccomp = nullptr;

  // Takes the report where fork and not vfork was used after all (-1: none).
  int report_fd = -1;
};

// `report` is the parent's: shared memory, as long as this was a vfork. The plan is used up.
[[noreturn]] void RunChild(ChildPlan& plan, ChildReport& report);
[[noreturn]] void RunCopy(ChildPlan& plan, Personality personality);

}  // namespace modal::process

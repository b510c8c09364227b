// Looks at a process tree that is about to be dumped: who is in it, how much memory it has, and
// which of its pipes lead out of it. All of it from /proc.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/process/process_table.h"
#include "snapshot/manifest.h"

namespace modal::snapshot {

struct TreeFacts {
  std::vector<DumpedProcess> processes;  // `root` first
  // Pipes that a process of the tree holds and `holder` does too: `fd` is what it is to `holder`, 1
  // or 2, or 2 if it is neither (a pipe through which the output of a hook is logged).
  std::vector<DumpedDescriptor> descriptors;
  std::vector<std::string> sockets;  // absolute paths at which it listens or receives
  std::vector<std::string> files;    // those of what it has open, sorted; folders and devices too
};

// The process to dump with all that is below it: the workload itself where the keeper stands for
// nobody else (no daemon, no hook's server) and the workload leads a session of its own; else the
// keeper. A tree without the keeper is restored sooner, and ends with the workload as any other
// does.
pid_t RootToDump(pid_t keeper, pid_t workload, const std::vector<process::ProcessInfo>& all);

// `holder`: the agent. `uid` and `gid`: whose tree it is (agent/process/file_user.h). An Error:
// there is no /proc, or `root` is gone.
Result<TreeFacts> LookAtTree(pid_t root, pid_t holder, uid_t uid, gid_t gid);

}  // namespace modal::snapshot

// Sees to it that a tree that is to be dumped has process ids that are free in the next container,
// where the agent and its helpers have taken the small ones.
#pragma once

#include <sys/types.h>

#include "agent/base/result.h"

namespace modal::snapshot {

// The first id of a tree that may be dumped.
inline constexpr pid_t kFirstTreePid = 1000;

// From now on new processes of this PID namespace get ids from kFirstTreePid on. Told to the kernel
// (/proc/sys/kernel/ns_last_pid) where that is writable; else by using up the ids below with
// threads that end at once, some 10 microseconds each.
Result<void> RaisePids();

}  // namespace modal::snapshot

// userfaultfd(2): who holds one fills another process's memory as it is touched.
//
// Whoever touches memory that has not come waits. When the last descriptor of it is closed nobody
// waits any more, and what has not come reads as zeroes: it stays open until all of it is in, or
// until the process is dead.
#pragma once

#include <cstdint>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"

namespace modal::snapshot {

// What a holder must be told to follow a process that knows nothing of it: forks, and memory that
// it moves, unmaps or throws away.
uint64_t UserfaultfdEvents();

// Whether all of that is possible here (CAP_SYS_PTRACE, seccomp, a kernel that has it, /proc): the
// features that the kernel has, or why not.
Result<uint64_t> ProbeUserfaultfd();

// Those that were asked for when it was made.
Result<uint64_t> FeaturesOf(int userfaultfd);

// How far it came, and what was in its way; 0: it is all there.
struct Filled {
  uint64_t bytes = 0;
  int error = 0;
};
Filled FillWithCopy(int userfaultfd, uint64_t address, const void* from, uint64_t bytes);
Filled FillWithZeroes(int userfaultfd, uint64_t address, uint64_t bytes);
// Whoever waits there looks again.
void WakeAt(int userfaultfd, uint64_t address, uint64_t bytes);

}  // namespace modal::snapshot

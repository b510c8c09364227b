// Waits for children: for those that were launched and, as process 1 or subreaper, for every orphan
// that the kernel hands to us. The only place in the agent that calls wait.
//
// Collect() is called on each SIGCHLD and takes all that have ended (signals coalesce), looking at
// each zombie first (WNOWAIT), telling its watcher, and reaping it last: until then its pid cannot
// be reused, so signalling its process group is safe. At most kBatch a call, so that a fork storm
// cannot starve the loop; `more` then asks for another turn. `on_collected` runs after each batch
// in which something was reaped.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <unordered_map>

#include "agent/base/exit_status.h"

namespace modal::process {

class Reaper {
 public:
  static constexpr int kBatch = 1024;
  using ExitCallback = std::function<void(ExitStatus)>;

  // True if there may be more to collect: call again on the next turn of the loop.
  bool Collect();

  void Watch(pid_t pid, ExitCallback on_exit);
  void Forget(pid_t pid);

  void set_on_collected(std::function<void()> on_collected) {
    on_collected_ = std::move(on_collected);
  }
  // Whether any child is left (running or zombie) beside the watched pids in `except`. Without
  // /proc orphans cannot be told from those, and while there is one of them only the watched count.
  bool HasChildrenBeside(const std::function<bool(pid_t)>& except) const;
  // The signal by which a child was stopped (^Z is SIGTSTP) since this was asked last.
  std::optional<int> StopSignalOf(pid_t pid) const;
  uint64_t orphans_reaped() const { return orphans_reaped_; }
  // How the orphan that was reaped last had ended; exit code 0 while there was none.
  ExitStatus last_orphan() const { return last_orphan_; }

 private:
  std::unordered_map<pid_t, ExitCallback> watched_;
  std::function<void()> on_collected_;
  uint64_t orphans_reaped_ = 0;
  ExitStatus last_orphan_;
};

// Asks the kernel to hand orphaned descendants to this process (prctl(2) PR_SET_CHILD_SUBREAPER).
// Process 1 needs none.
bool BecomeSubreaper();

}  // namespace modal::process

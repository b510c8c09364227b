// Whether a process tree that stands still could be made again, all but running, without anything
// of the container's files being changed, and without those that travel with the snapshot: what it
// has open, has mapped and works in, from /proc.
//
// CRIU changes files of the container for sockets with a path (it removes what is there), FIFOs,
// files that have no name any more, and locks. Whatever is not known to be harmless counts as such.
#pragma once

#include <sys/types.h>

#include <optional>
#include <set>
#include <string>

#include "snapshot/changed_files.h"

namespace modal::snapshot {

class HeldFiles {
 public:
  // Of `root` and all below it. Nothing: what they hold is not harmless, or cannot be told.
  static std::optional<HeldFiles> Look(pid_t root);

  // Whether one of these is among them. `root`: as in ScanSpec. Folders do not count.
  bool HasOneOf(const std::string& root, const ChangedFiles& changed) const;

 private:
  bool LookAt(pid_t pid);
  bool AddDescriptor(pid_t pid, const std::string& number);
  bool AddMapped(pid_t pid);
  bool HaveSocketsPaths() const;

  std::set<std::string> paths_;    // of regular files
  std::set<std::string> sockets_;  // inodes
};

}  // namespace modal::snapshot

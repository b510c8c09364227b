// Files that a tree has open and that have no name any more, made readable for their owner while it
// is dumped.
//
// Their contents travel with the dump: CRIU opens them with our rights, and so it does what takes
// their place in the restored tree. As a user without CAP_DAC_OVERRIDE it needs a mode for that
// which lets the owner read and write. gunicorn's heartbeat, for one, has modes 0 and 1 in turns.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "agent/base/unique_fd.h"

namespace modal::snapshot {

class UnlinkedFiles {
 public:
  UnlinkedFiles() = default;
  ~UnlinkedFiles() { PutBack(); }
  UnlinkedFiles(const UnlinkedFiles&) = delete;
  UnlinkedFiles& operator=(const UnlinkedFiles&) = delete;

  // Of `root` and all below it, which must stand still. What cannot be changed is passed over: CRIU
  // will say so.
  void Open(pid_t root);
  // Their modes again.
  void PutBack();

 private:
  struct File {
    UniqueFd path;  // O_PATH
    mode_t mode;    // as it was
  };

  void OpenThoseOf(pid_t pid);
  void OpenOne(const std::string& link);

  std::vector<File> files_;
};

}  // namespace modal::snapshot

// While it lives, this thread opens files, and looks at processes, as if it were that user
// (setfsuid(2)). So root without CAP_SYS_PTRACE sees what a user's processes have open, which
// otherwise only that user does. Without the rights to change the user nothing changes.
#pragma once

#include <sys/types.h>

namespace modal::process {

class FileUser {
 public:
  FileUser(uid_t uid, gid_t gid);
  ~FileUser();
  FileUser(const FileUser&) = delete;
  FileUser& operator=(const FileUser&) = delete;

 private:
  uid_t uid_;  // before
  gid_t gid_;
};

}  // namespace modal::process

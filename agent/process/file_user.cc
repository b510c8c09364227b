#include "agent/process/file_user.h"

#include <sys/fsuid.h>

namespace modal::process {

// The group first, and back last: with the user go the rights to change it.
FileUser::FileUser(uid_t uid, gid_t gid) : uid_(0), gid_(static_cast<gid_t>(::setfsgid(gid))) {
  uid_ = static_cast<uid_t>(::setfsuid(uid));
}

FileUser::~FileUser() {
  ::setfsuid(uid_);
  ::setfsgid(gid_);
}

}  // namespace modal::process

// Users and groups by name, read straight from /etc/passwd and /etc/group. NSS is never called: in
// a static program it loads shared objects, and crashes where nsswitch.conf names what it cannot
// load.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "agent/base/result.h"

namespace modal::process {

struct Credentials {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  // supplementary, `gid` among them
  std::string name;           // empty where /etc/passwd has no entry for uid
  std::string home;           // likewise "/"
};

// `user` is NAME, UID, NAME:GROUP or UID:GID (as in an image's USER line); `group`, if not empty,
// overrides the group, and alone it stands for our own user in that group. A group that is given is
// the only one; otherwise those of /etc/group count too. A number needs no entry in the files (its
// group is then ours). `root` is prepended to the paths of the files (tests). Errors: unknown name
// (with the nearest known one), unreadable file, a damaged line (file:line) if it is the one that
// is needed.
Result<Credentials> LookUpUser(const std::string& user, const std::string& group,
                               const std::string& root = "");

}  // namespace modal::process

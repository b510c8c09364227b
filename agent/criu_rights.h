// Whether CRIU may do its work here: it needs CAP_CHECKPOINT_RESTORE and CAP_SETPCAP, be they ours,
// which it inherits, or those of its file (setcap).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace modal {

struct CriuRights {
  std::string criu;  // path of the program
  uid_t uid = 0;     // ours
  uint64_t permitted = 0;
  uint64_t bounding = 0;
  uint64_t of_file = 0;     // what the program's file permits
  bool file_counts = true;  // its file system is not mounted nosuid
  bool no_new_privileges = false;
  bool has_filter = false;    // of seccomp, with which nothing can be dumped
  bool changes_user = false;  // the workload, and with it CRIU, is not to run as we do (--user)
};

// As they are for this process.
CriuRights LookAtCriuRights(const std::string& criu, bool changes_user);

// Empty: it has what it needs. Else one sentence: what is missing, and which option or command
// gives it. Pure.
std::string WhatCriuLacks(const CriuRights& rights);

}  // namespace modal

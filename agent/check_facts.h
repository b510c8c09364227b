// What this container is like, as far as an agent in it is concerned: a look around without a
// lasting trace outside of this process.
//
// LookAround() changes this process itself: it becomes a subreaper, gets no_new_privs and a seccomp
// filter that allows everything. It is for a process that ends soon.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "agent/criu_trial.h"

namespace modal {

struct ContainerFacts {
  std::string kernel;  // "6.1.0-18-amd64"
  pid_t pid = 0;
  std::string process_1;  // the name of process 1; empty: unknown
  bool proc = false;      // /proc is mounted and shows this process
  bool subreaper = false;

  std::string control_path;   // the first place where the control socket could be made
  std::string control_tried;  // where it could not
  bool shell = false;         // /bin/sh is there

  uid_t uid = 0;
  gid_t gid = 0;
  uint64_t capabilities = 0;  // effective
  uint64_t bounding = 0;
  bool no_new_privileges = false;
  int seccomp_mode = -1;     // 0 none, 1 strict, 2 filter, -1 unknown
  std::string filter_error;  // why a seccomp filter cannot be installed; empty: it can

  std::string memfd_error;      // why a sealed memfd cannot be made; empty: it can
  std::string sock_diag_error;  // why sock_diag does not answer; empty: it does
  bool proc_net_tcp = false;
  rlimit open_files{};
  rlimit processes{};
  std::optional<uint64_t> pids_limit;  // of the cgroup
  std::optional<uint64_t> pids_used;

  std::string criu;          // path; empty: there is none
  std::string criu_version;  // "4.1.1", or empty
  std::string criu_error;    // why there is none, or it does not work
  std::string criu_lacks;    // of capabilities (criu_rights.h); empty: nothing
  // What came of a trial (criu_trial.h).
  std::optional<CriuTrial> criu_trial;
  std::string criu_trial_error;  // empty, and no trial: nobody has tried
  bool terminal = false;         // stdin is one
};

struct LookAroundSpec {
  std::string control;     // the chosen control socket, or empty
  std::string criu;        // --criu, or empty
  std::string executable;  // our own binary, for a trial of CRIU; empty: no trial
};
ContainerFacts LookAround(const LookAroundSpec& spec);

// "Version: 4.1.1\nGitID: ..." is "4.1.1"; empty if there is no such line.
std::string CriuVersionIn(const std::string& output);

}  // namespace modal

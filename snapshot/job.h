// What a snapshot worker is told: one job, as JSON in a sealed memfd. Pure: struct to text and
// back.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "snapshot/identity.h"
#include "snapshot/pages_choice.h"

namespace modal::snapshot {

enum class JobKind {
  kRestore,  // find the snapshot of this key and bring it back
  kDump,     // make one, and let the tree go on
  kCreate,   // make one, and end the tree: its restore here is the trial
};

struct Job {
  JobKind kind = JobKind::kRestore;
  std::string folder;    // --snapshot-dir
  std::string work_dir;  // where CRIU keeps its log: an empty folder of this job alone

  // kRestore. The key is made of these and of the image's identity.
  KeyInputs inputs;  // all but `image`
  std::string explicit_key;
  FingerprintSpec fingerprint;
  bool raise_pids = false;  // nothing to restore: see that the workload gets pids from 1000 on
  // Begin with the snapshot that is most likely ours while the image's identity is still being
  // found out (kAgain if it is not).
  bool guesses = true;
  // --snapshot create: one that has proved itself is left alone (kProven), one of which nothing is
  // known yet is restored as its trial, and any other gives way to a new one.
  bool creates = false;
  Pages pages = Pages::kAuto;

  // What an earlier restore job has found, if there was one (kDump and kCreate: there was).
  std::string image_identity;
  // kDump and kCreate: the same, and the tree as it stands.
  std::string key;
  pid_t root = 0;            // of the tree: the keeper
  pid_t workload = 0;        // the server's own process; 0: a hook has started it
  bool with_keeper = false;  // even if there is nobody else below it
  std::string listening;
  int64_t cold_ms = -1;  // as in DumpTimes
  int64_t hooks_ms = -1;
  int64_t since_ns = 0;  // CLOCK_REALTIME of the agent's start: files changed since travel along
  std::vector<std::string> left_out;  // paths that never do
};

Result<UniqueFd> SealJob(const Job& job);
Result<Job> ReadJob(int fd);

}  // namespace modal::snapshot

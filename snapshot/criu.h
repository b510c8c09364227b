// What we ask of CRIU, as an interface: tests give the code above it a Criu of their own, the real
// one is CriuSession. All calls block; they are made by the snapshot worker, never by process 1.
//
// Facts behind the settings (CRIU 4.x, inside a container): --unprivileged needs only
// CAP_CHECKPOINT_RESTORE to dump and also CAP_SETPCAP to restore; established TCP connections are
// closed in the restored tree; cgroups are left alone.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/result.h"

namespace modal::snapshot {

// A descriptor that the dumped tree held and that somebody outside of it held too: a pipe to the
// container's log, say. `id` is CRIU's name for it: "pipe:[1234]", "dev/null", ...
struct ExternalDescriptor {
  std::string id;
  int fd = -1;  // at a restore: what takes its place
};

// Moments of a call, as they come: for the timeline.
enum class CriuMoment {
  kUp,          // it has started, and takes the call
  kFrozen,      // dump: the tree stands still
  kImagesRead,  // restore: it knows what the tree is to be, and makes the first process
  kInPlace,     // restore: processes and their memory are there, and nothing runs yet
};
using OnCriuMoment = std::function<void(CriuMoment)>;

struct DumpSpec {
  std::string images_dir;  // exists and is empty
  std::string work_dir;    // for log and statistics; exists, and is for this call alone
  pid_t root = 0;          // of the tree
  bool leave_running = true;
  // Called when the tree is frozen and nothing of it has been looked at; an Error as below.
  std::function<Result<void>()> when_frozen;
  // Called while the tree is frozen and all memory is on its way to disk: an Error makes the dump
  // fail, and the tree goes on.
  std::function<Result<void>()> while_frozen;
  OnCriuMoment on_moment = nullptr;
};

struct RestoreSpec {
  std::string images_dir;  // nothing is written there
  std::string work_dir;    // as above
  std::vector<ExternalDescriptor> descriptors;
  // Memory comes when it is touched; somebody runs `criu lazy-pages` on the same folder.
  bool lazy = false;
  // Called when CRIU knows what the tree is to be: there is no process of it, and nothing outside
  // of the work folder has been touched. An Error: there will be none. Always called before the one
  // below.
  std::function<Result<void>()> before_processes;
  // Called when everything is in place and nothing runs yet: an Error ends the tree again.
  std::function<Result<void>()> before_running;
  OnCriuMoment on_moment = nullptr;
};

// How long CRIU says that it took, where it says so.
struct CriuTimes {
  Milliseconds frozen{};  // dump: from the freeze to the last page; restore: 0
  uint64_t pages = 0;     // written, or restored; 4 KiB each
};

struct Restored {
  pid_t root = 0;  // alive and running; a child of whoever has started `criu swrk`
  CriuTimes times;
};

class Criu {
 public:
  virtual ~Criu() = default;

  // An Error tells in one line what CRIU has complained about first, from its log; the log stays in
  // `work_dir` as dump.log or restore.log.
  virtual Result<CriuTimes> Dump(const DumpSpec& spec) = 0;
  // Whether CRIU was gone in the middle of the dump, without an answer. It works from inside of the
  // processes that it dumps: they run on, and nobody knows with what in them.
  virtual bool HasLeftTreeSuspect() const = 0;
  virtual Result<Restored> Restore(const RestoreSpec& spec) = 0;
};

}  // namespace modal::snapshot

// What CRIU dumps and restores without a complaint, but not so that a server could go on with it in
// another container:
//
// - A System V semaphore set, message queue or shared memory segment stays behind in the container
//   that is dumped; the server would use ids that mean nothing any more, or another's.
// - An SQLite database on the root, held open: it travels, but as a new file with a new inode
//   number, which SQLite compares before it writes ("attempt to write a readonly database"). With a
//   write-ahead log it does not.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "snapshot/changed_files.h"

namespace modal::snapshot {

struct HazardSpec {
  std::string root = "/";
  int64_t since_ns = 0;  // CLOCK_REALTIME: what is older is not the tree's
};

// `travels`: files that the start has changed; `open`: absolute paths of those that the tree holds
// open. An Error names the first such thing and says what to do.
Result<void> FindHazard(const HazardSpec& spec, const ChangedFiles& travels,
                        const std::vector<std::string>& open);

}  // namespace modal::snapshot

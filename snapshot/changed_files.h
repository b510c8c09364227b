// Files that the start has written to the container's root (a model that a hook downloaded, a pid
// file, a cache): memory that is restored elsewhere expects to find them. They travel along.
//
// Only what lies on the root's own mount counts: volumes (bind mounts of the same file system
// included), tmpfs and pseudo file systems do not. A file is changed when its status changed
// (ctime) at or after `since`; overlayfs gives a new ctime to what it copies up. What this
// process's user may not write does not count: the container's runtime has written it. Nor does
// anything on a root that is mounted read-only. Not noticed: what was deleted, and what lies in a
// folder that was renamed as a whole (overlayfs makes mv(1) copy it, unless it is mounted with
// redirect_dir).
//
// What travels: regular files, folders and symbolic links, with owner, mode and time of change. The
// names of a hard link become files of their own. Holes of a sparse file count as bytes, and are
// holes again when it is put back. Sockets, devices and FIFOs do not travel (CRIU makes sockets
// anew). Extended attributes do not either: a file capability would hand privileges to whoever can
// write to the folder of snapshots.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/result.h"

namespace modal::snapshot {

// In a snapshot's folder.
inline constexpr const char* kCarriedFiles = "files.tar";

inline constexpr uint64_t kMaxCarried = uint64_t{64} << 20;

// ctimes come from a clock that is behind CLOCK_REALTIME by a tick, and by more on a busy machine:
// so much before `since` counts, too. (What the runtime wrote then travels needlessly.)
inline constexpr int64_t kClockSlack = 100'000'000;

struct ChangedFile {
  std::string path;   // below the root, without a leading slash
  uint64_t size = 0;  // of a regular file
};

struct ChangedFiles {
  std::vector<ChangedFile> files;  // folders and links included, parents first
  uint64_t bytes = 0;
};

struct ScanSpec {
  std::string root = "/";
  int64_t since_ns = 0;               // CLOCK_REALTIME
  std::vector<std::string> left_out;  // paths (with all below them) that are never carried: ours
};

// Walks the root; about 1 to 2 microseconds a file. Files and folders that vanish meanwhile are
// passed over, as are folders that cannot be read. An Error: the root cannot be read, or folders
// are nested deeper than any descriptors would last.
Result<ChangedFiles> ScanChangedFiles(const ScanSpec& spec);

// Writes them to `fd` as a tar archive (tar.h); those that are gone since are passed over, and of
// one that grows as much is taken as it had when its turn came. An Error names the file that could
// not be read or that shrank while it was read, or says that they are more than `limit` bytes (with
// the archive's 512 for each) and names the largest.
Result<void> CarryFiles(const ScanSpec& spec, const ChangedFiles& changed, int fd, uint64_t limit);

// Puts them into the root, with owner, mode and times: files and links replace what has their name
// by one rename, folders are merged. Never through a symbolic link, never to another mount than the
// root's, whatever others do there meanwhile. An Error leaves what was put so far.
Result<void> PutBackFiles(const std::string& root, int fd);

}  // namespace modal::snapshot

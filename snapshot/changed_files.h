// Files that the start has written to the container's root (a model that a hook downloaded, a pid
// file, a cache): memory that is restored elsewhere expects to find them. They travel along.
//
// Only what lies on the root's own file system counts: volumes, tmpfs and pseudo file systems do
// not. A file is changed when its status changed (ctime) at or after `since`. Files that were
// deleted are not noticed. Sockets, devices and FIFOs do not travel (CRIU makes sockets anew).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/result.h"

namespace modal::snapshot {

inline constexpr uint64_t kMaxCarried = uint64_t{64} << 20;

struct ChangedFile {
  std::string path;  // below the root, without a leading slash
  uint64_t size = 0;
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

// Walks the root. An Error: it cannot be read.
Result<ChangedFiles> ScanChangedFiles(const ScanSpec& spec);

// Writes them to `fd` as a tar archive (tar.h). An Error names the file that could not be read, or
// says that they are more than `limit` bytes and names the largest.
Result<void> CarryFiles(const ScanSpec& spec, const ChangedFiles& changed, int fd, uint64_t limit);

// Puts them into the root, with owner, mode and times; existing ones are replaced. Never through a
// symbolic link of the archive, never outside of the root. An Error leaves what was put so far.
Result<void> PutBackFiles(const std::string& root, int fd);

}  // namespace modal::snapshot

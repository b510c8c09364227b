// Looking at files without building path names: folders read with getdents64(2), statx(2) relative
// to a folder's descriptor. What both the fingerprint and the search for changed files walk with.
//
// Nothing but folders and regular files is ever opened. Calls return 0 or an errno.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"

namespace modal::snapshot {

struct FileFacts {
  mode_t mode = 0;  // with the type
  uid_t uid = 0;
  gid_t gid = 0;
  uint64_t size = 0;
  int64_t mtime_ns = 0;
  int64_t ctime_ns = 0;
  // Which mount it lies on (two bind mounts of one file system differ). Where the kernel does not
  // tell: of folders the file system, of others 0 (overlayfs has many for its files).
  uint64_t mount = 0;
};

// Of `name` in the folder, itself if it is a link; "": of what `folder` is open on. kLocal: what is
// known here is enough, no server is asked (which may be dead).
enum class Sync { kAsStat, kLocal };
int Look(int folder, const char* name, FileFacts& facts, Sync sync = Sync::kAsStat);

// Whether what lies in a folder is mounted there.
inline bool IsMountedIn(const FileFacts& facts, const FileFacts& folder) {
  return facts.mount != folder.mount && facts.mount != 0;
}

// The names in a folder, without "." and "..", in the order of their bytes.
class Listing {
 public:
  int Read(int folder);  // once
  size_t size() const { return entries_.size(); }
  const char* name(size_t i) const { return names_.data() + entries_[i].offset; }
  unsigned char type(size_t i) const { return entries_[i].type; }  // DT_REG ...
  bool Has(std::string_view name) const;

 private:
  struct Entry {
    size_t offset;
    unsigned char type;
  };
  std::string names_;  // each with its NUL
  std::vector<Entry> entries_;
};

// Both refuse links in the last component. An unset descriptor: `error` says why.
UniqueFd OpenFolder(int at, const char* name, int& error);
UniqueFd OpenFile(int at, const char* name, int& error);  // regular files only

// The target of a link.
std::optional<std::string> LinkTarget(int folder, const char* name);

// Where `path` leads when `root` is "/" and `base` (resolved already) the working folder: a path
// without leading slash and without links, "" for the root itself. Nothing if it leads nowhere:
// errno says why.
std::optional<std::string> Resolve(int root, std::string_view base, std::string_view path);

// For calls that take a path below a descriptor: "" becomes ".".
inline const char* Below(const std::string& path) { return path.empty() ? "." : path.c_str(); }

// Up to `limit` bytes of a regular file; nothing if it cannot be read.
std::optional<std::string> ReadHead(int at, const char* name, size_t limit);

}  // namespace modal::snapshot

// Files and folders by name within a folder that is open: what stands here is one component, never
// a path, and a symbolic link is never followed. So nothing outside of the folder can be meant,
// whatever others put into it meanwhile.
//
// Errors start with the name. Their code() is the errno.
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

Result<UniqueFd> OpenFolderIn(int folder, const std::string& name);
// A regular file, for reading; anything else is an Error.
Result<UniqueFd> OpenFileIn(int folder, const std::string& name);
// A file that was not there, mode 0600, for writing.
Result<UniqueFd> CreateFileIn(int folder, const std::string& name);
// A regular file as a whole; an Error if it is larger than `most`.
Result<std::string> ReadFileIn(int folder, const std::string& name, size_t most);
// A folder that was not there, mode 0700.
Result<void> MakeFolderIn(int folder, const std::string& name);
// A new one named `prefix` and kRandomLength random letters; returns its name.
Result<std::string> MakeRandomFolderIn(int folder, const std::string& prefix);
std::string RandomName(const std::string& prefix);
inline constexpr size_t kRandomLength = 6;

// The names in it, without "." and "..", in no order.
Result<std::vector<std::string>> NamesIn(int folder);

// What has a name there.
enum class Kind { kNothing, kFile, kFolder, kOther };
struct Named {
  Kind kind = Kind::kNothing;
  uint64_t size = 0;
  int64_t changed_unix_ms = 0;  // mtime
};
Result<Named> LookUpIn(int folder, const std::string& name);

// Renames within the folder. An Error with EEXIST if there is a `to` already; where the file system
// cannot promise that (some network ones), an empty folder of that name is replaced.
Result<void> RenameNewIn(int folder, const std::string& from, const std::string& to);
// Replaces `to`.
Result<void> RenameOverIn(int folder, const std::string& from, const std::string& to);
// A file that is not there is as good as removed.
Result<void> RemoveFileIn(int folder, const std::string& name);

// Removes a folder and all in it. What is mounted in there is not entered, and then the folders
// that hold the mount stay; as do those that are nested deeper than anything of ours. The Error is
// the first; everything else is removed all the same.
Result<void> RemoveTreeIn(int folder, const std::string& name);
// How much disk a folder takes, as far as it can be looked at.
uint64_t DiskBytesIn(int folder, const std::string& name);

Result<void> WriteAll(int fd, std::string_view bytes);
// Fills `to` wholly or up to the end of the file.
Result<size_t> ReadFull(int fd, char* to, size_t size);
// To the disk. File systems that cannot sync a folder are taken to do it by themselves.
Result<void> SyncFile(int fd);
Result<void> SyncFolder(int fd);

}  // namespace modal::snapshot

// The files of one snapshot, by the names that its manifest has for them: "NAME" or "FOLDER/NAME".
// Opened one component after the other, no link followed (folder.h).
#pragma once

#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"

namespace modal::snapshot {

class SnapshotFiles {
 public:
  // `folder` is open for as long as this lives.
  explicit SnapshotFiles(int folder) : folder_(folder) {}

  Result<UniqueFd> Open(const std::string& name);
  Result<uint64_t> SizeOf(const std::string& name);  // of a regular file; no other is one
  // With its folder, if it is missing.
  Result<UniqueFd> Create(const std::string& name);

  // What there is, sorted. An Error: something that is neither a file nor a folder, a name that no
  // manifest may have, or folders in folders.
  struct Tree {
    std::vector<std::string> files;
    std::vector<std::string> folders;
  };
  Result<Tree> Read();

 private:
  // The folder that holds `name`, and its last component.
  struct Place {
    int folder;
    std::string name;
  };
  enum class IfMissing { kFail, kMake };
  Result<Place> PlaceOf(const std::string& name, IfMissing if_missing);
  Result<void> ReadInto(Tree& tree, int folder, const std::string& prefix);

  const int folder_;
  std::string inner_name_;  // of the folder in it that was opened last
  UniqueFd inner_;
};

}  // namespace modal::snapshot

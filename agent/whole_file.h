// A file that appears as a whole, or not at all: written under no name, or a passing one, and
// renamed when it is done.
#pragma once

#include <string>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"

namespace modal {

class WholeFile {
 public:
  // In the folder of `path`, mode 0600. A link at `path` is followed; what stands there already
  // stays as it is until Publish().
  static Result<WholeFile> Create(const std::string& path);
  WholeFile(WholeFile&& other) = default;
  ~WholeFile();

  int fd() const { return file_.get(); }
  // To the disk, and to its name.
  Result<void> Publish();

 private:
  WholeFile() = default;
  Result<void> Name();

  std::string path_;     // as it was asked for
  std::string name_;     // in the folder
  std::string passing_;  // its name until it is published; empty: none
  UniqueFd folder_;
  UniqueFd file_;
};

}  // namespace modal

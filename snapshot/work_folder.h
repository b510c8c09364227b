// A folder for what a call of CRIU needs and leaves: its log, its cache of what the kernel can do,
// images of a trial. Goes with all in it. On a tmpfs where there is one: elsewhere CRIU does not
// save that cache.
#pragma once

#include <memory>
#include <string>

#include "agent/base/result.h"

namespace modal::snapshot {

class WorkFolder {
 public:
  // In /dev/shm, /tmp or /run, mode 0700.
  static Result<std::unique_ptr<WorkFolder>> Make();
  ~WorkFolder();
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;

  const std::string& path() const { return path_; }
  // A new folder in it.
  Result<std::string> Sub(const char* name) const;

  // What its name begins with.
  static constexpr const char* kPrefix = "modal-agent-criu-";

 private:
  explicit WorkFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace modal::snapshot

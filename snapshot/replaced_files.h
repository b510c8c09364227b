// What the files that travel with a snapshot are about to replace in a container's root, so that a
// restore that fails can take them back: a cold start finds the root as the image has it, and not
// somebody's pid file.
//
// Sockets that CRIU makes anew count, too: a server that finds one in its place may not start.
//
// Noted before PutBackFiles() runs: which of them are there, those with content, owner, mode and
// times, in memory. What CarryFiles() does not carry is not kept either (sockets, devices, extended
// attributes). Not taken back: what was written to other files meanwhile.
#pragma once

#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"

namespace modal::snapshot {

// Whether all folders of an archive of CarryFiles(), read from its start, are there already.
Result<bool> HasFoldersOf(const std::string& root, int archive);

class ReplacedFiles {
 public:
  // `archive`: of CarryFiles(), read from its start; its place is its start again afterwards; -1:
  // there is none. `sockets`: absolute paths. An Error: it is no such archive, or what is there is
  // more than may travel (kMaxCarried).
  static Result<ReplacedFiles> Note(const std::string& root, int archive,
                                    const std::vector<std::string>& sockets = {});

  // Removes what was not there, folders only where they are empty, and puts the others as they
  // were. An Error is the first; the rest is done all the same. Once.
  Result<void> TakeBack();

 private:
  ReplacedFiles(std::string root, UniqueFd before, std::vector<std::string> absent)
      : root_(std::move(root)), before_(std::move(before)), absent_(std::move(absent)) {}

  std::string root_;
  UniqueFd before_;                  // an archive of what was there
  std::vector<std::string> absent_;  // those that were not; folders before what is in them
};

}  // namespace modal::snapshot

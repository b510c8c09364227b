// What execve(2) is given, and why it did not want it.
//
// The kernel has one errno for many mistakes: ENOENT for a missing program, a missing interpreter
// of a script and a missing loader; EACCES for a missing x bit, a folder, and a mount without exec.
// ExplainExecFailure() looks at the file and tells which.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace modal::process {

// Where PATH is unset.
inline constexpr std::string_view kDefaultPath =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// The paths that execvp(3) would try for `name` and that are files which somebody may execute, in
// that order, seen from `workdir` (empty: ours) and, where they were relative, relative to it. An
// Error with exit code 127 or 126 if there is none.
Result<std::vector<std::string>> ExecutableCandidates(const std::string& name,
                                                      const std::string& path,
                                                      const std::string& workdir);

// `user` stands in the text: "user app (uid 1000)".
Error ExplainExecFailure(const std::string& path, const std::string& workdir, int code,
                         const std::string& user);

}  // namespace modal::process

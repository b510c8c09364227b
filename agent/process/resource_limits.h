// Resource limits (setrlimit(2)) as people write them: "nofile=1024:65536", "core=unlimited".
#pragma once

#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/process/launcher.h"

namespace modal::process {

// NAME=SOFT[:HARD]; one value sets both. NAME as in `docker run --ulimit` (also RLIMIT_NOFILE);
// values in the kernel's own units (bytes, seconds, files), or "unlimited" or "-1".
Result<ResourceLimit> ParseResourceLimit(std::string_view text);

// "nofile" for RLIMIT_NOFILE.
std::string ResourceName(int resource);
// "1024:65536", "unlimited:unlimited".
std::string ResourceLimitToString(const rlimit& limit);

}  // namespace modal::process

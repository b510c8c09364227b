// Who is running: a look through /proc. Without /proc there is an error, and callers fall back on
// what they can reach without it (their process groups; everything, as process 1).
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace modal::process {

struct ProcessInfo {
  pid_t pid;
  pid_t parent;
  pid_t group;
  pid_t session;
  char state;  // 'R', 'S', 'Z', ... as in proc(5)
  std::string name;
  bool has_execed = true;  // false: has run no program of its own since its fork
};

// A line of /proc/PID/stat; nothing if it is not one.
std::optional<ProcessInfo> ParseProcessStat(std::string_view line);
// Nothing without /proc, or if there is no such process.
std::optional<ProcessInfo> LookAtProcess(pid_t pid);

// Every process that /proc shows (the whole PID namespace, zombies included). Processes that end
// while we look are simply not in it.
Result<std::vector<ProcessInfo>> ListProcesses();

// `root`'s descendants within `all`, nearest first, `root` itself not included.
std::vector<ProcessInfo> DescendantsOf(pid_t root, const std::vector<ProcessInfo>& all);

}  // namespace modal::process

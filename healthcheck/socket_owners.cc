#include <dirent.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <set>
#include <string_view>

#include "agent/base/strings.h"
#include "agent/process/process_table.h"
#include "healthcheck/socket_table.h"

namespace modal::health {
namespace {

// Processes may start and end while we look. A look that meets nobody new has seen them all; after
// this many we give up.
constexpr int kLooks = 5;

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};
using Directory = std::unique_ptr<DIR, CloseDirectory>;

enum class Holds { kNo, kYes, kUnreadable };

// A process that has ended holds nothing.
Holds Failed(int code) { return code == ENOENT || code == ESRCH ? Holds::kNo : Holds::kUnreadable; }

Holds LookThrough(const std::string& folder, uint64_t inode) {
  const Directory directory(::opendir(folder.c_str()));
  if (!directory) return Failed(errno);
  const std::string wanted = Concat("socket:[", inode, "]");
  bool unreadable = false;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(directory.get());
    if (entry == nullptr) {
      if (errno != 0 && Failed(errno) == Holds::kUnreadable) return Holds::kUnreadable;
      return unreadable ? Holds::kUnreadable : Holds::kNo;
    }
    if (entry->d_name[0] == '.') continue;
    char target[64];
    const ssize_t size =
        ::readlinkat(::dirfd(directory.get()), entry->d_name, target, sizeof target);
    if (size < 0) {
      if (Failed(errno) == Holds::kUnreadable) unreadable = true;
    } else if (std::string_view(target, static_cast<size_t>(size)) == wanted) {
      return Holds::kYes;
    }
  }
}

// A zombie has no descriptors, unless only its first thread has ended: the others show them.
Holds LookThroughThreads(const std::string& process, pid_t pid, uint64_t inode) {
  const Directory directory(::opendir((process + "/task").c_str()));
  if (!directory) return Failed(errno);
  while (const dirent* entry = ::readdir(directory.get())) {
    if (entry->d_name[0] == '.' || std::atoi(entry->d_name) == pid) continue;
    const Holds holds = LookThrough(Concat(process, "/task/", entry->d_name, "/fd"), inode);
    if (holds != Holds::kNo) return holds;
  }
  return Holds::kNo;
}

Holds LookThrough(const std::string& proc, const process::ProcessInfo& process, uint64_t inode) {
  const std::string folder = Concat(proc, "/", process.pid);
  if (process.state == 'Z' || process.state == 'X') {
    return LookThroughThreads(folder, process.pid, inode);
  }
  return LookThrough(folder + "/fd", inode);
}

// Whether this /proc counts processes as we do; not so in a PID namespace without its own.
bool ShowsOurNamespace(const std::string& proc) {
  char target[16];
  const ssize_t size = ::readlink((proc + "/self").c_str(), target, sizeof target);
  return size > 0 &&
         std::string_view(target, static_cast<size_t>(size)) == std::to_string(::getpid());
}

}  // namespace

SocketOwners::Answer ProcSocketOwners::OwnerOf(uint64_t inode) {
  if (inode == 0 || !ShowsOurNamespace(proc_)) return Answer::kUnknown;
  const Holds we_hold = LookThrough(proc_ + "/self/fd", inode);
  if (we_hold != Holds::kNo) return we_hold == Holds::kYes ? Answer::kForeign : Answer::kUnknown;

  const pid_t self = ::getpid();
  std::set<pid_t> seen{self};
  bool unreadable = false;
  for (int look = 0; look < kLooks; ++look) {
    Result<std::vector<process::ProcessInfo>> all = process::ListProcesses();
    if (!all) return Answer::kUnknown;
    bool met_somebody_new = false;
    for (const process::ProcessInfo& process :
         self == 1 ? *all : process::DescendantsOf(self, *all)) {
      if (!seen.insert(process.pid).second) continue;
      met_somebody_new = true;
      const Holds holds = LookThrough(proc_, process, inode);
      if (holds == Holds::kYes) return Answer::kOurs;
      if (holds == Holds::kUnreadable) unreadable = true;
    }
    if (!met_somebody_new) return unreadable ? Answer::kUnknown : Answer::kForeign;
  }
  return Answer::kUnknown;
}

}  // namespace modal::health

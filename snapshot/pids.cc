#include "snapshot/pids.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"

namespace modal::snapshot {
namespace {

constexpr const char* kLastPid = "/proc/sys/kernel/ns_last_pid";

// The id of a process that has already ended, or -1.
pid_t UseUpOne() {
  const pid_t pid = ::vfork();
  if (pid == 0) ::_exit(0);
  if (pid > 0) {
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  return pid;
}

bool TellTheKernel() {
  const UniqueFd file(::open(kLastPid, O_WRONLY | O_CLOEXEC));
  if (!file) return false;
  const std::string last = Concat(kFirstTreePid - 1);
  return ::write(file.get(), last.data(), last.size()) == static_cast<ssize_t>(last.size());
}

}  // namespace

Result<void> RaisePids() {
  pid_t pid = UseUpOne();
  if (pid >= kFirstTreePid - 1) return {};
  if (pid > 0 && TellTheKernel()) return {};
  pid_t before = 0;
  while (pid > before && pid < kFirstTreePid - 1) {
    before = pid;
    pid = UseUpOne();
  }
  if (pid < 0) return Error::FromErrno("use up process ids: fork", errno);
  if (pid < before) return Error("use up process ids: this namespace has fewer than 1000");
  return {};
}

}  // namespace modal::snapshot

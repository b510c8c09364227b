#include "snapshot/pids.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <memory>
#include <string>

#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"

namespace modal::snapshot {
namespace {

constexpr const char* kLastPid = "/proc/sys/kernel/ns_last_pid";

// Threads that end at once: their ids come from the same numbers as those of processes, they cost a
// few microseconds each, and nobody has to wait for them one by one (which takes a second for a
// thousand processes where others want the CPU). Few at a time: containers limit how many there
// are.
class ShortLived {
 public:
  // The id of the last of them; -1 and errno if there can be none.
  pid_t UseUpSome(int most) {
    pid_t last = -1;
    for (Place& place : places_) {
      if (most-- == 0) break;
      const pid_t id = Start(place);
      if (id < 0) break;
      last = id;
    }
    const int code = errno;
    for (Place& place : places_) AwaitEnd(place);
    errno = code;
    return last;
  }

 private:
  static constexpr size_t kAtOnce = 16;
  static constexpr size_t kStack = 4096;

  struct Place {
    std::atomic<int> id{0};  // the kernel clears it when the thread has left its stack
    alignas(16) std::array<char, kStack> stack;
  };

  static int EndAtOnce(void*) { return 0; }

  static pid_t Start(Place& place) {
    constexpr int kFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                           CLONE_SYSVSEM | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
    return ::clone(EndAtOnce, place.stack.data() + place.stack.size(), kFlags, nullptr, &place.id,
                   nullptr, &place.id);
  }

  static void AwaitEnd(Place& place) {
    while (const int id = place.id.load()) {
      ::syscall(SYS_futex, &place.id, FUTEX_WAIT, id, nullptr, nullptr, 0);
    }
  }

  std::array<Place, kAtOnce> places_;
};

bool TellTheKernel() {
  const UniqueFd file(::open(kLastPid, O_WRONLY | O_CLOEXEC));
  if (!file) return false;
  const std::string last = Concat(kFirstTreePid - 1);
  return ::write(file.get(), last.data(), last.size()) == static_cast<ssize_t>(last.size());
}

}  // namespace

Result<void> RaisePids() {
  const auto threads = std::make_unique<ShortLived>();
  pid_t pid = threads->UseUpSome(1);
  if (pid >= kFirstTreePid - 1) return {};
  if (pid > 0 && TellTheKernel()) return {};
  pid_t before = 0;
  while (pid > before && pid < kFirstTreePid - 1) {
    before = pid;
    pid = threads->UseUpSome(kFirstTreePid - 1 - pid);
  }
  if (pid < 0) return Error::FromErrno("use up process ids", errno);
  if (pid < before) return Error("use up process ids: this namespace has fewer than 1000");
  return {};
}

}  // namespace modal::snapshot

#include "snapshot/pids.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>
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
  ShortLived() {
    ::pthread_attr_init(&attributes_);
    ::pthread_attr_setstacksize(&attributes_, static_cast<size_t>(::sysconf(_SC_THREAD_STACK_MIN)));
  }
  ~ShortLived() { ::pthread_attr_destroy(&attributes_); }
  ShortLived(const ShortLived&) = delete;
  ShortLived& operator=(const ShortLived&) = delete;

  // The largest of their ids; -1 and errno if there can be none.
  pid_t UseUpSome(int most) {
    pid_t last = -1;
    int code = 0;
    size_t count = 0;
    for (; count < std::min<size_t>(static_cast<size_t>(most), kAtOnce); ++count) {
      Thread& thread = threads_[count];
      code = ::pthread_create(&thread.handle, &attributes_, &NoteId, &thread.id);
      if (code != 0) break;
    }
    for (Thread& thread : std::span(threads_).first(count)) {
      ::pthread_join(thread.handle, nullptr);
      last = std::max(last, thread.id);
    }
    errno = code;
    return last;
  }

 private:
  static constexpr size_t kAtOnce = 16;

  struct Thread {
    pthread_t handle{};
    pid_t id = 0;
  };

  static void* NoteId(void* id) {
    *static_cast<pid_t*>(id) = ::gettid();
    return nullptr;
  }

  pthread_attr_t attributes_;
  std::array<Thread, kAtOnce> threads_;
};

bool TellTheKernel() {
  const UniqueFd file(::open(kLastPid, O_WRONLY | O_CLOEXEC));
  if (!file) return false;
  const std::string last = Concat(kFirstTreePid - 1);
  return ::write(file.get(), last.data(), last.size()) == static_cast<ssize_t>(last.size());
}

}  // namespace

Result<void> RaisePids() {
  ShortLived threads;
  pid_t pid = threads.UseUpSome(1);
  if (pid >= kFirstTreePid - 1) return {};
  if (pid > 0 && TellTheKernel()) return {};
  pid_t before = 0;
  while (pid > before && pid < kFirstTreePid - 1) {
    before = pid;
    pid = threads.UseUpSome(kFirstTreePid - 1 - pid);
  }
  if (pid < 0) return Error::FromErrno("use up process ids", errno);
  if (pid < before) return Error("use up process ids: this namespace has fewer than 1000");
  return {};
}

}  // namespace modal::snapshot

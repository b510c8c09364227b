#include "snapshot/store_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "agent/base/strings.h"

namespace modal::snapshot {
namespace {

using SteadyClock = std::chrono::steady_clock;

Result<UniqueFd> OpenLockFile(int folder, const std::string& name, LockFile file) {
  constexpr int kFlags = O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  // NFS wants a file open for writing to lock it alone.
  UniqueFd fd(::openat(folder, name.c_str(), O_RDWR | kFlags));
  if (!fd && (errno == EROFS || errno == EACCES)) {
    fd.Reset(::openat(folder, name.c_str(), O_RDONLY | kFlags));
  }
  if (!fd && errno == ENOENT && file == LockFile::kMakeIfMissing) {
    fd.Reset(::openat(folder, name.c_str(), O_RDWR | O_CREAT | kFlags, 0600));
  }
  if (!fd) return Error::FromErrno("lock " + name, errno);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return Error::FromErrno("lock " + name, errno);
  if (!S_ISREG(info.st_mode)) return Error(Concat("lock ", name, ": is no regular file"));
  return fd;
}

// Whoever holds a lock alone may remove its file: then what was opened before is a lock no more.
bool IsStillNamed(int fd, int folder, const std::string& name) {
  struct stat ours {};
  struct stat named {};
  return ::fstat(fd, &ours) == 0 &&
         ::fstatat(folder, name.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 &&
         ours.st_ino == named.st_ino && ours.st_dev == named.st_dev;
}

}  // namespace

Result<std::optional<UniqueFd>> TakeLock(int folder, const std::string& name, LockKind kind,
                                         Milliseconds patience, LockFile file) {
  const int operation = (kind == LockKind::kShared ? LOCK_SH : LOCK_EX) | LOCK_NB;
  const SteadyClock::time_point limit = SteadyClock::now() + patience;
  // flock() cannot wait for so long and no longer; so it is asked again, ever less often.
  Milliseconds pause{1};
  for (;;) {
    Result<UniqueFd> fd = OpenLockFile(folder, name, file);
    if (!fd) return std::move(fd.error());
    if (::flock(fd->get(), operation) == 0) {
      if (IsStillNamed(fd->get(), folder, name)) return std::optional<UniqueFd>(*std::move(fd));
    } else if (errno != EWOULDBLOCK && errno != EINTR) {
      return Error::FromErrno("lock " + name, errno);
    }
    const SteadyClock::time_point now = SteadyClock::now();
    if (now >= limit) return std::optional<UniqueFd>();
    std::this_thread::sleep_for(std::min<SteadyClock::duration>(pause, limit - now));
    pause = std::min(pause * 2, Milliseconds{20});
  }
}

bool IsWithoutLocks(const Error& error) {
  // EBADF: NFS, a file that could not be opened for writing, alone.
  constexpr int kCodes[] = {ENOLCK, ENOSYS, EOPNOTSUPP, EINVAL, EBADF};
  return std::find(std::begin(kCodes), std::end(kCodes), error.code()) != std::end(kCodes);
}

Error ExplainLocks(Error error) {
  if (!IsWithoutLocks(error)) return error;
  return Error(error.message() + " (this file system has no locks; snapshots need another)");
}

}  // namespace modal::snapshot

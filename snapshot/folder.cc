#include "snapshot/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "agent/base/strings.h"

namespace modal::snapshot {
namespace {

constexpr int kDeepest = 32;   // folders in folders, when a tree is removed
constexpr int kAttempts = 64;  // at a random name

struct CloseFolder {
  void operator()(DIR* stream) const { ::closedir(stream); }
};

// An open() that follows no link says so with an errno that would mislead.
Error OpenError(int folder, const std::string& name, int code) {
  struct stat info {};
  if ((code == ELOOP || code == ENOTDIR) &&
      ::fstatat(folder, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(info.st_mode)) {
    return Error(name + ": is a symbolic link");
  }
  return Error::FromErrno(name, code);
}

int RenameNoReplace(int folder, const char* from, const char* to) {
  if (::renameat2(folder, from, folder, to, RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS && errno != EPERM) return errno;
  // A file system that knows no such rename (or a filter that knows no such call). A folder takes
  // the place of an empty folder at most.
  struct stat info {};
  if (::fstatat(folder, to, &info, AT_SYMLINK_NOFOLLOW) == 0) return EEXIST;
  return ::renameat(folder, from, folder, to) == 0 ? 0 : errno;
}

// Where a folder is mounted; the device alone where the kernel tells no more (before 5.8).
struct Mount {
  uint64_t id = 0;
  uint64_t device = 0;
  bool operator==(const Mount&) const = default;
};

std::optional<Mount> MountOf(int folder) {
  struct statx info {};
  if (::statx(folder, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_MNT_ID, &info) == 0) {
    const bool has_id = (info.stx_mask & STATX_MNT_ID) != 0;
    return Mount{has_id ? info.stx_mnt_id : 0,
                 uint64_t{info.stx_dev_major} << 32 | info.stx_dev_minor};
  }
  struct stat old {};
  if (::fstat(folder, &old) != 0) return std::nullopt;
  return Mount{0, old.st_dev};
}

class TreeRemover {
 public:
  explicit TreeRemover(std::optional<Mount> mount) : mount_(mount) {}

  void Remove(int folder, const std::string& name, int depth) {
    const Result<UniqueFd> opened = OpenFolderIn(folder, name);
    if (!opened) return Keep(opened.error());
    if (!mount_ || MountOf(opened->get()) != mount_) {
      return Keep(Error(name + ": something is mounted there"));
    }
    if (depth == kDeepest) return Keep(Error(name + ": is nested too deeply"));
    const Result<std::vector<std::string>> names = NamesIn(opened->get());
    if (!names) return Keep(names.error());
    for (const std::string& each : *names) {
      if (::unlinkat(opened->get(), each.c_str(), 0) == 0 || errno == ENOENT) continue;
      if (errno == EISDIR || errno == EPERM) {  // EPERM: what POSIX wants it to be
        Remove(opened->get(), each, depth + 1);
      } else {
        Keep(Error::FromErrno(each, errno));
      }
    }
    if (::unlinkat(folder, name.c_str(), AT_REMOVEDIR) != 0) Keep(Error::FromErrno(name, errno));
  }

  const std::optional<Error>& problem() const { return problem_; }

 private:
  void Keep(Error error) {
    // Gone is what it was to be: somebody else removes it too.
    if (!problem_ && error.code() != ENOENT) problem_ = std::move(error);
  }

  const std::optional<Mount> mount_;
  std::optional<Error> problem_;
};

uint64_t BytesBelow(int folder, int depth) {
  uint64_t bytes = 0;
  const Result<std::vector<std::string>> names = NamesIn(folder);
  if (!names) return 0;
  for (const std::string& name : *names) {
    struct stat info {};
    if (::fstatat(folder, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
    bytes += static_cast<uint64_t>(info.st_blocks) * 512;
    if (!S_ISDIR(info.st_mode) || depth == kDeepest) continue;
    if (const Result<UniqueFd> below = OpenFolderIn(folder, name)) {
      bytes += BytesBelow(below->get(), depth + 1);
    }
  }
  return bytes;
}

}  // namespace

Result<UniqueFd> OpenFolderIn(int folder, const std::string& name) {
  UniqueFd fd(::openat(folder, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return OpenError(folder, name, errno);
  return fd;
}

Result<UniqueFd> OpenFileIn(int folder, const std::string& name) {
  // O_NONBLOCK: the open of a pipe that nobody writes would wait for ever.
  UniqueFd fd(
      ::openat(folder, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) return OpenError(folder, name, errno);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return Error::FromErrno(name, errno);
  if (!S_ISREG(info.st_mode)) return Error(name + ": is no regular file");
  return fd;
}

Result<UniqueFd> CreateFileIn(int folder, const std::string& name) {
  UniqueFd fd(
      ::openat(folder, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd) return Error::FromErrno(name, errno);
  return fd;
}

Result<std::string> ReadFileIn(int folder, const std::string& name, size_t most) {
  const Result<UniqueFd> file = OpenFileIn(folder, name);
  if (!file) return file.error();
  struct stat info {};
  if (::fstat(file->get(), &info) != 0) return Error::FromErrno(name, errno);
  if (static_cast<uint64_t>(info.st_size) > most) return Error(name + ": is too large");
  std::string text(static_cast<size_t>(info.st_size), '\0');
  const Result<size_t> size = ReadFull(file->get(), text.data(), text.size());
  if (!size) return Error::FromErrno(name, size.error().code());
  text.resize(*size);
  return text;
}

Result<void> MakeFolderIn(int folder, const std::string& name) {
  if (::mkdirat(folder, name.c_str(), 0700) != 0) return Error::FromErrno(name, errno);
  return {};
}

std::string RandomName(const std::string& prefix) {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz234567";
  std::array<unsigned char, kRandomLength> bytes{};
  MODAL_CHECK(::getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  std::string name = prefix;
  for (const unsigned char byte : bytes) name += kLetters[byte % kLetters.size()];
  return name;
}

Result<std::string> MakeRandomFolderIn(int folder, const std::string& prefix) {
  for (int attempt = 1;; ++attempt) {
    std::string name = RandomName(prefix);
    Result<void> made = MakeFolderIn(folder, name);
    if (made) return name;
    if (made.error().code() != EEXIST || attempt == kAttempts) return std::move(made.error());
  }
}

Result<std::vector<std::string>> NamesIn(int folder) {
  // Opened anew: descriptors that were duplicated share their place in the list.
  Result<UniqueFd> again = OpenFolderIn(folder, ".");
  if (!again) return std::move(again.error());
  const std::unique_ptr<DIR, CloseFolder> stream(::fdopendir(again->get()));
  if (!stream) return Error::FromErrno("read the folder", errno);
  (void)again->Release();
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (!entry && errno != 0) return Error::FromErrno("read the folder", errno);
    if (!entry) return names;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
}

Result<Named> LookUpIn(int folder, const std::string& name) {
  struct stat info {};
  if (::fstatat(folder, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return Named{};
    return Error::FromErrno(name, errno);
  }
  Named named;
  named.kind = S_ISREG(info.st_mode)   ? Kind::kFile
               : S_ISDIR(info.st_mode) ? Kind::kFolder
                                       : Kind::kOther;
  named.size = static_cast<uint64_t>(info.st_size);
  named.changed_unix_ms = int64_t{info.st_mtim.tv_sec} * 1000 + info.st_mtim.tv_nsec / 1'000'000;
  return named;
}

Result<void> RenameNewIn(int folder, const std::string& from, const std::string& to) {
  int code = RenameNoReplace(folder, from.c_str(), to.c_str());
  if (code == ENOTEMPTY || code == ENOTDIR) code = EEXIST;
  if (code != 0) return Error::FromErrno(Concat("rename ", from, " to ", to), code);
  return {};
}

Result<void> RenameOverIn(int folder, const std::string& from, const std::string& to) {
  if (::renameat(folder, from.c_str(), folder, to.c_str()) == 0) return {};
  return Error::FromErrno(Concat("rename ", from, " to ", to), errno);
}

Result<void> RemoveFileIn(int folder, const std::string& name) {
  if (::unlinkat(folder, name.c_str(), 0) == 0 || errno == ENOENT) return {};
  return Error::FromErrno("remove " + name, errno);
}

Result<void> RemoveTreeIn(int folder, const std::string& name) {
  TreeRemover remover(MountOf(folder));
  remover.Remove(folder, name, 0);
  if (remover.problem()) return Error(*remover.problem()).While("remove " + name);
  return {};
}

uint64_t DiskBytesIn(int folder, const std::string& name) {
  const Result<UniqueFd> opened = OpenFolderIn(folder, name);
  return opened ? BytesBelow(opened->get(), 0) : 0;
}

Result<void> WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Error::FromErrno("write", errno);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return {};
}

Result<size_t> ReadFull(int fd, char* to, size_t size) {
  size_t filled = 0;
  while (filled < size) {
    const ssize_t got = ::read(fd, to + filled, size - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::FromErrno("read", errno);
    if (got == 0) break;
    filled += static_cast<size_t>(got);
  }
  return filled;
}

Result<void> SyncFile(int fd) {
  while (::fsync(fd) != 0) {
    if (errno != EINTR) return Error::FromErrno("sync", errno);
  }
  return {};
}

Result<void> SyncFolder(int fd) {
  Result<void> synced = SyncFile(fd);
  if (!synced && (synced.error().code() == EINVAL || synced.error().code() == EBADF)) return {};
  return synced;
}

}  // namespace modal::snapshot

#include "snapshot/listing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace modal::snapshot {
namespace {

constexpr int kMaxLinks = 40;  // as the kernel
constexpr unsigned kWanted = STATX_BASIC_STATS | STATX_MNT_ID;

int64_t Nanoseconds(const statx_timestamp& time) {
  return time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec;
}

// Takes the first component from the front of `path`.
std::string TakeComponent(std::string& path) {
  const size_t begin = path.find_first_not_of('/');
  if (begin == std::string::npos) {
    path.clear();
    return "";
  }
  const size_t end = std::min(path.find('/', begin), path.size());
  std::string component = path.substr(begin, end - begin);
  path.erase(0, end);
  return component;
}

std::string ParentOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

}  // namespace

int Look(int folder, const char* name, FileFacts& facts, Sync sync) {
  struct statx stat;
  const int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name ? 0 : AT_EMPTY_PATH) |
                    (sync == Sync::kLocal ? AT_STATX_DONT_SYNC : AT_STATX_SYNC_AS_STAT);
  if (::statx(folder, name, flags, kWanted, &stat) != 0) return errno;
  facts.mode = stat.stx_mode;
  facts.uid = stat.stx_uid;
  facts.gid = stat.stx_gid;
  facts.size = stat.stx_size;
  facts.mtime_ns = Nanoseconds(stat.stx_mtime);
  facts.ctime_ns = Nanoseconds(stat.stx_ctime);
  if ((stat.stx_mask & STATX_MNT_ID) != 0) {
    facts.mount = stat.stx_mnt_id;
  } else {
    facts.mount = S_ISDIR(stat.stx_mode) ? makedev(stat.stx_dev_major, stat.stx_dev_minor) : 0;
  }
  return 0;
}

int Listing::Read(int folder) {
  alignas(dirent64) std::array<char, size_t{32} * 1024> buffer;
  for (;;) {
    const long size = ::syscall(SYS_getdents64, folder, buffer.data(), buffer.size());
    if (size < 0) return errno;
    if (size == 0) break;
    for (long at = 0; at < size;) {
      const auto* entry = reinterpret_cast<const dirent64*>(buffer.data() + at);
      at += entry->d_reclen;
      const std::string_view name = entry->d_name;
      if (name == "." || name == "..") continue;
      entries_.push_back({names_.size(), entry->d_type});
      names_.append(name).push_back('\0');
    }
  }
  std::sort(entries_.begin(), entries_.end(), [this](const Entry& a, const Entry& b) {
    return ::strcmp(names_.data() + a.offset, names_.data() + b.offset) < 0;
  });
  return 0;
}

bool Listing::Has(std::string_view name) const {
  const auto at = std::lower_bound(entries_.begin(), entries_.end(), name,
                                   [this](const Entry& entry, std::string_view wanted) {
                                     return std::string_view(names_.data() + entry.offset) < wanted;
                                   });
  return at != entries_.end() && names_.data() + at->offset == name;
}

UniqueFd OpenFolder(int at, const char* name, int& error) {
  UniqueFd fd(::openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  error = fd ? 0 : errno;
  return fd;
}

UniqueFd OpenFile(int at, const char* name, int& error) {
  // Looked at before it is opened: opening a FIFO or a device may have effects, even if it does not
  // block. O_NONBLOCK is for what takes its place in between.
  FileFacts facts;
  error = Look(at, name, facts);
  if (error == 0 && !S_ISREG(facts.mode)) error = S_ISLNK(facts.mode) ? ELOOP : EINVAL;
  if (error != 0) return UniqueFd();
  UniqueFd fd(::openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  error = fd ? Look(fd.get(), "", facts) : errno;
  if (error == 0 && !S_ISREG(facts.mode)) error = EINVAL;
  if (error != 0) fd.Reset();
  return fd;
}

std::optional<std::string> LinkTarget(int folder, const char* name) {
  std::array<char, PATH_MAX> target;
  const ssize_t size = ::readlinkat(folder, name, target.data(), target.size());
  if (size <= 0) return std::nullopt;
  return std::string(target.data(), static_cast<size_t>(size));
}

std::optional<std::string> Resolve(int root, std::string_view base, std::string_view path) {
  if (path.empty() || path.size() >= PATH_MAX) {
    errno = path.empty() ? ENOENT : ENAMETOOLONG;
    return std::nullopt;
  }
  std::string resolved(path.front() == '/' ? "" : base);
  std::string rest(path);
  int links = 0;
  while (!rest.empty()) {
    const std::string component = TakeComponent(rest);
    if (component.empty() || component == ".") continue;
    if (component == "..") {
      resolved = ParentOf(resolved);
      continue;
    }
    std::string next = resolved.empty() ? component : resolved + "/" + component;
    if (const auto target = LinkTarget(root, next.c_str())) {
      if (++links > kMaxLinks) {
        errno = ELOOP;
        return std::nullopt;
      }
      if (target->front() == '/') resolved.clear();
      rest.insert(0, *target + "/");
      continue;
    }
    if (errno != EINVAL) return std::nullopt;  // EINVAL: it is there, and no link
    resolved = std::move(next);
  }
  return resolved;
}

std::optional<std::string> ReadHead(int at, const char* name, size_t limit) {
  int error = 0;
  const UniqueFd fd = OpenFile(at, name, error);
  if (!fd) return std::nullopt;
  std::string bytes(limit, '\0');
  size_t filled = 0;
  while (filled < limit) {
    const ssize_t got = ::read(fd.get(), bytes.data() + filled, limit - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    filled += static_cast<size_t>(got);
  }
  bytes.resize(filled);
  return bytes;
}

}  // namespace modal::snapshot

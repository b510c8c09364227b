#include "agent/preload_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"
#include "snapshot/preload/no_io_uring.h"

namespace modal {
namespace {

constexpr std::string_view kVariable = "LD_PRELOAD=";
constexpr const char* kName = "libmodal-no-io-uring.so";

bool IsWhole(const std::string& path, size_t size) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && info.st_uid == ::geteuid() &&
         static_cast<size_t>(info.st_size) == size;
}

// Under a name of its own until it is whole.
Result<void> WriteFile(const std::string& path, std::span<const std::byte> bytes) {
  std::string temporary = path + ".XXXXXX";
  const UniqueFd file(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!file) return Error::FromErrno(path, errno);
  const ssize_t size = ::write(file.get(), bytes.data(), bytes.size());
  const bool is_written = size == static_cast<ssize_t>(bytes.size()) &&
                          ::fchmod(file.get(), 0644) == 0 &&
                          ::rename(temporary.c_str(), path.c_str()) == 0;
  if (is_written) return {};
  Error error = Error::FromErrno(path, errno);
  ::unlink(temporary.c_str());
  return error;
}

Result<std::string> PutInto(const std::string& folder) {
  struct stat info {};
  if (::mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST) return Error::FromErrno(folder, errno);
  if (::lstat(folder.c_str(), &info) != 0) return Error::FromErrno(folder, errno);
  // What others may write to is no place for what is loaded into every program.
  if (!S_ISDIR(info.st_mode) || info.st_uid != ::geteuid() || (info.st_mode & 022) != 0) {
    return Error(folder + ": not a folder of ours alone");
  }
  // The workload may be another user.
  if ((info.st_mode & 0111) != 0111) (void)::chmod(folder.c_str(), info.st_mode | 0111);
  struct statvfs system {};
  if (::statvfs(folder.c_str(), &system) != 0 || (system.f_flag & ST_NOEXEC) != 0) {
    return Error(folder + ": nothing may be executed there");
  }
  const std::span<const std::byte> bytes = snapshot::NoIoUringLibrary();
  std::string path = Concat(folder, "/", kName);
  if (IsWhole(path, bytes.size())) return path;
  if (Result<void> written = WriteFile(path, bytes); !written) return std::move(written.error());
  return path;
}

}  // namespace

Result<void> HideIoUring(lifecycle::Options& options) {
  Result<std::string> path = PutInto("/run/modal-agent");
  if (!path) path = PutInto(Concat("/tmp/modal-agent-", ::geteuid()));
  if (!path) {
    return std::move(path.error())
        .While("no place for the library that hides io_uring, which CRIU cannot dump");
  }
  for (std::string& variable : options.environment) {
    if (!variable.starts_with(kVariable)) continue;
    variable += Concat(variable.size() == kVariable.size() ? "" : ":", *path);
    return {};
  }
  options.environment.push_back(Concat(kVariable, *path));
  return {};
}

}  // namespace modal

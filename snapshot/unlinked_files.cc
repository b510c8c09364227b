#include "snapshot/unlinked_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "agent/base/strings.h"
#include "agent/process/process_table.h"
#include "snapshot/listing.h"

namespace modal::snapshot {
namespace {

constexpr mode_t kForOwner = S_IRUSR | S_IWUSR;

// chmod(2) through it reaches the file itself, which has no other name.
std::string NameOf(int fd) { return Concat("/proc/self/fd/", fd); }

}  // namespace

void UnlinkedFiles::Open(pid_t root) {
  OpenThoseOf(root);
  const Result<std::vector<process::ProcessInfo>> all = process::ListProcesses();
  if (!all) return;
  for (const process::ProcessInfo& one : process::DescendantsOf(root, *all)) OpenThoseOf(one.pid);
}

void UnlinkedFiles::OpenThoseOf(pid_t pid) {
  const std::string path = Concat("/proc/", pid, "/fd");
  int code = 0;
  const UniqueFd folder = OpenFolder(AT_FDCWD, path.c_str(), code);
  Listing listing;
  if (!folder || listing.Read(folder.get()) != 0) return;
  for (size_t i = 0; i < listing.size(); ++i) OpenOne(Concat(path, "/", listing.name(i)));
}

void UnlinkedFiles::OpenOne(const std::string& link) {
  UniqueFd file(::open(link.c_str(), O_PATH | O_CLOEXEC));
  struct stat info {};
  if (!file || ::fstat(file.get(), &info) != 0) return;
  if (!S_ISREG(info.st_mode) || info.st_nlink != 0) return;
  const std::string name = NameOf(file.get());
  if (::faccessat(AT_FDCWD, name.c_str(), R_OK | W_OK, AT_EACCESS) == 0) return;
  const mode_t mode = info.st_mode & 07777;
  if (::chmod(name.c_str(), mode | kForOwner) != 0) return;
  files_.push_back({std::move(file), mode});
}

void UnlinkedFiles::PutBack() {
  for (const File& file : files_) (void)::chmod(NameOf(file.path.get()).c_str(), file.mode);
  files_.clear();
}

}  // namespace modal::snapshot

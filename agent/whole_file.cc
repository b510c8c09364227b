#include "agent/whole_file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <system_error>

#include "agent/base/strings.h"
#include "snapshot/folder.h"

namespace modal {
namespace {

std::string OwnDescriptor(int fd) { return Concat("/proc/self/fd/", fd); }

// A file without a name, which goes with us however we end; unset where there is no such thing.
UniqueFd OpenNameless(int folder) {
  UniqueFd file(::openat(folder, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600));
  // It gets its name through /proc.
  if (file && ::access(OwnDescriptor(file.get()).c_str(), F_OK) != 0) file.Reset();
  return file;
}

}  // namespace

Result<WholeFile> WholeFile::Create(const std::string& path) {
  std::error_code problem;
  std::filesystem::path target = std::filesystem::canonical(path, problem);
  if (problem) target = std::filesystem::absolute(path, problem);
  WholeFile made;
  made.path_ = path;
  made.name_ = target.filename().string();
  const std::string folder = target.parent_path().string();
  if (made.name_.empty() || made.name_ == "." || made.name_ == "..") {
    return Error(path + ": not the name of a file");
  }
  made.folder_.Reset(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!made.folder_) return Error::FromErrno(folder, errno);
  made.file_ = OpenNameless(made.folder_.get());
  if (made.file_) return made;
  const std::string passing = snapshot::RandomName(Concat(".", made.name_, "."));
  Result<UniqueFd> file = snapshot::CreateFileIn(made.folder_.get(), passing);
  if (!file) return std::move(file.error()).While(folder);
  made.file_ = *std::move(file);
  made.passing_ = passing;
  return made;
}

WholeFile::~WholeFile() {
  if (!passing_.empty()) (void)snapshot::RemoveFileIn(folder_.get(), passing_);
}

Result<void> WholeFile::Name() {
  if (!passing_.empty()) return {};
  const std::string passing = snapshot::RandomName(Concat(".", name_, "."));
  if (::linkat(AT_FDCWD, OwnDescriptor(fd()).c_str(), folder_.get(), passing.c_str(),
               AT_SYMLINK_FOLLOW) != 0) {
    return Error::FromErrno(passing, errno);
  }
  passing_ = passing;
  return {};
}

Result<void> WholeFile::Publish() {
  Result<void> done = snapshot::SyncFile(fd());
  if (done) done = Name();
  if (done) done = snapshot::RenameOverIn(folder_.get(), passing_, name_);
  if (!done) return std::move(done.error()).While(path_);
  passing_.clear();
  (void)snapshot::SyncFolder(folder_.get());
  return {};
}

}  // namespace modal

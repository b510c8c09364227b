#include "snapshot/work_folder.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "agent/base/strings.h"

namespace modal::snapshot {

Result<std::unique_ptr<WorkFolder>> WorkFolder::Make() {
  int code = 0;
  for (const char* parent : {"/dev/shm", "/tmp", "/run"}) {
    std::string path = Concat(parent, "/", kPrefix, "XXXXXX");
    if (::mkdtemp(path.data()) != nullptr) {
      return std::unique_ptr<WorkFolder>(new WorkFolder(std::move(path)));
    }
    code = errno;
  }
  return Error::FromErrno("no folder for CRIU's log in /dev/shm, /tmp or /run", code);
}

WorkFolder::~WorkFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Result<std::string> WorkFolder::Sub(const char* name) const {
  std::string path = Concat(path_, "/", name);
  if (::mkdir(path.c_str(), 0700) != 0) return Error::FromErrno(path, errno);
  return path;
}

}  // namespace modal::snapshot

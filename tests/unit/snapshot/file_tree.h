// A folder of files with times that a test has chosen, removed with everything in it.
#pragma once

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

#include "agent/base/check.h"

namespace modal::snapshot::testing {

class FileTree {
 public:
  FileTree() {
    std::string name = (std::filesystem::temp_directory_path() / "modal-XXXXXX").string();
    MODAL_CHECK(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~FileTree() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  FileTree(const FileTree&) = delete;
  FileTree& operator=(const FileTree&) = delete;

  const std::string& path() const { return path_; }
  std::string At(const std::string& name) const { return path_ + "/" + name; }

  // Each makes the folders that it is in.
  void File(const std::string& name, std::string_view text, int64_t second = 1'600'000'000,
            mode_t mode = 0644) const {
    MakeFolderOf(name);
    std::ofstream(At(name), std::ios::binary) << text;
    MODAL_CHECK(::chmod(At(name).c_str(), mode) == 0);
    SetTime(name, second);
  }
  void Folder(const std::string& name) const { std::filesystem::create_directories(At(name)); }
  void Link(const std::string& name, const std::string& target) const {
    MakeFolderOf(name);
    MODAL_CHECK(::symlink(target.c_str(), At(name).c_str()) == 0);
  }
  void Fifo(const std::string& name) const {
    MakeFolderOf(name);
    MODAL_CHECK(::mkfifo(At(name).c_str(), 0644) == 0);
  }
  void Remove(const std::string& name) const { std::filesystem::remove_all(At(name)); }

  void SetTime(const std::string& name, int64_t second, int64_t nanosecond = 0) const {
    const timespec times[2] = {{second, nanosecond}, {second, nanosecond}};
    MODAL_CHECK(::utimensat(AT_FDCWD, At(name).c_str(), times, AT_SYMLINK_NOFOLLOW) == 0);
  }
  // Another last byte; size and time stay.
  void Edit(const std::string& name) const {
    const struct stat before = Stat(name);
    std::fstream file(At(name), std::ios::binary | std::ios::in | std::ios::out);
    file.seekg(-1, std::ios::end);
    const int last = file.get();
    file.seekp(-1, std::ios::end);
    file.put(static_cast<char>(last ^ 1));
    file.close();
    SetTime(name, before.st_mtim.tv_sec, before.st_mtim.tv_nsec);
  }
  struct stat Stat(const std::string& name) const {
    struct stat info {};
    MODAL_CHECK(::lstat(At(name).c_str(), &info) == 0);
    return info;
  }
  std::string Read(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(At(name), std::ios::binary).rdbuf();
    return text.str();
  }

 private:
  void MakeFolderOf(const std::string& name) const {
    std::filesystem::create_directories(std::filesystem::path(At(name)).parent_path());
  }

  std::string path_;
};

}  // namespace modal::snapshot::testing

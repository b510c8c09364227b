#include "snapshot/unlinked_files.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>

#include "agent/base/check.h"
#include "agent/base/strings.h"
#include "tests/unit/process/launch_fixture.h"
#include "tests/unit/snapshot/file_tree.h"

namespace modal::snapshot {
namespace {

using process::testing::InAnotherProcess;
using process::testing::Pipe;
using testing::FileTree;

constexpr uid_t kUser = 1234;

UniqueFd MakeFile(const FileTree& place, const std::string& name, mode_t mode) {
  UniqueFd file(::open(place.At(name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  MODAL_CHECK(file && ::fchmod(file.get(), mode) == 0);
  return file;
}

UniqueFd MakeUnlinked(const FileTree& place, const std::string& name, mode_t mode) {
  UniqueFd file = MakeFile(place, name, mode);
  MODAL_CHECK(::unlink(place.At(name).c_str()) == 0);
  return file;
}

// In octal.
std::string ModeOf(const std::string& path) {
  struct stat info {};
  MODAL_CHECK(::stat(path.c_str(), &info) == 0);
  std::string text;
  for (mode_t left = info.st_mode & 07777; left != 0; left /= 8) {
    text.insert(text.begin(), static_cast<char>('0' + left % 8));
  }
  return text.empty() ? "0" : text;
}

std::string ModeOf(const UniqueFd& file) { return ModeOf(Concat("/proc/self/fd/", file.get())); }

// `body` as a user who may not read whatever there is.
std::string AsUser(const std::function<std::string()>& body) {
  return InAnotherProcess([&]() -> std::string {
    if (::setresgid(kUser, kUser, kUser) != 0 || ::setresuid(kUser, kUser, kUser) != 0) return "?";
    // /proc/PID/fd is root's after a change of user.
    if (::prctl(PR_SET_DUMPABLE, 1) != 0) return "?";
    return body();
  });
}

TEST_CASE("files without a name are readable for their owner, until their modes are put back") {
  if (!process::testing::IsRoot()) return;
  const FileTree place;
  REQUIRE(::chmod(place.path().c_str(), 0777) == 0);
  const std::string seen = AsUser([&] {
    const UniqueFd heartbeat = MakeUnlinked(place, "heartbeat", 01);
    const UniqueFd write_only = MakeUnlinked(place, "write-only", 0240);
    const UniqueFd open = MakeUnlinked(place, "open", 0640);
    const UniqueFd named = MakeFile(place, "named", 0);
    const auto modes = [&] {
      return Concat(ModeOf(heartbeat), " ", ModeOf(write_only), " ", ModeOf(open), " ",
                    ModeOf(named));
    };
    UnlinkedFiles files;
    files.Open(::getpid());
    const std::string opened = modes();
    files.PutBack();
    return Concat(opened, ", then ", modes());
  });
  CHECK(seen == "601 640 640 0, then 1 240 640 0");
}

TEST_CASE("files of the whole tree are readable, and are put back by whoever ends early") {
  if (!process::testing::IsRoot()) return;
  const FileTree place;
  REQUIRE(::chmod(place.path().c_str(), 0777) == 0);
  const std::string seen = AsUser([&]() -> std::string {
    Pipe told;
    const pid_t child = ::fork();
    if (child == 0) {
      const UniqueFd file = MakeUnlinked(place, "x", 0);
      const int number = file.get();
      MODAL_CHECK(::write(told.writer.get(), &number, sizeof number) == sizeof number);
      while (true) ::pause();
    }
    int number = -1;
    MODAL_CHECK(::read(told.reader.get(), &number, sizeof number) == sizeof number);
    const std::string path = Concat("/proc/", child, "/fd/", number);
    std::string text;
    {
      UnlinkedFiles files;
      files.Open(::getpid());
      text = ModeOf(path);
    }
    text += " " + ModeOf(path);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    return text;
  });
  CHECK(seen == "600 0");
}

TEST_CASE("who may read whatever there is changes nothing") {
  if (!process::testing::IsRoot()) return;
  const FileTree place;
  const UniqueFd file = MakeUnlinked(place, "x", 0);
  UnlinkedFiles files;
  files.Open(::getpid());
  CHECK(ModeOf(file) == "0");
}

}  // namespace
}  // namespace modal::snapshot

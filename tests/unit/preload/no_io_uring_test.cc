#include "snapshot/preload/no_io_uring.h"

#include <doctest/doctest.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "agent/base/unique_fd.h"

namespace modal::snapshot {
namespace {

// The status with which the program that makes the calls ends, -1 if it does not.
int RunCalls(std::string preload) {
  std::string program = MODAL_PRELOAD_CALLS;
  char* const arguments[] = {program.data(), nullptr};
  char* const environment[] = {preload.data(), nullptr};
  pid_t pid = 0;
  REQUIRE(::posix_spawn(&pid, program.c_str(), nullptr, nullptr, arguments, environment) == 0);
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_CASE("under the preloaded library io_uring is unknown, and every other call is as it was") {
  constexpr int kNoIoUring = 100;
  const std::span<const std::byte> library = NoIoUringLibrary();
  const UniqueFd file(::memfd_create("library", 0));
  REQUIRE(file);
  REQUIRE(::write(file.get(), library.data(), library.size()) ==
          static_cast<ssize_t>(library.size()));
  CHECK(RunCalls("LD_PRELOAD=/proc/self/fd/" + std::to_string(file.get())) == kNoIoUring);
  // The program's own view: the same calls are right without it, and this kernel's answer is
  // another one.
  CHECK(RunCalls("LD_PRELOAD=") == 0);
}

}  // namespace
}  // namespace modal::snapshot

// What a gateway in the hands of an attacker can still do: a hostile build of it tries.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <sstream>
#include <string>

#include "agent/base/exit_status.h"
#include "agent/base/unique_fd.h"
#include "tests/support/agent_process.h"

namespace modal::test {
namespace {

namespace fs = std::filesystem;

class Folder {
 public:
  Folder() {
    std::string path = (fs::temp_directory_path() / "modal-hostile-XXXXXX").string();
    REQUIRE(::mkdtemp(path.data()) != nullptr);
    path_ = path;
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// One attempt, in a process and a folder of its own.
ExitStatus Run(const char* mode, const std::string& attempt) {
  const Folder folder;
  const pid_t pid = ::fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    const rlimit no_core{};
    ::setrlimit(RLIMIT_CORE, &no_core);
    for (int number = 1; number <= SIGRTMAX; ++number) ::signal(number, SIG_DFL);
    if (::chdir(folder.path().c_str()) != 0) ::_exit(3);
    ::execl(MODAL_HOSTILE_GATEWAY, "hostile_gateway", mode, attempt.c_str(), nullptr);
    ::_exit(3);
  }
  const UniqueFd handle(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  pollfd event{handle.get(), POLLIN, 0};
  const auto patience = std::chrono::milliseconds(Settings().deadline);
  if (::poll(&event, 1, static_cast<int>(patience.count())) != 1) ::kill(pid, SIGKILL);
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  return ExitStatus::FromWait(status);
}

std::string List() {
  std::string list;
  FILE* out = ::popen(MODAL_HOSTILE_GATEWAY " list", "r");
  REQUIRE(out != nullptr);
  char line[256];
  while (std::fgets(line, sizeof line, out) != nullptr) list += line;
  REQUIRE(::pclose(out) == 0);
  return list;
}

TEST_CASE("a hostile gateway dies at what only it could want; without the seal it could do it") {
  std::istringstream list(List());
  size_t forbidden = 0;
  std::string kind, attempt;
  while (list >> kind && std::getline(list >> std::ws, attempt)) {
    INFO(attempt);
    // Seen from both sides: what fails anyway proves nothing about the seal.
    CHECK(Run("open", attempt).ToString() == "exit code 0");
    const bool is_forbidden = kind == "forbidden" || (kind == "bare" && !Settings().sanitized);
    if ((kind == "bare" || kind == "refused") && Settings().sanitized) continue;
    const char* const expected = is_forbidden        ? "signal SIGSYS"
                                 : kind == "refused" ? "exit code 1"
                                                     : "exit code 0";
    CHECK(Run("sealed", attempt).ToString() == expected);
    // One that has to ask name servers can do that, and nothing else.
    const char* const named = attempt == "a UDP socket" ? "exit code 0" : expected;
    CHECK(Run("named", attempt).ToString() == named);
    forbidden += is_forbidden ? 1 : 0;
  }
  CHECK(forbidden > 40);
}

}  // namespace
}  // namespace modal::test

#include "agent/criu_trial.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "agent/event/signals.h"
#include "snapshot/work_folder.h"
#include "tests/unit/snapshot/store_fixture.h"

namespace modal {
namespace {

// A trial waits for children and needs blocked signals, so it is done by a process of its own. 0:
// it has failed with an Error that holds `expected`, and no child is left; the text is in `said`.
int TrialFailsWith(const std::string& criu, const std::string& expected, const std::string& said) {
  const pid_t child = ::fork();
  if (child == 0) {
    event::BlockSignals();
    const Result<CriuTrial> trial = TryCriu(criu, "/bin/sh");
    const std::string message = trial ? "it worked" : trial.error().message();
    (void)snapshot::Put(said, message);
    const bool no_child = ::waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD;
    ::_exit(!no_child ? 2 : message.find(expected) == std::string::npos ? 1 : 0);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// Notes where its words go, which is in the trial's own folder.
std::string Script(const test::TempFolder& folder, const std::string& text) {
  const std::string note = "readlink /proc/self/fd/2 > " + folder.path() + "/where\n";
  const std::string path = folder.Write("criu", "#!/bin/sh\n" + note + text);
  ::chmod(path.c_str(), 0755);
  return path;
}

bool TrialFolderIsGone(const test::TempFolder& folder) {
  const std::filesystem::path where = snapshot::ReadAll(folder.path() + "/where");
  CAPTURE(where.string());
  const std::filesystem::path whole = where.parent_path().parent_path();
  REQUIRE(whole.filename().string().starts_with(snapshot::WorkFolder::kPrefix));
  return !std::filesystem::exists(whole);
}

TEST_CASE("a CRIU that gives no answer is told with what it has said, and nothing is left behind") {
  const test::TempFolder folder;
  const std::string said = folder.path() + "/said";
  const std::string criu = Script(folder, "echo 'CAP_THIS is missing' >&2\nexit 1\n");
  CHECK(TrialFailsWith(criu, ": CAP_THIS is missing", said) == 0);
  INFO(snapshot::ReadAll(said));
  CHECK(TrialFolderIsGone(folder));
}

// As the one before, with a CRIU that hangs. 0: whoever it had started is gone, or was killed.
int TrialEndsAll(const std::string& criu, const std::string& said) {
  const pid_t child = ::fork();
  if (child == 0) {
    event::BlockSignals();
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    const Result<CriuTrial> trial = TryCriu(criu, "/bin/sh", Milliseconds(500));
    (void)snapshot::Put(said, trial ? "it worked" : trial.error().message());
    bool all_killed = true;
    for (int status = 0; ::waitpid(-1, &status, 0) > 0;) {
      all_killed = all_killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    }
    ::_exit(all_killed ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_CASE("a CRIU that hangs is ended at the limit with all that it has started") {
  const test::TempFolder folder;
  const std::string said = folder.path() + "/said";
  const auto ends_all = [&](const std::string& script) {
    return TrialEndsAll(Script(folder, script), said);
  };
  SUBCASE("it waits for it") { CHECK(ends_all("sleep 60 &\nwait\n") == 0); }
  SUBCASE("it has ended before it") { CHECK(ends_all("sleep 60 &\nexit 1\n") == 0); }
  CHECK(snapshot::ReadAll(said) == "not done within 500 ms");
  CHECK(TrialFolderIsGone(folder));
}

TEST_CASE("a CRIU that cannot be started is an error too") {
  const test::TempFolder folder;
  const std::string said = folder.path() + "/said";
  CHECK(TrialFailsWith(folder.path() + "/none", "none", said) == 0);
  INFO(snapshot::ReadAll(said));
}

}  // namespace
}  // namespace modal

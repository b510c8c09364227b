#include "lifecycle/hook_runner.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <vector>

#include "tests/support/fake_clock.h"
#include "tests/support/fake_launcher.h"
#include "tests/support/fake_log.h"
#include "tests/support/run_loop.h"
#include "tests/unit/process/launch_fixture.h"

namespace modal::lifecycle {
namespace {

using namespace std::chrono_literals;
using process::testing::TempFolder;
using Words = std::vector<std::string>;

// What a hook is
// -----------------------------------------------------------------------------------

TEST_CASE("plain words are executed as they are, for an image may have no shell") {
  CHECK(HookFromCommandLine("migrate --all /etc/x.conf").argv ==
        Words{"migrate", "--all", "/etc/x.conf"});
  CHECK(HookFromCommandLine("  spaces   do\tnot count ").argv ==
        Words{"spaces", "do", "not", "count"});
  CHECK(HookFromCommandLine("a-b_c.d:e,f@g+h^i").argv == Words{"a-b_c.d:e,f@g+h^i"});
  CHECK(HookFromCommandLine("migrate --all").name == "migrate --all");
}

TEST_CASE("anything with shell syntax in it goes through the shell, untouched") {
  for (const std::string line :
       {"a | b",      "a && b",       "a; b",    "a > b", "a < b",   "echo $HOME",  "echo `id`",
        "echo 'a b'", "echo \"a b\"", "ls *.py", "ls a?", "ls [ab]", "a # comment", "ls ~",
        "A=b c",      "(a)",          "{ a; }",  "! a",   "a\nb",    "a\\ b",       "echo 100%"}) {
    CAPTURE(line);
    const Hook hook = HookFromCommandLine(line);
    CHECK(hook.argv == Words{"/bin/sh", "-c", line});
    CHECK(hook.name == line);
  }
}

TEST_CASE("the executables of a folder are its hooks, in name order") {
  const TempFolder folder;
  folder.File("20-second", "", 0755);
  folder.File("10-first", "", 0755);
  folder.File("1-before-10", "", 0700);
  folder.File("a-text", "", 0644);
  folder.File(".hidden", "", 0644);
  REQUIRE(::mkdir((folder.path() + "/30-folder").c_str(), 0755) == 0);
  REQUIRE(::symlink("20-second", (folder.path() + "/40-link").c_str()) == 0);
  REQUIRE(::symlink("nothing", (folder.path() + "/50-dangling").c_str()) == 0);
  test::FakeLog log;
  const std::vector<Hook> hooks = HooksFromFolder(folder.path(), log.log);
  Words names;
  for (const Hook& hook : hooks) {
    names.push_back(hook.name);
    CHECK(hook.argv == Words{folder.path() + "/" + hook.name});
  }
  CHECK(names == Words{"1-before-10", "10-first", "20-second", "40-link"});
  CHECK(log.lines().size() == 1);
  CHECK(log.Has("a-text is not executable and does not run (chmod +x)"));
}

TEST_CASE("what editors and packages leave in a folder does not run, and each is warned of") {
  const TempFolder folder;
  folder.File("10-run.sh", "", 0755);
  folder.File("20-run.bakery", "", 0755);
  const Words leftovers{
      "10-run.sh~",         "10-run.bak",         "10-run.orig",    ".10-run.sh.swp", "10-run.swp",
      "10-run.sh.dpkg-old", "10-run.sh.dpkg-new", "10-run.rpmsave", "10-run.rpmnew",  ".hidden",
      "#10-run.sh#"};
  for (const std::string& name : leftovers) folder.File(name, "", 0755);
  folder.File(".gitkeep", "", 0644);
  test::FakeLog log;
  const std::vector<Hook> hooks = HooksFromFolder(folder.path(), log.log);
  REQUIRE(hooks.size() == 2);
  CHECK(hooks[0].name == "10-run.sh");
  CHECK(hooks[1].name == "20-run.bakery");
  CHECK(log.lines().size() == leftovers.size());
  for (const std::string& name : leftovers) {
    CAPTURE(name);
    CHECK(log.Count("warn  hook.folder  " + folder.path() + "/" + name + " does not run") == 1);
  }
}

TEST_CASE("a folder that is not there has no hooks, and nothing is said about it") {
  test::FakeLog log;
  CHECK(HooksFromFolder("/no/such/folder", log.log).empty());
  CHECK(HooksFromFolder("/dev/null/enter", log.log).empty());
  CHECK(log.lines().empty());
}

// How hooks run
// ------------------------------------------------------------------------------------

struct Fixture {
  void Run(std::vector<Hook> hooks, bool stop_at_failure = true) {
    process::LaunchSpec how;
    how.environment = {"A=b"};
    how.no_new_privileges = true;
    runner = std::make_unique<HookRunner>(loop, clock, launcher, log.log, std::move(hooks),
                                          HookRunner::Options{10s, stop_at_failure, how},
                                          [this](const HookRunner::Outcome& now) {
                                            CHECK_FALSE(outcome);
                                            outcome = now;
                                          });
    runner->Run();
  }
  void ExitLast(ExitStatus status) {
    launcher.ExitLast(status);
    clock.Turn();
  }
  test::FakeLauncher::Started& last() { return launcher.started.back(); }

  event::Loop loop;
  test::FakeClock clock;
  test::FakeLog log;
  test::FakeLauncher launcher;
  std::optional<HookRunner::Outcome> outcome;
  std::unique_ptr<HookRunner> runner;
};

TEST_CASE_FIXTURE(Fixture, "hooks run one after the other, each in a session of its own") {
  Run({{"one", {"one", "x"}}, {"two", {"two"}}});
  REQUIRE(launcher.started.size() == 1);
  CHECK(last().spec.argv == Words{"one", "x"});
  CHECK(last().spec.session == process::SessionMode::kNewSession);
  CHECK(last().spec.environment == Words{"A=b"});
  CHECK(last().spec.no_new_privileges);
  CHECK(last().spec.fds.size() == 3);
  CHECK(runner->running() == last().pid);
  clock.Advance(9s);
  CHECK(launcher.started.size() == 1);

  ExitLast(ExitStatus::Code(0));
  REQUIRE(launcher.started.size() == 2);
  CHECK(last().spec.argv == Words{"two"});
  CHECK_FALSE(outcome);
  clock.Advance(9s);  // the limit is each one's own
  ExitLast(ExitStatus::Code(0));
  REQUIRE(outcome);
  CHECK(outcome->run == 2);
  CHECK(outcome->failed == 0);
  CHECK(runner->running() == 0);
  CHECK(runner->sessions() == std::vector<pid_t>{launcher.started[0].pid, launcher.started[1].pid});
  CHECK(log.Has("hook.exit  hook=one  status=\"exit code 0\"  ms=9000"));
  CHECK(clock.pending() == 0);
}

TEST_CASE_FIXTURE(Fixture, "without hooks the run is done at once") {
  Run({});
  REQUIRE(outcome);
  CHECK(outcome->run == 0);
}

TEST_CASE_FIXTURE(Fixture, "the next hook starts when the one before has been reaped") {
  Run({{"one", {"one"}}, {"two", {"two"}}});
  launcher.ExitLast(ExitStatus::Code(0));  // a zombie still
  CHECK(launcher.started.size() == 1);
  clock.Turn();
  CHECK(launcher.started.size() == 2);
}

TEST_CASE_FIXTURE(Fixture, "a startup hook that fails is the last one") {
  Run({{"one", {"one"}}, {"two", {"two"}}});
  SUBCASE("with a code") {
    ExitLast(ExitStatus::Code(3));
    REQUIRE(outcome);
    CHECK(outcome->first_failure == "hook one ended with exit code 3");
  }
  SUBCASE("by a signal") {
    ExitLast(ExitStatus::Signal(SIGSEGV));
    REQUIRE(outcome);
    CHECK(outcome->first_failure == "hook one ended with signal SIGSEGV");
  }
  CHECK(outcome->run == 1);
  CHECK(outcome->failed == 1);
  CHECK(launcher.started.size() == 1);
  CHECK(log.Has("error hook.exit"));
}

TEST_CASE_FIXTURE(Fixture, "exit handlers all run, whichever fails") {
  Run({{"one", {"one"}}, {"two", {"two"}}, {"three", {"three"}}}, false);
  ExitLast(ExitStatus::Code(3));
  ExitLast(ExitStatus::Code(4));
  CHECK_FALSE(outcome);
  ExitLast(ExitStatus::Code(0));
  REQUIRE(outcome);
  CHECK(outcome->run == 3);
  CHECK(outcome->failed == 2);
  CHECK(outcome->first_failure == "hook one ended with exit code 3");
}

TEST_CASE_FIXTURE(Fixture, "a hook that cannot be started has failed, but not from inside Run()") {
  launcher.refuse = [](const process::LaunchSpec& spec) -> std::optional<Error> {
    if (spec.argv[0] != "one") return std::nullopt;
    return Error("one: no such program").WithExitCode(127);
  };
  SUBCASE("a startup hook") {
    Run({{"one", {"one"}}, {"two", {"two"}}});
    CHECK_FALSE(outcome);
    clock.Turn();
    REQUIRE(outcome);
    CHECK(outcome->first_failure == "hook one: one: no such program");
    CHECK(launcher.started.empty());
  }
  SUBCASE("an exit handler") {
    Run({{"one", {"one"}}, {"two", {"two"}}}, false);
    clock.Turn();
    REQUIRE(launcher.started.size() == 1);
    ExitLast(ExitStatus::Code(0));
    REQUIRE(outcome);
    CHECK(outcome->failed == 1);
    CHECK(outcome->run == 2);
  }
}

TEST_CASE_FIXTURE(Fixture,
                  "at the limit the whole group of the hook is killed, and that is a failure") {
  Run({{"one", {"one"}}, {"two", {"two"}}});
  clock.Advance(9999ms);
  CHECK(last().group_signals.empty());
  clock.Advance(1ms);
  CHECK(last().group_signals == std::vector{SIGKILL});
  CHECK(last().signals.empty());
  CHECK_FALSE(outcome);
  clock.Advance(1h);
  CHECK(last().group_signals.size() == 1);
  SUBCASE("however it ends then") { ExitLast(ExitStatus::Signal(SIGKILL)); }
  SUBCASE("even if it just returned 0") { ExitLast(ExitStatus::Code(0)); }
  REQUIRE(outcome);
  CHECK(outcome->first_failure == "hook one did not return within 10000 ms and was killed");
  CHECK(log.Has("error hook.timeout"));
}

TEST_CASE_FIXTURE(Fixture, "a cancelled run starts nothing more and calls nobody") {
  Run({{"one", {"one"}}, {"two", {"two"}}});
  SUBCASE("while a hook runs") {
    runner->Cancel();
    CHECK_FALSE(last().watched);
    CHECK(runner->running() == 0);
    CHECK(runner->sessions().size() == 1);
  }
  SUBCASE("between two hooks") {
    launcher.ExitLast(ExitStatus::Code(0));
    runner->Cancel();
  }
  SUBCASE("after a failure") {
    launcher.ExitLast(ExitStatus::Code(1));
    runner->Cancel();
  }
  clock.Advance(1h);
  CHECK(launcher.started.size() == 1);
  CHECK(last().group_signals.empty());
  CHECK_FALSE(outcome);
}

TEST_CASE_FIXTURE(Fixture, "the last words of a hook come before the news of its end") {
  Run({{"one", {"one"}}});
  REQUIRE(::write(last().output.get(), "done\n", 5) == 5);
  ExitLast(ExitStatus::Code(0));
  const auto& lines = log.lines();
  REQUIRE(lines.size() >= 3);
  CHECK(lines[lines.size() - 2] == "info  hook.output  hook=one  line=done");
  CHECK(lines.back().starts_with("info  hook.exit"));
}

// With real programs
// ---------------------------------------------------------------------------------

struct RealFixture : process::testing::LaunchFixture {
  RealFixture() {
    // Orphans of hooks are ours, as they are the agent's.
    REQUIRE(process::BecomeSubreaper());
  }
  ~RealFixture() { ::prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0); }

  void Run(const Words& lines, bool stop_at_failure = true) {
    std::vector<Hook> hooks;
    for (const std::string& line : lines) hooks.push_back(HookFromCommandLine(line));
    process::LaunchSpec how = Spec({});
    runner =
        std::make_unique<HookRunner>(loop, clock, launcher, log.log, std::move(hooks),
                                     HookRunner::Options{10s, stop_at_failure, how},
                                     [this](const HookRunner::Outcome& now) { outcome = now; });
    runner->Run();
  }
  bool RunUntil(const std::function<bool()>& done) {
    // Half a minute at most; what ends is a child of ours.
    for (int i = 0; i < 3000; ++i) {
      loop.RunOnce();
      reaper.Collect();
      clock.Turn();
      if (done()) return true;
      sigset_t child;
      sigemptyset(&child);
      sigaddset(&child, SIGCHLD);
      const timespec pause{0, 10'000'000};
      ::sigtimedwait(&child, nullptr, &pause);
    }
    return false;
  }
  bool RunUntilDone() {
    return RunUntil([this] { return outcome.has_value(); });
  }

  event::Loop loop;
  test::FakeClock clock;
  test::FakeLog log;
  std::optional<HookRunner::Outcome> outcome;
  std::unique_ptr<HookRunner> runner;
};

TEST_CASE_FIXTURE(RealFixture, "real hooks run in order, and their output is logged") {
  Run({"echo one", "echo two; echo three >&2", "echo four"});
  REQUIRE(RunUntilDone());
  CHECK(outcome->failed == 0);
  Words said;
  for (const std::string& line : log.lines()) {
    const size_t at = line.find("line=");
    if (at != std::string::npos) said.push_back(line.substr(at + 5));
  }
  CHECK(said == Words{"one", "two", "three", "four"});
}

TEST_CASE_FIXTURE(RealFixture, "a hook reads nothing: its stdin is at its end") {
  Run({"cat", "read line || echo nothing"});
  REQUIRE(RunUntilDone());
  CHECK(outcome->failed == 0);
  CHECK(log.Has("line=nothing"));
}

TEST_CASE_FIXTURE(RealFixture, "what a hook started dies with it at the limit") {
  Run({"sleep 1000 & echo started; wait"});
  REQUIRE(RunUntil([this] { return log.Has("line=started"); }));
  clock.Advance(10s);
  REQUIRE(RunUntilDone());
  CHECK(outcome->failed == 1);
  CHECK(RunUntil([this] { return reaper.orphans_reaped() == 1; }));
  CHECK(reaper.last_orphan() == ExitStatus::Signal(SIGKILL));
}

TEST_CASE_FIXTURE(RealFixture, "what a hook leaves running may go on writing, and is heard") {
  const TempFolder folder;
  const std::string fifo = folder.path() + "/fifo";
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  Run({"(read line < " + fifo + "; echo \"$line\") & echo now"});
  REQUIRE(RunUntilDone());
  CHECK(outcome->failed == 0);
  CHECK(log.Has("line=now"));

  const UniqueFd write(::open(fifo.c_str(), O_WRONLY | O_CLOEXEC));  // waits for the reader
  REQUIRE(::write(write.get(), "later\n", 6) == 6);
  CHECK(RunUntil([this] { return log.Has("line=later"); }));
  CHECK(RunUntil([this] { return reaper.orphans_reaped() == 1; }));
}

TEST_CASE_FIXTURE(RealFixture,
                  "everything of a flood is logged, also what comes after the hook's end") {
  Run({"head -c 300000 /dev/zero | tr '\\0' x"});
  REQUIRE(RunUntilDone());
  const auto logged = [this] {
    size_t bytes = 0;
    for (const std::string& line : log.lines()) {
      const size_t at = line.find("line=");
      if (at != std::string::npos) bytes += line.size() - at - 5;
    }
    return bytes;
  };
  CHECK(RunUntil([&] { return logged() >= 300000; }));
  CHECK(logged() == 300000);
}

TEST_CASE_FIXTURE(RealFixture, "a hook that is not there, or is an empty line, fails and says so") {
  Run({"no-such-program-anywhere", "   ", "false"}, false);
  REQUIRE(RunUntilDone());
  CHECK(outcome->failed == 3);
  CHECK(outcome->first_failure.find("no-such-program-anywhere: no such program") !=
        std::string::npos);
}

}  // namespace
}  // namespace modal::lifecycle

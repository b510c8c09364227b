#include "lifecycle/process_tree.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/strings.h"
#include "tests/support/fake_log.h"
#include "tests/unit/process/launch_fixture.h"

namespace modal::lifecycle {
namespace {

using process::LaunchSpec;
using process::SessionMode;
using process::testing::AwaitZombie;
using process::testing::InAnotherProcess;
using process::testing::Pipe;

// Real processes below a subreaper.
struct Fixture : process::testing::LaunchFixture {
  Fixture() { REQUIRE(process::BecomeSubreaper()); }
  ~Fixture() {
    tree.KillAll();
    for (const pid_t helper : helpers) ::kill(helper, SIGKILL);
    while (::waitpid(-1, nullptr, 0) > 0) {
    }
    ::prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
  }

  pid_t Launch(LaunchSpec spec) {
    auto process = launcher.Launch(spec, [](ExitStatus) {});
    if (!process) FAIL(process.error().message());
    const pid_t pid = (*process)->pid();
    processes[pid] = *std::move(process);
    return pid;
  }
  // A process that sleeps until a signal ends it.
  pid_t Sleeper(SessionMode session = SessionMode::kNewSession) {
    LaunchSpec spec = Spec({"sleep", "1000"});
    spec.session = session;
    return Launch(spec);
  }
  // A shell in a session of its own that waits for a child of its own; the child.
  pid_t SleeperBelowShell(pid_t* shell) {
    Pipe output;
    LaunchSpec spec = Spec({"sh", "-c", "sleep 1000 & echo $!; wait"});
    spec.fds = {{output.writer.get(), 1}};
    *shell = Launch(spec);
    char text[32] = {};
    REQUIRE(::read(output.reader.get(), text, sizeof text - 1) > 0);
    return static_cast<pid_t>(std::atoi(text));
  }
  // Waits for its end, which it tells; reaps it.
  ExitStatus EndOf(pid_t pid) {
    int status = 0;
    REQUIRE(::waitpid(pid, &status, 0) == pid);
    processes.erase(pid);
    return ExitStatus::FromWait(status);
  }

  test::FakeLog log;
  RealProcessTree tree{log.log, reaper, false};
  std::map<pid_t, std::unique_ptr<process::Process>> processes;
  std::vector<pid_t> helpers;
};

TEST_CASE_FIXTURE(Fixture, "every descendant is told, in whatever session it is") {
  const pid_t sleeper = Sleeper();
  const pid_t in_our_session = Sleeper(SessionMode::kNewGroup);
  pid_t shell = 0;
  const pid_t grandchild = SleeperBelowShell(&shell);
  CHECK(tree.SignalAll(SIGTERM) == 4);
  for (const pid_t pid : {sleeper, in_our_session, shell, grandchild}) {
    CHECK(EndOf(pid) == ExitStatus::Signal(SIGTERM));
  }
  CHECK(log.lines().empty());
}

TEST_CASE_FIXTURE(Fixture, "everybody is told once, and newcomers when they have come") {
  Pipe output;
  LaunchSpec spec = Spec({"sh", "-c", "trap '' TERM; echo ready; exec sleep 1000"});
  spec.fds = {{output.writer.get(), 1}};
  const pid_t deaf = Launch(spec);
  char byte = 0;
  REQUIRE(::read(output.reader.get(), &byte, 1) == 1);
  CHECK(tree.SignalAll(SIGTERM) == 1);
  CHECK(tree.SignalAll(SIGTERM) == 0);
  const pid_t newcomer = Sleeper();
  CHECK(tree.SignalAll(SIGTERM) == 1);
  CHECK(EndOf(newcomer) == ExitStatus::Signal(SIGTERM));
  CHECK(tree.SignalAll(SIGTERM) == 0);
  tree.KillAll();
  CHECK(EndOf(deaf) == ExitStatus::Signal(SIGKILL));
}

TEST_CASE_FIXTURE(Fixture,
                  "whoever belongs to a group that is left out is left out, as below a keeper") {
  const pid_t hook = Sleeper(SessionMode::kNewGroup);
  CHECK_FALSE(tree.AnythingLeftOutside({hook}));
  const pid_t workload = Sleeper(SessionMode::kNewGroup);
  CHECK(tree.AnythingLeftOutside({hook}));
  CHECK_FALSE(tree.AnythingLeftOutside({hook, workload}));
  tree.SignalOutside({hook}, SIGTERM);
  CHECK(EndOf(workload) == ExitStatus::Signal(SIGTERM));
  CHECK_FALSE(tree.AnythingLeftOutside({hook}));
  tree.SignalOutside({}, SIGKILL);
  CHECK(EndOf(hook) == ExitStatus::Signal(SIGKILL));
}

TEST_CASE_FIXTURE(Fixture, "a group is signalled as long as there is anybody in it") {
  const pid_t workload = Sleeper(SessionMode::kNewGroup);
  const pid_t other = Sleeper(SessionMode::kNewGroup);
  CHECK(tree.SignalGroup(workload, SIGTERM));
  CHECK(EndOf(workload) == ExitStatus::Signal(SIGTERM));
  CHECK_FALSE(tree.SignalGroup(workload, SIGTERM));
  CHECK(tree.SignalGroup(other, 0));
  CHECK(log.lines().empty());
}

TEST_CASE_FIXTURE(Fixture, "helpers and spared sessions are spared") {
  const pid_t plain = Sleeper();
  const pid_t helper = Sleeper();
  helpers = {helper};
  pid_t shell = 0;
  const pid_t handler = SleeperBelowShell(&shell);
  tree.SpareHelper(helper);
  tree.SpareSession(shell);
  CHECK(tree.SignalAll(SIGTERM) == 1);
  CHECK(EndOf(plain) == ExitStatus::Signal(SIGTERM));
  CHECK(tree.SignalAll(SIGTERM) == 0);

  SUBCASE("a session until it is spared no more") {
    tree.UnspareSession(shell);
    CHECK(tree.SignalAll(SIGTERM) == 2);
    CHECK(EndOf(shell) == ExitStatus::Signal(SIGTERM));
    CHECK(EndOf(handler) == ExitStatus::Signal(SIGTERM));
  }
  SUBCASE("a kill takes the spared sessions, and not the helpers") {
    tree.KillAll();
    CHECK(EndOf(shell) == ExitStatus::Signal(SIGKILL));
    CHECK(EndOf(handler) == ExitStatus::Signal(SIGKILL));
    CHECK_FALSE(tree.AnythingLeft());
    REQUIRE(::kill(helper, SIGUSR1) == 0);
    CHECK(EndOf(helper) == ExitStatus::Signal(SIGUSR1));
  }
  SUBCASE("a helper that has ended is nobody any more") {
    tree.ForgetHelper(helper);
    CHECK(tree.SignalAll(SIGTERM) == 1);
    CHECK(EndOf(helper) == ExitStatus::Signal(SIGTERM));
    helpers.clear();
  }
}

TEST_CASE_FIXTURE(Fixture,
                  "on a terminal the workload has a group, which is spared like a session") {
  const pid_t workload = Sleeper(SessionMode::kNewGroup);
  tree.SpareSession(workload);
  CHECK(tree.SignalAll(SIGTERM) == 0);
  CHECK(tree.AnythingLeftOutside({}));
  CHECK(tree.SignalSessionOnce(workload, SIGINT) == 1);
  CHECK(EndOf(workload) == ExitStatus::Signal(SIGINT));
  CHECK_FALSE(tree.AnythingLeftOutside({}));
}

TEST_CASE_FIXTURE(Fixture, "what is stopped is continued, or it could not even end") {
  const pid_t sleeper = Sleeper();
  REQUIRE(::kill(sleeper, SIGSTOP) == 0);
  siginfo_t stopped{};
  REQUIRE(::waitid(P_PID, static_cast<id_t>(sleeper), &stopped, WSTOPPED) == 0);
  SUBCASE("by the signal to all") { CHECK(tree.SignalAll(SIGTERM) == 1); }
  SUBCASE("by the signal to everybody outside of some sessions") {
    tree.SignalOutside({}, SIGTERM);
  }
  SUBCASE("by the signal to whom it was not sent before") {
    CHECK(tree.SignalSessionOnce(sleeper, SIGTERM) == 1);
  }
  CHECK(EndOf(sleeper) == ExitStatus::Signal(SIGTERM));
}

TEST_CASE_FIXTURE(Fixture, "a signal to a session reaches all of it, and nobody else") {
  pid_t shell = 0;
  const pid_t child = SleeperBelowShell(&shell);
  const pid_t other = Sleeper();
  SUBCASE("by its number, once") {
    CHECK(tree.SignalSessionOnce(shell, SIGTERM) == 2);
    CHECK(tree.SignalSessionOnce(shell, SIGTERM) == 0);
  }
  SUBCASE("as what is outside of the others") { tree.SignalOutside({other}, SIGTERM); }
  CHECK(EndOf(shell) == ExitStatus::Signal(SIGTERM));
  CHECK(EndOf(child) == ExitStatus::Signal(SIGTERM));
  CHECK_FALSE(tree.AnythingLeftOutside({other}));
  REQUIRE(::kill(other, SIGUSR1) == 0);
  CHECK(EndOf(other) == ExitStatus::Signal(SIGUSR1));
}

TEST_CASE_FIXTURE(Fixture, "a session outlives its leader, and zombies are nobody") {
  pid_t shell = 0;
  const pid_t child = SleeperBelowShell(&shell);
  REQUIRE(::kill(shell, SIGKILL) == 0);
  CHECK(EndOf(shell) == ExitStatus::Signal(SIGKILL));
  CHECK(tree.AnythingLeftOutside({}));
  REQUIRE(::kill(child, SIGKILL) == 0);
  AwaitZombie(child);
  CHECK_FALSE(tree.AnythingLeftOutside({}));
  CHECK(tree.AnythingLeft());  // until it is reaped
  (void)EndOf(child);
  CHECK_FALSE(tree.AnythingLeft());
}

TEST_CASE_FIXTURE(Fixture, "the sessions of those who run are told, helpers aside") {
  const pid_t own = Sleeper();
  (void)Sleeper(SessionMode::kNewGroup);
  const pid_t helper = Sleeper();
  helpers = {helper};
  tree.SpareHelper(helper);
  std::vector<pid_t> sessions = tree.Sessions();
  std::vector<pid_t> expected = {own, ::getsid(0)};
  std::sort(sessions.begin(), sessions.end());
  std::sort(expected.begin(), expected.end());
  CHECK(sessions == expected);
}

TEST_CASE_FIXTURE(Fixture, "something is left as long as a child is, helpers aside") {
  CHECK_FALSE(tree.AnythingLeft());
  CHECK(tree.CanTellApart());
  const pid_t helper = Sleeper();
  helpers = {helper};
  tree.SpareHelper(helper);
  CHECK_FALSE(tree.AnythingLeft());
  const pid_t workload = Sleeper();
  CHECK(tree.AnythingLeft());
  CHECK(tree.AnythingLeftOutside({}));
  CHECK_FALSE(tree.AnythingLeftOutside({workload}));
  tree.KillAll();
  (void)EndOf(workload);
  CHECK_FALSE(tree.AnythingLeft());
  CHECK_FALSE(tree.AnythingLeftOutside({}));
}

// As process 1 of a PID namespace
// --------------------------------------------------------------------

// Runs `body` as process 1 of a new PID namespace; what it returns. `proc`: with a /proc of its
// own.
std::string AsProcess1(bool proc, const std::function<std::string(RealProcessTree&)>& body) {
  return InAnotherProcess([&]() -> std::string {
    if (::unshare(CLONE_NEWPID | CLONE_NEWNS) != 0) return "cannot";
    Pipe result;
    const pid_t child = ::fork();
    if (child == 0) {
      sigset_t all;
      sigfillset(&all);
      ::sigprocmask(SIG_SETMASK, &all, nullptr);
      ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
      const char* what = proc ? "proc" : "tmpfs";
      std::string text = "mount";
      if (::mount(what, "/proc", what, 0, nullptr) == 0) {
        test::FakeLog log;
        process::Reaper reaper;
        RealProcessTree tree(log.log, reaper, true);
        text = body(tree);
        for (const std::string& line : log.lines()) text += "; " + line;
      }
      const ssize_t size = ::write(result.writer.get(), text.data(), text.size());
      ::_exit(size == static_cast<ssize_t>(text.size()) ? 0 : 1);
    }
    result.writer.Reset();
    const std::string text = process::testing::ReadToEnd(result.reader.get());
    ::waitpid(child, nullptr, 0);
    return text;
  });
}

// A child that waits for a signal, with SIGTERM blocked or not.
pid_t ForkWaiting(bool obeys) {
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::setsid();
  ::signal(SIGTERM, SIG_DFL);  // the test program catches it
  sigset_t none;
  sigemptyset(&none);
  if (!obeys) sigaddset(&none, SIGTERM);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (;;) ::pause();
}

std::string Reap(pid_t pid) {
  int status = 0;
  if (::waitpid(pid, &status, 0) != pid) return "no such child";
  return ExitStatus::FromWait(status).ToString();
}

bool MayMakeNamespaces() {
  return AsProcess1(true, [](RealProcessTree&) { return std::string("yes"); }) == "yes";
}

TEST_CASE("as process 1 everything in the namespace is told, and one kill reaches all") {
  if (!MayMakeNamespaces()) return;  // needs CAP_SYS_ADMIN
  CHECK(AsProcess1(true, [](RealProcessTree& tree) -> std::string {
          if (!tree.CanTellApart()) return "cannot tell";
          const pid_t obedient = ForkWaiting(true);
          const pid_t deaf = ForkWaiting(false);
          const pid_t helper = ForkWaiting(true);
          tree.SpareHelper(helper);
          const size_t told = tree.SignalAll(SIGTERM);
          std::string story = Concat(told, " told, ", Reap(obedient));
          tree.KillAll();
          story += ", " + Reap(deaf) + ", " + Reap(helper);
          return story + (tree.AnythingLeft() ? ", some left" : ", none left");
        }) == "2 told, signal SIGTERM, signal SIGKILL, signal SIGKILL, none left");
}

TEST_CASE("without /proc process 1 tells everybody at once, once") {
  if (!MayMakeNamespaces()) return;  // needs CAP_SYS_ADMIN
  CHECK(AsProcess1(false, [](RealProcessTree& tree) -> std::string {
          if (tree.CanTellApart()) return "can tell";
          const pid_t obedient = ForkWaiting(true);
          const pid_t deaf = ForkWaiting(false);
          const size_t told = tree.SignalAll(SIGTERM);
          std::string story = Concat(told, " round, ", Reap(obedient));
          story += Concat(", ", tree.SignalAll(SIGTERM), " more");
          tree.KillAll();
          return story + ", " + Reap(deaf);
        }) == "1 round, signal SIGTERM, 0 more, signal SIGKILL");
}

}  // namespace
}  // namespace modal::lifecycle

#include "agent/process/launcher.h"

#include <doctest/doctest.h>
#include <errno.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <atomic>
#include <thread>

#include "agent/base/strings.h"
#include "agent/process/child.h"
#include "agent/process/process_table.h"
#include "agent/process/terminal.h"
#include "tests/unit/process/launch_fixture.h"

namespace modal::process {
namespace {

using namespace testing;

TEST_CASE_FIXTURE(LaunchFixture, "a program runs and its exit is told once, while it is a zombie") {
  int exits = 0;
  char state = '?';
  LaunchSpec spec = Spec({"/bin/sh", "-c", "exit 7"});
  pid_t pid = 0;
  const auto process = launcher.Launch(spec, [&](ExitStatus status) {
    ++exits;
    CHECK(status == ExitStatus::Code(7));
    state = LookAtProcess(pid).value_or(ProcessInfo{}).state;
  });
  REQUIRE(process);
  pid = (*process)->pid();
  AwaitZombie(pid);
  CHECK_FALSE(reaper.Collect());
  CHECK_FALSE(reaper.Collect());
  CHECK(exits == 1);
  CHECK(state == 'Z');
  CHECK_FALSE(LookAtProcess(pid));
}

TEST_CASE_FIXTURE(LaunchFixture, "arguments and environment arrive as they are") {
  LaunchSpec spec = Spec({"/bin/sh", "-c", "printf '%s|' \"$@\"; env", "sh", "a b", "", "ü\n"});
  spec.environment = {"PATH=/usr/bin:/bin", "EMPTY=", "TEXT=x y=z"};
  const auto outcome = Run(spec);
  REQUIRE(outcome);
  CHECK(outcome->output.find("a b||ü\n|") == 0);
  CHECK(outcome->output.find("\nEMPTY=\n") != std::string::npos);
  CHECK(outcome->output.find("TEXT=x y=z\n") != std::string::npos);
  CHECK(outcome->output.find("HOME=") == std::string::npos);
}

TEST_CASE_FIXTURE(LaunchFixture, "an executable given by path runs under the name in argv") {
  LaunchSpec spec = Spec({"another-name", "-c", "echo $0"});
  spec.executable = "/bin/sh";
  const auto outcome = Run(spec);
  REQUIRE(outcome);
  CHECK(outcome->output == "another-name\n");
}

TEST_CASE_FIXTURE(LaunchFixture, "the agent can start itself") {
  LaunchSpec spec = Spec({"self", "--version"});
  spec.executable = "/proc/self/exe";
  const auto outcome = Run(spec);
  REQUIRE(outcome);
  CHECK(outcome->status.ok());
  CHECK(outcome->output.find("doctest") != std::string::npos);
}

TEST_CASE_FIXTURE(LaunchFixture, "the workdir holds for the program and for where it is found") {
  const TempFolder folder;
  folder.File("server", "#!/bin/sh\npwd\n", 0755);
  LaunchSpec spec = Spec({"./server"});
  spec.workdir = folder.path();
  const auto outcome = Run(spec);
  REQUIRE(outcome);
  CHECK(outcome->output == folder.path() + "\n");

  SUBCASE("a relative folder in PATH starts there, too") {
    LaunchSpec relative = Spec({"server"});
    relative.workdir = folder.path();
    relative.environment = {"PATH=/nowhere::/bin"};
    const auto found = Run(relative);
    REQUIRE(found);
    CHECK(found->output == folder.path() + "\n");
  }
}

TEST_CASE_FIXTURE(LaunchFixture, "descriptors that stand in each other's way change places") {
  Pipe first;
  Pipe second;
  const UniqueFd fifty(::fcntl(first.writer.get(), F_DUPFD_CLOEXEC, 50));
  const UniqueFd next(::fcntl(second.writer.get(), F_DUPFD_CLOEXEC, fifty.get() + 1));
  LaunchSpec spec =
      Spec({"/bin/bash", "-c",
            Concat("echo a >&", next.get(), "; echo b >&", fifty.get(), "; echo c >&8")});
  spec.fds = {{fifty.get(), next.get()}, {next.get(), fifty.get()}, {fifty.get(), 8}};
  const auto outcome = Run(spec);
  REQUIRE(outcome);
  CHECK(outcome->status.ok());
  CHECK(outcome->output == "");
  char buffer[16] = {};
  CHECK(::read(first.reader.get(), buffer, sizeof(buffer)) == 4);
  CHECK(std::string(buffer) == "a\nc\n");
  CHECK(::read(second.reader.get(), buffer, sizeof(buffer)) == 2);
  CHECK(std::string(buffer, 2) == "b\n");
}

TEST_CASE_FIXTURE(LaunchFixture,
                  "a descriptor may keep its number, and no other one is passed on") {
  Pipe kept;
  Pipe closed;
  LaunchSpec spec = Spec({"/bin/ls", "/proc/self/fd"});
  spec.fds = {{kept.writer.get(), kept.writer.get()}};
  const auto outcome = Run(spec);
  REQUIRE(outcome);
  // ls itself has the folder open on the lowest free number, 3.
  const std::vector<std::string> numbers = Split(Trim(outcome->output), '\n');
  const auto has = [&](int fd) {
    return std::find(numbers.begin(), numbers.end(), std::to_string(fd)) != numbers.end();
  };
  CHECK(has(kept.writer.get()));
  CHECK_FALSE(has(closed.reader.get()));
  CHECK_FALSE(has(closed.writer.get()));
  CHECK(::fcntl(kept.writer.get(), F_GETFD) == FD_CLOEXEC);
}

TEST_CASE_FIXTURE(LaunchFixture, "a descriptor may take the place of the launcher's own") {
  // The report pipe gets the lowest free numbers; the mapping claims them all.
  Pipe output;
  LaunchSpec spec = Spec({"/bin/no-such-program"});
  for (int theirs = 3; theirs < 40; ++theirs) spec.fds.push_back({output.writer.get(), theirs});
  CHECK(Fail(spec).exit_code() == kExitNotFound);
  spec.argv = {"/bin/true"};
  const auto outcome = Run(spec);
  REQUIRE(outcome);
  CHECK(outcome->status.ok());
}

TEST_CASE_FIXTURE(LaunchFixture, "a descriptor that is not open, or wanted twice, is named") {
  LaunchSpec spec = Spec({"/bin/true"});
  spec.fds = {{900, 5}};
  CHECK(Fail(spec).message() == "make descriptor 900 the child's 5: Bad file descriptor");
  spec.fds = {{1, 5}, {2, 5}};
  CHECK(Fail(spec).message() == "two descriptors are to become 5");
  CHECK(Fail(spec).exit_code() == kExitAgentError);
}

TEST_CASE_FIXTURE(LaunchFixture, "a new session or group is there when Launch returns") {
  LaunchSpec spec = Spec({"/bin/sleep", "1000"});
  bool is_session = false;
  SUBCASE("session") {
    spec.session = SessionMode::kNewSession;
    is_session = true;
  }
  SUBCASE("group") { spec.session = SessionMode::kNewGroup; }
  SUBCASE("foreground group without a terminal") { spec.session = SessionMode::kForegroundGroup; }
  const auto process = launcher.Launch(spec, {});
  REQUIRE(process);
  const pid_t pid = (*process)->pid();
  CHECK(::getpgid(pid) == pid);
  CHECK(::getsid(pid) == (is_session ? pid : ::getsid(0)));
  const Result<bool> sent = (*process)->SignalGroup(SIGKILL);
  REQUIRE(sent);
  CHECK(*sent);
  AwaitZombie(pid);
  reaper.Collect();
}

TEST_CASE("a foreground group owns the terminal when Launch returns, and gives it back to us") {
  const std::string text = InAnotherProcess([]() -> std::string {
    const BlockedSignals blocked;
    ::signal(SIGHUP, SIG_IGN);  // the end of the terminal, when we are done
    ::setsid();
    const UniqueFd master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (!master || ::grantpt(master.get()) != 0 || ::unlockpt(master.get()) != 0) return "no pty";
    const UniqueFd slave(::open(::ptsname(master.get()), O_RDWR));
    if (!slave || ::ioctl(slave.get(), TIOCSCTTY, 0) != 0 || ::dup2(slave.get(), 0) != 0) {
      return "no controlling terminal";
    }
    if (!IsTerminal(0)) return "not a terminal";
    if (ForegroundGroup(0) != ::getpid()) return "not ours at first";
    Reaper reaper;
    ProcessLauncher launcher(reaper);
    LaunchSpec spec = LaunchFixture::Spec({"/bin/sleep", "1000"});
    spec.session = SessionMode::kForegroundGroup;
    auto process = launcher.Launch(spec, {});
    if (!process) return process.error().message();
    const pid_t pid = (*process)->pid();
    if (ForegroundGroup(0) != pid) return "not the program's";
    // ^C goes to the program, and not to us.
    if (::write(master.get(), "\x03", 1) != 1) return "cannot write";
    AwaitZombie(pid);
    if (!SetForegroundGroup(0, ::getpid())) return "not given back";
    if (ForegroundGroup(0) != ::getpid()) return "not ours again";
    reaper.Collect();
    return "fine";
  });
  CHECK(text == "fine");
}

TEST_CASE("terminal calls on what is no terminal fail quietly") {
  Pipe pipe;
  CHECK_FALSE(IsTerminal(pipe.reader.get()));
  CHECK_FALSE(IsTerminal(-1));
  CHECK_FALSE(ForegroundGroup(pipe.reader.get()));
  CHECK_FALSE(SetForegroundGroup(-1, ::getpid()));
}

// ---- signals ----

TEST_CASE_FIXTURE(LaunchFixture, "no signal is blocked or ignored in the program, whatever we do") {
  struct KernelAction {
    sighandler_t handler;
    unsigned long flags;
    void* restorer;
    uint64_t mask;
  };
  const KernelAction ignore{SIG_IGN, 0, nullptr, 0};
  KernelAction before[65] = {};
  for (int number = 1; number <= 64; ++number) {
    ::syscall(SYS_rt_sigaction, number, nullptr, &before[number], 8);
    const bool keep = number == SIGCHLD || number == SIGSEGV || number == SIGBUS ||
                      number == SIGILL || number == SIGFPE || number == SIGABRT;
    if (!keep) ::syscall(SYS_rt_sigaction, number, &ignore, nullptr, 8);
  }
  const auto outcome = Run(Spec({"/bin/cat", "/proc/self/status"}));
  for (int number = 1; number <= 64; ++number) {
    ::syscall(SYS_rt_sigaction, number, &before[number], nullptr, 8);
  }
  REQUIRE(outcome);
  CHECK(StatusLine(outcome->output, "SigBlk") == "0000000000000000");
  CHECK(StatusLine(outcome->output, "SigIgn") == "0000000000000000");
  CHECK(StatusLine(outcome->output, "SigPnd") == "0000000000000000");
}

// The only child of this thread, seen from another one while this one waits in vfork.
pid_t AwaitChildOf(pid_t thread) {
  const std::string path = Concat("/proc/self/task/", thread, "/children");
  for (;;) {
    if (const int pid = std::atoi(ReadWhole(path).c_str()); pid > 0) return pid;
  }
}

TEST_CASE_FIXTURE(LaunchFixture, "a signal at any moment of a start ends it and is never lost") {
  const pid_t self = ::gettid();
  for (int round = 0; round < 100; ++round) {
    std::thread sender([self, round] {
      const pid_t child = AwaitChildOf(self);
      for (std::atomic<int> spin = 0; spin < round * 40; ++spin) {
      }
      ::kill(child, round % 2 == 0 ? SIGTERM : SIGHUP);
    });
    Pipe never_written;
    LaunchSpec spec = Spec({"/bin/cat"});
    spec.fds = {{never_written.reader.get(), 0}};
    std::optional<ExitStatus> status;
    const auto process = launcher.Launch(spec, [&](ExitStatus ended) { status = ended; });
    sender.join();
    REQUIRE(process);
    AwaitZombie((*process)->pid());
    reaper.Collect();
    REQUIRE(status);
    CHECK(status->signal == (round % 2 == 0 ? SIGTERM : SIGHUP));
  }
}

// How a program ends that is executed while this signal, ignored by us, is pending for it.
ExitStatus EndWithPending(int number) {
  const pid_t pid = ::fork();
  MODAL_CHECK(pid >= 0);
  if (pid == 0) {
    ::signal(number, SIG_IGN);
    ::raise(number);  // waits: all are blocked
    ChildPlan plan;
    plan.candidates = {"/bin/sh"};
    plan.argv = {"sh", "-c", "exit 3", nullptr};
    plan.environment = {nullptr};
    plan.session = SessionMode::kNewGroup;
    ChildReport report;
    RunChild(plan, report);
  }
  int status = 0;
  MODAL_CHECK(::waitpid(pid, &status, WUNTRACED) == pid);
  if (WIFSTOPPED(status)) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, &status, 0);
  }
  return ExitStatus::FromWait(status);
}

TEST_CASE("a signal that is pending before the exec ends the start, and a stop is forgotten") {
  const BlockedSignals blocked;
  for (const int number : {SIGTERM, SIGHUP, SIGINT, SIGUSR1, SIGRTMIN}) {
    CHECK(EndWithPending(number) == ExitStatus::Signal(number));
  }
  // Halted, the child would halt us.
  for (const int number : {SIGTSTP, SIGTTIN, SIGTTOU, SIGCHLD, SIGCONT, SIGWINCH}) {
    CHECK(EndWithPending(number) == ExitStatus::Code(3));
  }
}

TEST_CASE_FIXTURE(LaunchFixture, "signalling what is gone is no error") {
  auto process = launcher.Launch(Spec({"/bin/true"}), {});
  REQUIRE(process);
  AwaitZombie((*process)->pid());
  reaper.Collect();
  const Result<bool> one = (*process)->Signal(SIGTERM);
  REQUIRE(one);
  CHECK_FALSE(*one);
  const Result<bool> group = (*process)->SignalGroup(SIGTERM);
  REQUIRE(group);
  CHECK_FALSE(*group);
}

TEST_CASE_FIXTURE(LaunchFixture, "the group can be signalled when its leader has gone") {
  Pipe alive;
  LaunchSpec spec = Spec({"/bin/sh", "-c", "sleep 1000 & exit 3"});
  spec.fds = {{alive.writer.get(), 1}};
  bool sent_while_zombie = false;
  std::unique_ptr<Process>* handle = nullptr;
  auto process = launcher.Launch(spec, [&](ExitStatus) {
    const Result<bool> probe = (*handle)->SignalGroup(0);
    sent_while_zombie = probe && *probe;
  });
  REQUIRE(process);
  handle = &*process;
  alive.writer.Reset();
  AwaitZombie((*process)->pid());
  reaper.Collect();
  CHECK(sent_while_zombie);
  const Result<bool> sent = (*process)->SignalGroup(SIGKILL);
  REQUIRE(sent);
  CHECK(*sent);
  CHECK(ReadToEnd(alive.reader.get()) == "");  // the end of the last writer: it is gone
}

TEST_CASE_FIXTURE(LaunchFixture, "a destroyed Process is not told of its end, and ends nothing") {
  bool told = false;
  Pipe input;
  LaunchSpec spec = Spec({"/bin/cat"});
  spec.fds = {{input.reader.get(), 0}};
  auto process = launcher.Launch(spec, [&](ExitStatus) { told = true; });
  REQUIRE(process);
  const pid_t pid = (*process)->pid();
  process->reset();
  CHECK(::kill(pid, 0) == 0);
  CHECK(LookAtProcess(pid).value_or(ProcessInfo{}).state != 'Z');
  input.writer.Reset();
  AwaitZombie(pid);
  reaper.Collect();
  CHECK_FALSE(told);
  CHECK(reaper.orphans_reaped() == 1);
}

TEST_CASE_FIXTURE(LaunchFixture, "a Process may be destroyed in its own exit callback") {
  std::unique_ptr<Process> owned;
  int told = 0;
  auto process = launcher.Launch(Spec({"/bin/true"}), [&](ExitStatus) {
    ++told;
    owned.reset();
  });
  REQUIRE(process);
  owned = *std::move(process);
  AwaitZombie(owned->pid());
  reaper.Collect();
  CHECK(told == 1);
}

TEST_CASE("a helper with a parent-death signal dies with its parent") {
  BlockedSignals blocked;
  REQUIRE(BecomeSubreaper());
  const std::string text = InAnotherProcess([]() -> std::string {
    Reaper reaper;
    ProcessLauncher launcher(reaper);
    LaunchSpec spec = LaunchFixture::Spec({"/bin/sleep", "1000"});
    spec.parent_death_signal = SIGKILL;
    if (IsRoot()) spec.credentials = Credentials{65534, 65534, {65534}, "nobody", "/"};
    const auto process = launcher.Launch(spec, {});
    if (!process) return process.error().message();
    return std::to_string((*process)->pid());
  });
  const pid_t orphan = std::atoi(text.c_str());
  REQUIRE_MESSAGE(orphan > 0, text);
  int status = 0;
  REQUIRE(::waitpid(orphan, &status, 0) == orphan);
  CHECK(ExitStatus::FromWait(status) == ExitStatus::Signal(SIGKILL));
  ::prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
}

// ---- limits of ours ----

TEST_CASE_FIXTURE(LaunchFixture, "a start works at the limit of open files") {
  const UniqueFd nowhere(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  LaunchSpec spec = Spec({"/bin/true"});
  spec.fds = {{nowhere.get(), 2}};
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const int lowest_free = ::dup(0);
  ::close(lowest_free);
  const rlimit full{static_cast<rlim_t>(lowest_free), before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &full) == 0);
  std::optional<ExitStatus> status;
  auto process = launcher.Launch(spec, [&](ExitStatus ended) { status = ended; });
  auto failed = launcher.Launch(Spec({"/bin/no-such-program"}), {});
  ::setrlimit(RLIMIT_NOFILE, &before);
  REQUIRE_MESSAGE(process, process.error().message());
  AwaitZombie((*process)->pid());
  reaper.Collect();
  REQUIRE(status);
  // The program itself may well fail for want of descriptors; it has run.
  CHECK(status->signal == 0);
  CHECK_FALSE(failed);
}

TEST_CASE("a fork at the limit of processes says what is full") {
  const std::string text = InAnotherProcess([]() -> std::string {
    const BlockedSignals blocked;
    const rlimit none{0, 0};
    if (IsRoot() && ::syscall(SYS_setresuid, 65534, 65534, 65534) != 0) return "no other user";
    if (::setrlimit(RLIMIT_NPROC, &none) != 0) return "no limit";
    Reaper reaper;
    ProcessLauncher launcher(reaper);
    const auto process = launcher.Launch(LaunchFixture::Spec({"/bin/true"}), {});
    if (process) return "was launched";
    return Concat(process.error().exit_code(), " ", process.error().message());
  });
  CHECK(text == "125 fork: the limit of processes (pids cgroup or RLIMIT_NPROC) is reached");
}

TEST_CASE_FIXTURE(LaunchFixture, "a failed start leaves no child and no descriptor behind") {
  const auto count = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
  };
  const auto before = count();
  for (int i = 0; i < 20; ++i) CHECK(Fail(Spec({"/bin/no-such-program"})).exit_code() == 127);
  LaunchSpec spec = Spec({"/bin/true"});
  spec.fds = {{900, 5}};
  for (int i = 0; i < 20; ++i) CHECK(Fail(spec).exit_code() == 125);
  CHECK(count() == before);
  CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
  CHECK(errno == ECHILD);
}

}  // namespace
}  // namespace modal::process

#include "agent/process/reaper.h"

#include <doctest/doctest.h>
#include <sys/prctl.h>

#include <set>

#include "agent/base/strings.h"
#include "agent/process/process_table.h"
#include "tests/unit/process/launch_fixture.h"

namespace modal::process {
namespace {

using namespace testing;

pid_t ForkThatExits(int code) {
  const pid_t pid = ::fork();
  MODAL_CHECK(pid >= 0);
  if (pid == 0) ::_exit(code);
  return pid;
}

// While it is alive, orphans of this process's descendants are its children.
class Subreaper {
 public:
  Subreaper() { MODAL_CHECK(BecomeSubreaper()); }
  ~Subreaper() { ::prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0); }
  Subreaper(const Subreaper&) = delete;
  Subreaper& operator=(const Subreaper&) = delete;
};

TEST_CASE("every ended child is collected, watched or not, and told while it is a zombie") {
  const BlockedSignals blocked;
  Reaper reaper;
  std::set<int> codes;
  for (int code = 0; code < 50; ++code) {
    const pid_t pid = ForkThatExits(code);
    AwaitZombie(pid);
    if (code % 2 == 0) continue;
    reaper.Watch(pid, [&codes, pid](ExitStatus status) {
      CHECK(LookAtProcess(pid).value_or(ProcessInfo{}).state == 'Z');
      CHECK(codes.insert(status.code).second);
    });
  }
  int batches = 0;
  reaper.set_on_collected([&] { ++batches; });
  CHECK_FALSE(reaper.Collect());
  CHECK(codes.size() == 25);
  CHECK(codes.contains(49));
  CHECK(reaper.orphans_reaped() == 25);
  CHECK(batches == 1);
  CHECK_FALSE(reaper.Collect());
  CHECK(batches == 1);
  CHECK_FALSE(reaper.HasChildrenBeside([](pid_t) { return false; }));
}

TEST_CASE("a storm of zombies is collected in batches") {
  const BlockedSignals blocked;
  Reaper reaper;
  constexpr int kStorm = Reaper::kBatch + 200;
  std::vector<pid_t> pids;
  for (int i = 0; i < kStorm; ++i) pids.push_back(ForkThatExits(0));
  for (const pid_t pid : pids) AwaitZombie(pid);
  CHECK(reaper.Collect());
  CHECK(reaper.orphans_reaped() == Reaper::kBatch);
  CHECK_FALSE(reaper.Collect());
  CHECK(reaper.orphans_reaped() == kStorm);
}

TEST_CASE("orphans of orphans come to a subreaper") {
  const BlockedSignals blocked;
  const Subreaper subreaper;
  Reaper reaper;
  Pipe alive;
  // A shell that leaves a shell that leaves a sleeper, in sessions of their own.
  ProcessLauncher launcher(reaper);
  LaunchSpec spec = LaunchFixture::Spec(
      {"/bin/sh", "-c", "setsid sh -c 'setsid sh -c \"read line <&6; exit 9\" & exit 0' & exit 0"});
  Pipe input;
  spec.fds = {{alive.writer.get(), 5}, {input.reader.get(), 6}};
  const auto process = launcher.Launch(spec, {});
  REQUIRE(process);
  alive.writer.Reset();
  input.reader.Reset();
  input.writer.Reset();  // the sleeper reads the end and exits
  CHECK(ReadToEnd(alive.reader.get()) == "");
  siginfo_t ended{};
  while (::waitid(P_ALL, 0, &ended, WEXITED | WNOWAIT) == 0) reaper.Collect();
  CHECK(reaper.orphans_reaped() >= 1);
  CHECK_FALSE(reaper.HasChildrenBeside([](pid_t) { return true; }));
}

TEST_CASE("children are seen beside those that do not count") {
  const BlockedSignals blocked;
  Reaper reaper;
  ProcessLauncher launcher(reaper);
  const auto nothing = [](pid_t) { return false; };
  CHECK_FALSE(reaper.HasChildrenBeside(nothing));

  const auto helper = launcher.Launch(LaunchFixture::Spec({"/bin/sleep", "1000"}), {});
  REQUIRE(helper);
  const auto is_helper = [&](pid_t pid) { return pid == (*helper)->pid(); };
  CHECK(reaper.HasChildrenBeside(nothing));
  CHECK_FALSE(reaper.HasChildrenBeside(is_helper));

  const pid_t unwatched = ForkThatExits(0);
  AwaitZombie(unwatched);
  CHECK(reaper.HasChildrenBeside(is_helper));
  reaper.Collect();
  CHECK_FALSE(reaper.HasChildrenBeside(is_helper));

  REQUIRE((*helper)->Signal(SIGKILL));
  AwaitZombie((*helper)->pid());
  reaper.Collect();
  CHECK_FALSE(reaper.HasChildrenBeside(nothing));
}

TEST_CASE("an exit callback may start the next program") {
  LaunchFixture fixture;
  Pipe input;
  LaunchSpec next = LaunchFixture::Spec({"/bin/sh", "-c", "read line; exit 4"});
  next.fds = {{input.reader.get(), 0}};
  std::unique_ptr<Process> second;
  std::optional<ExitStatus> ended;
  const auto first = fixture.launcher.Launch(LaunchFixture::Spec({"/bin/true"}), [&](ExitStatus) {
    auto launched = fixture.launcher.Launch(next, [&](ExitStatus status) { ended = status; });
    MODAL_CHECK(launched.ok());
    second = *std::move(launched);
  });
  REQUIRE(first);
  AwaitZombie((*first)->pid());
  fixture.reaper.Collect();
  REQUIRE(second);
  CHECK_FALSE(ended);
  input.writer.Reset();
  AwaitZombie(second->pid());
  fixture.reaper.Collect();
  CHECK(ended == ExitStatus::Code(4));
}

TEST_CASE("a stopped child is seen once, and is no exit") {
  LaunchFixture fixture;
  bool told = false;
  const auto process =
      fixture.launcher.Launch(LaunchFixture::Spec({"/bin/sleep", "1000"}), [&](ExitStatus status) {
        told = true;
        CHECK(status == ExitStatus::Signal(SIGKILL));
      });
  REQUIRE(process);
  const pid_t pid = (*process)->pid();
  CHECK_FALSE(fixture.reaper.StopSignalOf(pid));
  REQUIRE((*process)->Signal(SIGSTOP));
  siginfo_t stopped{};
  REQUIRE(::waitid(P_PID, static_cast<id_t>(pid), &stopped, WSTOPPED | WNOWAIT) == 0);
  fixture.reaper.Collect();
  CHECK_FALSE(told);
  CHECK(fixture.reaper.StopSignalOf(pid) == SIGSTOP);
  CHECK_FALSE(fixture.reaper.StopSignalOf(pid));
  REQUIRE((*process)->Signal(SIGKILL));
  AwaitZombie(pid);
  fixture.reaper.Collect();
  CHECK(told);
}

}  // namespace
}  // namespace modal::process

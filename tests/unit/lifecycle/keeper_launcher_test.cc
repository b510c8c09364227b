// Against a keeper that is the test: it holds the keeper's end of the channel, and answers ahead.
#include "lifecycle/keeper_launcher.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <map>

#include "agent/base/status_board.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_launcher.h"
#include "tests/support/fake_log.h"
#include "tests/support/run_loop.h"
#include "tests/unit/snapshot/child_process.h"

namespace modal::lifecycle {
namespace {

using namespace std::chrono_literals;
using Kind = KeeperReply::Kind;
using Words = std::vector<std::string>;
using Statuses = std::vector<std::string>;
using Started = test::FakeLauncher::Started;
using ProcessPtr = std::unique_ptr<process::Process>;

// Beyond any pid: nobody who could be asked.
constexpr pid_t kNobody = 0x7ffffff0;

// Time that flies when it is asked for, where a test says so.
class HurriedClock : public test::FakeClock {
 public:
  bool hurried = false;
  TimePoint Now() const override {
    if (hurried) passed_ += 3s;
    return FakeClock::Now() + passed_;
  }

 private:
  mutable Milliseconds passed_{0};
};

struct Home {
  Home() {
    launcher.on_started = [this](const Started& one) {
      for (const process::FdMapping& fd : one.spec.fds) {
        inherited[fd.theirs].Reset(::fcntl(fd.ours, F_DUPFD_CLOEXEC, 0));
      }
      if (on_keeper) on_keeper();
    };
  }

  static process::LaunchSpec SpecOf(const std::string& word) {
    process::LaunchSpec spec;
    spec.argv = {word, "--x"};
    spec.environment = {"A=b"};
    return spec;
  }
  // What the keeper will have said by the time it is asked.
  void Say(Kind kind, uint32_t id, pid_t pid = kNobody, ExitStatus status = {}) {
    KeeperReply reply{};
    reply.kind = kind;
    reply.id = id;
    reply.pid = pid;
    reply.status_code = status.code;
    reply.status_signal = status.signal;
    SetBoardText(reply.error, "hook: no such program");
    if (kind == Kind::kFailed) reply.exit_code = 127;
    REQUIRE(::send(far(), &reply, sizeof reply, MSG_NOSIGNAL) == sizeof reply);
  }
  int far() { return inherited[kKeeperChannelFd].get(); }
  Result<ProcessPtr> Launch(process::Launcher& by, const std::string& word) {
    return by.Launch(SpecOf(word), [this, word](ExitStatus status) {
      ended.push_back(word + ": " + status.ToString());
    });
  }
  // The first launch starts the keeper, which answers before it has read the question.
  Result<ProcessPtr> LaunchFirst(process::Launcher& by, const std::string& word,
                                 pid_t pid = kNobody) {
    on_keeper = [this, pid] { Say(Kind::kLaunched, 1, pid); };
    Result<ProcessPtr> launched = Launch(by, word);
    on_keeper = nullptr;
    return launched;
  }
  void Leave() {
    keeper.Leave([this](const Result<void>& result) {
      ++lefts;
      left = result ? "" : result.error().message();
    });
  }
  void Turn() {
    for (int i = 0; i < 3; ++i) {
      loop.RunOnce();
      clock.Turn();
    }
  }
  void HangUp() {
    inherited[kKeeperChannelFd].Reset();
    Turn();
  }
  void EndKeeper(ExitStatus status) {
    launcher.Exit(launcher.started.at(0), status);
    Turn();
  }

  event::Loop loop;
  HurriedClock clock;
  test::FakeLog log;
  test::FakeLauncher launcher;
  std::map<int, UniqueFd> inherited;
  std::function<void()> on_keeper;
  KeeperLauncher keeper{loop, clock, launcher, log.log, "/proc/self/exe", {0, 1, 2}};
  Statuses ended;
  int lefts = 0;
  std::string left;
};

TEST_CASE_FIXTURE(Home, "the keeper is started with the first launch, as whom that is to be") {
  CHECK(keeper.root() == 0);
  process::LaunchSpec spec = SpecOf("migrate");
  spec.workdir = "/srv";
  spec.no_new_privileges = true;
  spec.capabilities = 5;
  spec.fds = {{1, 1}};
  on_keeper = [this] { Say(Kind::kLaunched, 1); };
  const Result<ProcessPtr> launched = keeper.for_hooks().Launch(spec, {});
  REQUIRE(launched);
  CHECK((*launched)->pid() == kNobody);
  REQUIRE(launcher.started.size() == 1);
  const process::LaunchSpec& started = launcher.started[0].spec;
  CHECK(started.executable == "/proc/self/exe");
  CHECK(started.argv == Words{kKeeperArgv0});
  CHECK(started.environment.empty());
  CHECK(started.workdir == "/");
  CHECK(started.session == process::SessionMode::kNewSession);
  CHECK(started.no_new_privileges);
  CHECK(started.capabilities == 5);
  CHECK(started.parent_death_signal == 0);  // whoever restores it ends at once
  CHECK(inherited.size() == 4);
  CHECK(keeper.root() == launcher.started[0].pid);
  CHECK(keeper.workload() == 0);

  const std::optional<ReceivedRequest> asked = ReceiveRequest(far());
  REQUIRE(asked);
  CHECK(asked->request.kind == KeeperRequest::Kind::kLaunch);
  CHECK(asked->request.id == 1);
  CHECK(asked->request.is_main == 0);
  REQUIRE(asked->fds.size() == 2);
  CHECK(asked->request.theirs[0] == 1);
  const Result<LaunchWords> words = ReadLaunch(asked->fds[0].get());
  REQUIRE(words);
  CHECK(words->argv == Words{"migrate", "--x"});
  CHECK(words->environment == Words{"A=b"});
  CHECK(words->workdir == "/srv");
}

TEST_CASE("a launch is told its working folder in full, which is ours where it is given none") {
  const std::string here = std::filesystem::current_path().string();
  for (const auto& [given, told] :
       std::map<std::string, std::string>{{"", here}, {"sub", here + "/sub"}, {"/srv", "/srv"}}) {
    Home home;
    process::LaunchSpec spec = Home::SpecOf("main");
    spec.workdir = given;
    home.on_keeper = [&home] { home.Say(Kind::kLaunched, 1); };
    const Result<ProcessPtr> launched = home.keeper.for_workload().Launch(spec, {});
    REQUIRE(launched);
    const std::optional<ReceivedRequest> asked = ReceiveRequest(home.far());
    REQUIRE(asked);
    CHECK(ReadLaunch(asked->fds.at(0).get())->workdir == told);
  }
}

TEST_CASE_FIXTURE(Home, "a hook ends by the keeper's word, and the workload is the next") {
  const Result<ProcessPtr> hook = LaunchFirst(keeper.for_hooks(), "hook");
  REQUIRE(hook);
  Say(Kind::kExited, 1, kNobody, ExitStatus::Code(3));
  Turn();
  CHECK(ended == Statuses{"hook: exit code 3"});
  Say(Kind::kLaunched, 2, kNobody - 1);
  const Result<ProcessPtr> main = Launch(keeper.for_workload(), "main");
  REQUIRE(main);
  CHECK(launcher.started.size() == 1);
  CHECK(keeper.workload() == kNobody - 1);
  CHECK(*(*hook)->Signal(SIGTERM) == false);
}

TEST_CASE_FIXTURE(Home, "orphans are counted as the keeper tells, and by each keeper anew") {
  const Result<ProcessPtr> hook = LaunchFirst(keeper.for_hooks(), "migrate");
  REQUIRE(hook);
  const auto reaped = [this](uint32_t orphans) {
    KeeperReply reply{};
    reply.kind = Kind::kReaped;
    reply.orphans = orphans;
    REQUIRE(::send(far(), &reply, sizeof reply, MSG_NOSIGNAL) == sizeof reply);
  };
  reaped(3);
  reaped(5);
  Say(Kind::kExited, 1);
  reaped(4);  // never fewer
  Turn();
  CHECK(ended == Statuses{"migrate: exit code 0"});
  CHECK(keeper.orphans_reaped() == 5);
  // Before the answer to a launch, and as its last word.
  reaped(6);
  Say(Kind::kLaunched, 2);
  const Result<ProcessPtr> next = Launch(keeper.for_hooks(), "next");
  CHECK(next);
  CHECK(keeper.orphans_reaped() == 6);
  reaped(7);
  Say(Kind::kExited, 2);
  EndKeeper(ExitStatus::Code(0));
  CHECK(ended.back() == "next: exit code 0");
  CHECK(keeper.orphans_reaped() == 7);
}

TEST_CASE_FIXTURE(Home, "the workload ends as its keeper does") {
  const Result<ProcessPtr> main = LaunchFirst(keeper.for_workload(), "main");
  REQUIRE(main);
  EndKeeper(ExitStatus::Signal(SIGSEGV));
  CHECK(ended == Statuses{"main: " + ExitStatus::Signal(SIGSEGV).ToString()});
  CHECK(keeper.root() == 0);
  CHECK(keeper.workload() == 0);
  CHECK_FALSE(keeper.TakeEnd());  // it was told
}

TEST_CASE_FIXTURE(Home, "a workload that has left daemons ends by word, and the keeper stays") {
  const Result<ProcessPtr> main = LaunchFirst(keeper.for_workload(), "main");
  REQUIRE(main);
  Say(Kind::kExited, 1, kNobody, ExitStatus::Code(0));
  Turn();
  CHECK(ended == Statuses{"main: exit code 0"});
  CHECK(keeper.root() != 0);
  CHECK(keeper.workload() == 0);
  EndKeeper(ExitStatus::Code(5));
  CHECK(ended.size() == 1);
  CHECK(keeper.TakeEnd() == ExitStatus::Code(5));
  CHECK_FALSE(keeper.TakeEnd());
}

TEST_CASE_FIXTURE(Home, "a keeper that dies takes all along that it has not told the end of") {
  const Result<ProcessPtr> first = LaunchFirst(keeper.for_hooks(), "first");
  Say(Kind::kLaunched, 2);
  const Result<ProcessPtr> second = Launch(keeper.for_hooks(), "second");
  REQUIRE((first && second));
  Say(Kind::kExited, 1, kNobody, ExitStatus::Code(3));  // unread when its end is seen
  launcher.Exit(launcher.started.at(0), ExitStatus::Signal(SIGKILL));
  CHECK(ended ==
        Statuses{"first: exit code 3", "second: " + ExitStatus::Signal(SIGKILL).ToString()});
}

TEST_CASE_FIXTURE(Home, "whoever hears of a keeper's death may launch again, below another one") {
  std::optional<Result<ProcessPtr>> again;
  on_keeper = [this] { Say(Kind::kLaunched, 1); };
  Result<ProcessPtr> main = keeper.for_workload().Launch(SpecOf("main"), [&](ExitStatus) {
    on_keeper = [this] { Say(Kind::kLaunched, 2, kNobody - 1); };
    again.emplace(Launch(keeper.for_workload(), "again"));
  });
  REQUIRE(main);
  launcher.Exit(launcher.started.at(0), ExitStatus::Signal(SIGKILL));
  REQUIRE(again);
  CHECK(again->ok());
  CHECK(launcher.started.size() == 2);
  CHECK(keeper.root() == launcher.started[1].pid);
  Say(Kind::kExited, 2, kNobody - 1, ExitStatus::Code(0));
  Turn();
  CHECK(ended == Statuses{"again: exit code 0"});
}

TEST_CASE_FIXTURE(Home, "a launch that the keeper refuses is refused with its reason") {
  on_keeper = [this] { Say(Kind::kFailed, 1); };
  const Result<ProcessPtr> launched = Launch(keeper.for_workload(), "main");
  REQUIRE_FALSE(launched);
  CHECK(launched.error().message() == "hook: no such program");
  CHECK(launched.error().exit_code() == 127);
  CHECK(keeper.workload() == 0);
}

TEST_CASE_FIXTURE(Home,
                  "a keeper that cannot be started, ends or says nothing is the agent's error") {
  SUBCASE("not started") {
    launcher.refuse = [](const process::LaunchSpec&) {
      return Error("fork: Resource temporarily unavailable").WithExitCode(kExitAgentError);
    };
  }
  SUBCASE("ends") {
    on_keeper = [this] { inherited.clear(); };
  }
  SUBCASE("says nothing") {
    on_keeper = [this] { clock.hurried = true; };
  }
  SUBCASE("says half of it") {
    on_keeper = [this] { REQUIRE(::send(far(), "x", 1, 0) == 1); };
  }
  SUBCASE("names everybody") {
    on_keeper = [this] { Say(Kind::kLaunched, 1, 1); };
  }
  SUBCASE("names a group of everybody") {
    on_keeper = [this] { Say(Kind::kLaunched, 1, -1); };
  }
  SUBCASE("names somebody else's child") {
    on_keeper = [this] { Say(Kind::kLaunched, 1, ::getpid()); };
  }
  const Result<ProcessPtr> launched = Launch(keeper.for_workload(), "main");
  REQUIRE_FALSE(launched);
  CHECK(launched.error().exit_code() == kExitAgentError);
  CHECK(ended.empty());
}

TEST_CASE_FIXTURE(
    Home, "the exit of one that is read while another is launched is told on a later turn") {
  const Result<ProcessPtr> hook = LaunchFirst(keeper.for_hooks(), "hook");
  REQUIRE(hook);
  Say(Kind::kExited, 1, kNobody, ExitStatus::Code(0));
  Say(Kind::kLaunched, 2, kNobody - 1);
  const Result<ProcessPtr> main = Launch(keeper.for_workload(), "main");
  REQUIRE(main);
  CHECK(ended.empty());
  Turn();
  CHECK(ended == Statuses{"hook: exit code 0"});
}

TEST_CASE_FIXTURE(Home,
                  "a launch that takes what the loop was just woken for does not end the channel") {
  const Result<ProcessPtr> hook = LaunchFirst(keeper.for_hooks(), "hook");
  REQUIRE(hook);
  // Another descriptor, which the loop is told of first in the same turn.
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const UniqueFd reading(ends[0]);
  const UniqueFd writing(ends[1]);
  std::optional<Result<ProcessPtr>> next;
  std::unique_ptr<event::Poller> poller =
      *event::Poller::Watch(loop, reading.get(), [&](event::Poller::Ready) {
        poller.reset();
        next.emplace(Launch(keeper.for_hooks(), "next"));
      });
  poller->WaitFor(true, false);
  Turn();
  REQUIRE(::write(writing.get(), "x", 1) == 1);
  Say(Kind::kLaunched, 2);
  Turn();
  REQUIRE(next);
  CHECK(next->ok());
  Say(Kind::kLaunched, 3);
  CHECK(Launch(keeper.for_workload(), "main").ok());
}

TEST_CASE_FIXTURE(Home, "a keeper leaves when it is told to, and starts nothing any more") {
  const Result<ProcessPtr> main = LaunchFirst(keeper.for_workload(), "main");
  REQUIRE(ReceiveRequest(far()));
  Leave();
  const std::optional<ReceivedRequest> asked = ReceiveRequest(far());
  REQUIRE(asked);
  CHECK(asked->request.kind == KeeperRequest::Kind::kLeave);
  Turn();
  CHECK(lefts == 0);
  HangUp();
  CHECK(lefts == 1);
  CHECK(left.empty());
  CHECK(keeper.root() != 0);
  CHECK(keeper.workload() == kNobody);
  CHECK_FALSE(Launch(keeper.for_hooks(), "hook").ok());
  clock.Advance(1h);
  CHECK(lefts == 1);
  EndKeeper(ExitStatus::Code(4));
  CHECK(ended == Statuses{"main: exit code 4"});
}

TEST_CASE_FIXTURE(Home, "a keeper that has left already leaves again, from the loop") {
  const Result<ProcessPtr> main = LaunchFirst(keeper.for_workload(), "main");
  SUBCASE("because it was told to") { keeper.Leave(nullptr); }
  SUBCASE("because it says nonsense") {}
  HangUp();
  Leave();
  CHECK(lefts == 0);
  Turn();
  CHECK(lefts == 1);
  CHECK(left.empty());
}

TEST_CASE_FIXTURE(Home, "a keeper that does not leave is given up after a while") {
  const Result<ProcessPtr> main = LaunchFirst(keeper.for_workload(), "main");
  Leave();
  clock.Advance(KeeperLauncher::kPatience - 1ms);
  CHECK(lefts == 0);
  clock.Advance(1ms);
  CHECK(lefts == 1);
  CHECK(left == "keeper: it does not leave within 5000 ms");
  HangUp();
  CHECK(lefts == 1);
}

TEST_CASE_FIXTURE(Home, "a keeper that ends instead of leaving tells its end alone") {
  const Result<ProcessPtr> main = LaunchFirst(keeper.for_workload(), "main");
  Leave();
  EndKeeper(ExitStatus::Code(0));
  clock.Advance(1h);
  CHECK(lefts == 0);
  CHECK(ended == Statuses{"main: exit code 0"});
}

TEST_CASE_FIXTURE(Home, "without a keeper nobody is held, nobody leaves, and nothing is owed") {
  CHECK_FALSE(keeper.HoldsAnybody());
  Leave();
  clock.Advance(1h);
  CHECK(lefts == 0);
  CHECK_FALSE(keeper.TakeEnd());
}

TEST_CASE_FIXTURE(Home, "who is destroyed hears nothing, and who is left behind can be destroyed") {
  Result<ProcessPtr> left_over = Error("");
  {
    Home other;
    Result<ProcessPtr> gone = other.LaunchFirst(other.keeper.for_hooks(), "gone");
    other.Say(Kind::kLaunched, 2);
    left_over = other.Launch(other.keeper.for_hooks(), "left");
    REQUIRE((gone && left_over));
    *gone = nullptr;
    other.Say(Kind::kExited, 1);
    other.Turn();
    CHECK(other.ended.empty());
  }
  CHECK(*(*left_over)->SignalGroup(0) == false);
}

TEST_CASE_FIXTURE(Home,
                  "signals go to the process, or to its group; one that is gone is no error") {
  const Result<ProcessPtr> nobody = LaunchFirst(keeper.for_workload(), "main");
  REQUIRE(nobody);
  CHECK(*(*nobody)->Signal(SIGTERM) == false);
  CHECK(*(*nobody)->SignalGroup(SIGTERM) == false);
}

}  // namespace
}  // namespace modal::lifecycle

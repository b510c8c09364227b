// Against a worker and a CRIU that are the test: it holds the worker's end of the channel.
#include "lifecycle/snapshotter.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <map>

#include "agent/base/status_board.h"
#include "snapshot/criu_launch.h"
#include "snapshot/worker.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_launcher.h"
#include "tests/support/fake_log.h"
#include "tests/support/fake_process_tree.h"
#include "tests/support/run_loop.h"

namespace modal::lifecycle {
namespace {

using namespace std::chrono_literals;
using snapshot::JobKind;
using snapshot::WorkerReport;
using snapshot::WorkerRequest;
using Kind = WorkerReport::Kind;
using Words = std::vector<std::string>;
using Started = test::FakeLauncher::Started;

const std::string kKey(32, 'a');

struct Desk {
  Desk() {
    launcher.on_started = [this](const Started& one) {
      auto& fds = inherited[one.pid];
      for (const process::FdMapping& fd : one.spec.fds) {
        fds[fd.theirs].Reset(::fcntl(fd.ours, F_DUPFD_CLOEXEC, 0));
      }
    };
    options.criu = "/opt/criu";
    options.executable = "/proc/self/exe";
    options.restore_limit = 30s;
    options.dump_limit = 120s;
    options.job.folder = "/snapshots";
    options.job.explicit_key = "v1";
    Make();
  }

  void Make() {
    snapshotter = std::make_unique<Snapshotter>(loop, clock, launcher, tree, log.log, options,
                                                std::array<int, 2>{1, 2});
  }
  void Restore() {
    snapshotter->Restore([this](Result<Snapshots::Restored> answer) {
      ++answers;
      restored.emplace(std::move(answer));
    });
  }
  void Dump() {
    Snapshots::Tree what;
    what.root = 1000;
    what.workload = 1001;
    what.listening = "0.0.0.0:8000";
    what.cold = 800ms;
    what.hooks = 90ms;
    snapshotter->Dump(what, {[this] { ++readies; },
                             [this](const Result<void>& result) {
                               ++answers;
                               resumed.emplace(result);
                             },
                             [this](const Error& error) { broken.emplace(error.message()); },
                             [this](const Result<void>& result) {
                               ++answers;
                               published.emplace(result);
                             }});
  }
  Started& criu(size_t job = 0) { return launcher.started.at(2 * job + 1); }
  Started& worker(size_t job = 0) { return launcher.started.at(2 * job); }
  snapshot::Job JobOf(Started& one) {
    Result<snapshot::Job> job = snapshot::ReadJob(inherited[one.pid][snapshot::kWorkerJobFd].get());
    REQUIRE(job);
    return *std::move(job);
  }

  // The worker's side.
  int channel(size_t job = 0) {
    return inherited[worker(job).pid][snapshot::kWorkerChannelFd].get();
  }
  void Say(const WorkerReport& report, size_t job = 0) {
    REQUIRE(::send(channel(job), &report, sizeof report, MSG_NOSIGNAL) == sizeof report);
    Turn();
  }
  static WorkerReport ReportOf(Kind kind, const std::string& text = "",
                               const std::string& reason = "") {
    WorkerReport report{};
    report.kind = kind;
    report.value = -1;
    report.cold_ms = -1;
    SetBoardText(report.text, text);
    SetBoardText(report.reason, reason);
    return report;
  }
  void SayKey() { Say(ReportOf(Kind::kKey, kKey, "key:v1")); }
  void HangUp(size_t job = 0) {
    inherited[worker(job).pid][snapshot::kWorkerChannelFd].Reset();
    Turn();
  }
  std::optional<WorkerRequest> Hear(size_t job = 0) {
    WorkerRequest request{};
    ssize_t got = 0;
    do {
      got = ::recv(channel(job), &request, sizeof request, MSG_DONTWAIT);
      if (got != sizeof request) return std::nullopt;
      begins += request.kind == WorkerRequest::Kind::kBegin ? 1 : 0;
    } while (request.kind == WorkerRequest::Kind::kBegin);
    return request;
  }
  void Turn() {
    for (int i = 0; i < 4; ++i) loop.RunOnce();
  }
  void Exit(Started& one, ExitStatus status) { launcher.Exit(one, status); }
  static bool HasEnded(const Started& one) {
    return !one.signals.empty() &&
           std::count(one.signals.begin(), one.signals.end(), SIGKILL) == std::ssize(one.signals);
  }
  std::string work_dir(size_t job = 0) { return JobOf(worker(job)).work_dir; }

  event::Loop loop;
  test::FakeClock clock;
  test::FakeLog log;
  test::FakeLauncher launcher;
  test::FakeProcessTree tree;
  std::map<pid_t, std::map<int, UniqueFd>> inherited;
  Snapshotter::Options options;
  std::unique_ptr<Snapshotter> snapshotter;
  int answers = 0;
  int readies = 0;
  int begins = 0;  // heard by workers
  std::optional<Result<Snapshots::Restored>> restored;
  std::optional<Result<void>> resumed;
  std::optional<std::string> broken;
  std::optional<Result<void>> published;
};

TEST_CASE_FIXTURE(Desk, "a restore starts CRIU and a worker, with what each needs and no more") {
  Restore();
  REQUIRE(launcher.started.size() == 2);
  CHECK(criu().spec.executable == "/opt/criu");
  CHECK(criu().spec.argv == Words{"criu", "--no-default-config", "swrk", "3"});
  CHECK(criu().spec.environment.back() == "XDG_RUNTIME_DIR=" + work_dir());
  CHECK_FALSE(criu().spec.credentials);
  // Its standard ones, the socket, our output and our error.
  CHECK(inherited[criu().pid].size() == size_t{5} + snapshot::kCriuErrorFds);
  const int said = inherited[criu().pid][STDERR_FILENO].get();
  CHECK(::write(said, "too early", 9) == 9);
  CHECK(snapshot::WhatCriuSaid(work_dir()) == "too early");
  CHECK((worker().spec.personality == snapshot::RunWorker));
  CHECK(worker().spec.argv == Words{snapshot::kWorkerArgv0});
  CHECK(worker().spec.environment.empty());
  CHECK(worker().spec.parent_death_signal == SIGKILL);
  CHECK(tree.helpers == std::set<pid_t>{criu().pid, worker().pid});
  const snapshot::Job job = JobOf(worker());
  CHECK(job.kind == JobKind::kRestore);
  CHECK(job.folder == "/snapshots");
  CHECK(job.explicit_key == "v1");
  CHECK(job.raise_pids);
  CHECK(std::filesystem::is_directory(job.work_dir));
  // The two are connected.
  const int far = inherited[criu().pid][snapshot::kCriuSocketFd].get();
  const int near = inherited[worker().pid][snapshot::kWorkerCriuFd].get();
  CHECK(::send(near, "x", 1, 0) == 1);
  char byte = 0;
  CHECK(::recv(far, &byte, 1, MSG_DONTWAIT) == 1);
}

TEST_CASE_FIXTURE(Desk, "the steps that a worker tells of are handed on, once and in bounds") {
  const auto now_us = [this] {
    return std::chrono::duration_cast<Microseconds>(clock.Now().time_since_epoch()).count();
  };
  const int64_t began_us = now_us();
  Restore();
  clock.Advance(5ms);
  WorkerReport key = ReportOf(Kind::kKey, kKey, "key:v1");
  key.steps.Enter(BootStep::kRestoreIdentity, began_us + 3'000);
  key.steps.End(began_us + 4'000);
  Say(key);
  const std::vector<BootSpan> steps = snapshotter->TakeSteps();
  REQUIRE(steps.size() == 2);
  CHECK(steps[0].step == BootStep::kRestoreStart);
  CHECK(steps[0].begin_us == began_us);
  CHECK(steps[0].end_us == began_us + 3'000);
  CHECK(steps[1].step == BootStep::kRestoreIdentity);
  CHECK(snapshotter->TakeSteps().empty());
  WorkerReport many = ReportOf(Kind::kFound);
  std::memset(static_cast<void*>(&many.steps), 0x7f, sizeof many.steps);
  for (int i = 0; i < 5; ++i) Say(many);
  CHECK(snapshotter->TakeSteps().size() == BootTimeline::kMost);
}

TEST_CASE_FIXTURE(Desk, "what a restore needs may be started ahead of it, and waits for it") {
  snapshotter->Begin();
  snapshotter->Begin();
  REQUIRE(launcher.started.size() == 2);
  CHECK_FALSE(Hear());
  CHECK(begins == 0);
  SUBCASE("which comes") {
    SayKey();
    CHECK(answers == 0);
    Restore();
    CHECK(launcher.started.size() == 2);
    CHECK_FALSE(Hear());
    CHECK(begins == 1);
    Say(ReportOf(Kind::kFound));
    CHECK(Hear()->kind == WorkerRequest::Kind::kGoOn);
    CHECK(begins == 1);
  }
  SUBCASE("which does not come") {
    snapshotter->Cancel();
    CHECK(HasEnded(criu()));
    CHECK(HasEnded(worker()));
    Restore();
    CHECK(launcher.started.size() == 4);
  }
  SUBCASE("which finds that they have ended") {
    Restore();
    HangUp();
    CHECK(answers == 1);
    CHECK(restored->error().message() == "the worker has ended");
  }
}

TEST_CASE_FIXTURE(Desk, "what cannot be started ahead of a restore is told to it") {
  launcher.refuse = [](const auto&) { return Error("fork: the limit of processes is reached"); };
  snapshotter->Begin();
  CHECK(answers == 0);
  Restore();
  CHECK(answers == 0);
  clock.Advance(0ms);
  REQUIRE(answers == 1);
  CHECK(restored->error().message().find("limit of processes") != std::string::npos);
}

TEST_CASE_FIXTURE(Desk, "a dump that a process has left is done again, with the keeper") {
  Restore();
  SayKey();
  Say(ReportOf(Kind::kNothing, "", "none"));
  Dump();
  CHECK_FALSE(JobOf(worker(1)).with_keeper);
  Say(ReportOf(Kind::kFound), 1);
  snapshotter->Proceed();
  Say(ReportOf(Kind::kAgain), 1);
  CHECK(answers == 1);
  CHECK(HasEnded(criu(1)));
  REQUIRE(launcher.started.size() == 6);
  const snapshot::Job again = JobOf(worker(2));
  CHECK(again.kind == JobKind::kDump);
  CHECK(again.with_keeper);
  CHECK(again.key == kKey);
  CHECK(again.root == 1000);
  Say(ReportOf(Kind::kFound), 2);
  CHECK(readies == 2);
  SUBCASE("and made") {
    snapshotter->Proceed();
    Say(ReportOf(Kind::kResumed), 2);
    CHECK(resumed->ok());
    Say(ReportOf(Kind::kDone), 2);
    CHECK(published->ok());
  }
  SUBCASE("and the worker dies before CRIU is inside") {
    HangUp(2);
    CHECK(resumed->error().message() == "the worker has ended");
    CHECK_FALSE(broken);
  }
}

TEST_CASE_FIXTURE(Desk, "pids are raised only where a dump may follow") {
  options.dumps = false;
  Make();
  Restore();
  CHECK_FALSE(JobOf(worker()).raise_pids);
  SayKey();
  Say(ReportOf(Kind::kNothing, "", "none"));
  CHECK_FALSE(snapshotter->WantsDump());
}

TEST_CASE_FIXTURE(Desk, "what was found is restored, and its verdict is passed on") {
  Restore();
  SayKey();
  Say(ReportOf(Kind::kFound));
  REQUIRE(Hear()->kind == WorkerRequest::Kind::kGoOn);
  CHECK(answers == 0);
  WorkerReport report = ReportOf(Kind::kRestored);
  report.pid = 1500;
  report.other = 1501;
  report.value = 4096;
  report.cold_ms = 800;
  Say(report);
  REQUIRE(restored);
  REQUIRE(restored->ok());
  CHECK((*restored)->root == 1500);
  CHECK((*restored)->workload == 1501);
  CHECK((*restored)->cold == 800ms);
  CHECK((*restored)->bytes == 4096);
  clock.Advance(1h);  // there is no limit to the wait for the port but the supervisor's
  CHECK_FALSE(HasEnded(worker()));
  SUBCASE("it served") {
    snapshotter->RestoreServed(120ms, nullptr);
    const std::optional<WorkerRequest> told = Hear();
    REQUIRE(told);
    CHECK(told->kind == WorkerRequest::Kind::kServed);
    CHECK(told->value == 120);
  }
  std::string heard;
  SUBCASE("it did not") {
    snapshotter->RestoreFailed("not ready within 5000 ms", [&](const auto& judged) {
      heard = judged ? judged->standing : judged.error().message();
    });
    const std::optional<WorkerRequest> told = Hear();
    REQUIRE(told);
    CHECK(told->kind == WorkerRequest::Kind::kUseless);
    CHECK(BoardText(told->text) == "not ready within 5000 ms");
    CHECK(heard.empty());
    SUBCASE("and its files are taken back") {
      Say(ReportOf(Kind::kDone, "failed"));
      CHECK(heard == "failed");
      return;
    }
    SUBCASE("and the worker dies over it") {
      HangUp();
      CHECK(heard == "the worker has ended");
      return;
    }
    SUBCASE("and the worker takes for ever") {
      clock.Advance(Snapshotter::kJudgeLimit);
      CHECK(heard == "it could not be noted in time");
      CHECK(HasEnded(worker()));
      return;
    }
    SUBCASE("and the container ends") {
      snapshotter->Cancel();
      clock.Advance(1h);
      CHECK(heard.empty());
      return;
    }
  }
  const std::string place = work_dir();
  Say(ReportOf(Kind::kDone, "proven"));
  CHECK(log.Count("snapshot.done") == 1);
  CHECK(answers == 1);
  CHECK_FALSE(std::filesystem::exists(place));
  CHECK_FALSE(snapshotter->WantsDump());
}

TEST_CASE_FIXTURE(Desk,
                  "a guess that was wrong is begun anew, with another CRIU, without guessing") {
  Restore();
  CHECK(JobOf(worker()).guesses);
  const std::string place = work_dir();
  SayKey();
  Say(ReportOf(Kind::kAgain));
  CHECK(answers == 0);
  CHECK(HasEnded(criu()));
  CHECK_FALSE(std::filesystem::exists(place));
  REQUIRE(launcher.started.size() == 4);
  const snapshot::Job again = JobOf(worker(1));
  CHECK(again.kind == JobKind::kRestore);
  CHECK_FALSE(again.guesses);
  CHECK(again.image_identity == "key:v1");
  Say(ReportOf(Kind::kFound), 1);
  CHECK(Hear(1)->kind == WorkerRequest::Kind::kGoOn);
}

TEST_CASE_FIXTURE(Desk,
                  "a guess that has left processes is begun anew when it is called for again") {
  Restore();
  SayKey();
  WorkerReport report = ReportOf(Kind::kAgain);
  report.value = 1;
  Say(report);
  CHECK(answers == 1);
  CHECK(HasEnded(criu()));
  CHECK(launcher.started.size() == 2);
  CHECK(snapshotter->WantsAnotherRestore());
  Restore();
  CHECK_FALSE(snapshotter->WantsAnotherRestore());
  REQUIRE(launcher.started.size() == 4);
  const snapshot::Job again = JobOf(worker(1));
  CHECK_FALSE(again.guesses);
  CHECK(again.image_identity == "key:v1");
  Say(ReportOf(Kind::kFound), 1);
  CHECK(Hear(1)->kind == WorkerRequest::Kind::kGoOn);
}

TEST_CASE_FIXTURE(Desk, "who waits for a verdict hears once what was noted, or that nothing was") {
  std::vector<std::string> heard;
  const auto hear = [&heard](const Result<Snapshots::Judgement>& judged) {
    heard.push_back(judged ? judged->standing + ": " + judged->reason : judged.error().message());
  };
  Restore();
  SayKey();
  Say(ReportOf(Kind::kFound));
  WorkerReport report = ReportOf(Kind::kRestored);
  report.pid = 1500;
  Say(report);
  std::string expected;
  SUBCASE("proven") {
    snapshotter->RestoreServed(120ms, hear);
    CHECK(heard.empty());
    Say(ReportOf(Kind::kDone, "proven", "restored in 120 ms"));
    expected = "proven: restored in 120 ms";
  }
  SUBCASE("a failure is noted as well") {
    snapshotter->RestoreFailed("not ready", hear);
    Say(ReportOf(Kind::kDone, "unproven", "not ready"));
    expected = "unproven: not ready";
  }
  SUBCASE("it cannot be noted") {
    snapshotter->RestoreServed(120ms, hear);
    Say(ReportOf(Kind::kFailed, "", "no space left"));
    expected = "no space left";
  }
  SUBCASE("it takes for ever") {
    snapshotter->RestoreServed(120ms, hear);
    clock.Advance(Snapshotter::kJudgeLimit);
    expected = "it could not be noted in time";
  }
  SUBCASE("the worker has died before") {
    HangUp();
    snapshotter->RestoreServed(120ms, hear);
    CHECK(heard.empty());
    clock.Turn();
    expected = "it could not be noted in time";
  }
  SUBCASE("nobody wants to know any more") {
    snapshotter->RestoreServed(120ms, hear);
    snapshotter->Cancel();
    clock.Advance(1h);
    CHECK(heard.empty());
    return;
  }
  CHECK(heard == Words{expected});
  CHECK(HasEnded(worker()));
  clock.Advance(1h);
  CHECK(heard.size() == 1);
}

TEST_CASE_FIXTURE(Desk, "to create one a proven snapshot is enough, and any other gives way") {
  options.creates = true;
  Make();
  Restore();
  CHECK(JobOf(worker()).creates);
  SayKey();
  SUBCASE("proven") {
    Say(ReportOf(Kind::kProven, "", "restored in 24 ms"));
    CHECK(restored->error().message() == "there is a proven snapshot: restored in 24 ms");
    CHECK(snapshotter->HasProven());
    CHECK(HasEnded(worker()));
  }
  SUBCASE("none that is to be used") {
    Say(ReportOf(Kind::kNothing, "", "there is a snapshot, but it is quarantined"));
    CHECK_FALSE(snapshotter->HasProven());
    CHECK(snapshotter->WantsDump());
  }
  SUBCASE("one whose restore fails") {
    Say(ReportOf(Kind::kFound));
    Say(ReportOf(Kind::kFailed, "", "pid 1000 is taken"));
    CHECK_FALSE(restored->ok());
    CHECK(snapshotter->WantsDump());
  }
}

TEST_CASE_FIXTURE(Desk,
                  "another user's CRIU runs as that user, without what makes it change users") {
  process::Credentials other;
  other.uid = ::geteuid() + 1;
  other.gid = 1001;
  other.groups = {1001, 2000};
  options.credentials = other;
  Make();
  Restore();
  REQUIRE(criu().spec.credentials);
  CHECK(criu().spec.credentials->uid == other.uid);
  CHECK(criu().spec.credentials->groups == other.groups);
  REQUIRE(criu().spec.capabilities);
  CHECK((*criu().spec.capabilities & (uint64_t{1} << CAP_SETUID | uint64_t{1} << CAP_SETGID)) == 0);
  CHECK_FALSE(worker().spec.credentials);
}

TEST_CASE_FIXTURE(Desk, "where nothing is found it says why, ends its helpers, and wants a dump") {
  Restore();
  const std::string place = work_dir();
  CHECK_FALSE(snapshotter->WantsDump());
  SayKey();
  Say(ReportOf(Kind::kNothing, "", "there is no snapshot of this key yet"));
  REQUIRE(restored);
  CHECK(restored->error().message() == "there is no snapshot of this key yet");
  CHECK(answers == 1);
  CHECK(HasEnded(criu()));
  CHECK(HasEnded(worker()));
  CHECK_FALSE(std::filesystem::exists(place));
  CHECK(snapshotter->WantsDump());
  CHECK(tree.helpers.size() == 2);  // until they are reaped
  Exit(criu(), ExitStatus::Signal(SIGKILL));
  Exit(worker(), ExitStatus::Signal(SIGKILL));
  CHECK(tree.helpers.empty());
}

TEST_CASE_FIXTURE(Desk, "where there is one that is not to be used, no dump is wanted either") {
  Restore();
  SayKey();
  WorkerReport report = ReportOf(Kind::kNothing, "", "its snapshot is quarantined");
  report.value = 1;
  Say(report);
  CHECK(answers == 1);
  CHECK_FALSE(snapshotter->WantsDump());
}

TEST_CASE_FIXTURE(Desk, "without an identity of the image snapshots stay off, and it is said how") {
  Restore();
  Say(ReportOf(Kind::kKey, "", "too many files"));
  REQUIRE(restored);
  CHECK(restored->error().message() ==
        "no identity of the image: too many files; write one with --snapshot-key");
  CHECK_FALSE(snapshotter->WantsDump());
}

TEST_CASE_FIXTURE(Desk, "a worker that dies, or says what nobody understands, is a cold start") {
  Restore();
  SUBCASE("at once") { HangUp(); }
  SUBCASE("with the key told") {
    SayKey();
    HangUp();
  }
  SUBCASE("during the restore") {
    SayKey();
    Say(ReportOf(Kind::kFound));
    HangUp();
  }
  SUBCASE("nonsense") { Say(ReportOf(static_cast<Kind>(77))); }
  SUBCASE("less than a report") {
    REQUIRE(::send(channel(), "abc", 3, 0) == 3);
    Turn();
  }
  SUBCASE("more than a report") {
    const std::string much(sizeof(WorkerReport) + 1, 'x');
    REQUIRE(::send(channel(), much.data(), much.size(), 0) > 0);
    Turn();
    // It is cut to size, and of a kind that there is none of.
  }
  REQUIRE(restored);
  CHECK_FALSE(restored->ok());
  CHECK(answers == 1);
  CHECK(HasEnded(criu()));
  CHECK(HasEnded(worker()));
}

TEST_CASE_FIXTURE(Desk, "a CRIU that hangs is ended at the limit, so that the worker notes it") {
  Restore();
  SayKey();
  Say(ReportOf(Kind::kFound));
  clock.Advance(29'999ms);
  CHECK(criu().signals.empty());
  clock.Advance(1ms);
  CHECK(HasEnded(criu()));
  CHECK(worker().signals.empty());
  CHECK(answers == 0);
  SUBCASE("and the worker does") {
    Say(ReportOf(Kind::kFailed, "", "criu: it has ended without an answer"));
  }
  SUBCASE("and the worker hangs too") { clock.Advance(Snapshotter::kWorkerGrace); }
  SUBCASE("and the worker dies of it") { HangUp(); }
  REQUIRE(restored);
  CHECK(restored->error().message() == "not done within 30000 ms");
  CHECK(answers == 1);
  CHECK(HasEnded(worker()));
  clock.Advance(1h);
  CHECK(answers == 1);
}

TEST_CASE_FIXTURE(Desk, "a restore that succeeds at its very limit is one") {
  Restore();
  SayKey();
  Say(ReportOf(Kind::kFound));
  clock.Advance(30s);
  WorkerReport report = ReportOf(Kind::kRestored);
  report.pid = 1500;
  Say(report);
  REQUIRE(restored);
  CHECK(restored->ok());
  clock.Advance(1h);
  CHECK(worker().signals.empty());
}

// Memory that comes back as it is touched.
struct LazyDesk : Desk {
  LazyDesk() {
    snapshotter->WatchMemory([this](const Result<PageHelper::AllIn>& end) { memory.emplace(end); });
    Restore();
    SayKey();
    WorkerReport report = ReportOf(Kind::kFound);
    report.other = 1;
    Say(report);
  }
  Started& pages() { return launcher.started.at(2); }
  Started& holder() { return launcher.started.at(3); }
  void SayPages(snapshot::PagesReport::Kind kind, const std::string& reason = "") {
    snapshot::PagesReport report{};
    report.kind = kind;
    report.pid = kHolder;
    report.pages = 10;
    report.faults = 3;
    report.ms = 70;
    SetBoardText(report.reason, reason);
    const int fd = inherited[pages().pid][snapshot::kPagesChannelFd].get();
    REQUIRE(::send(fd, &report, sizeof report, MSG_NOSIGNAL) == sizeof report);
    Turn();
  }
  void SayRestored() {
    WorkerReport report = ReportOf(Kind::kRestored);
    report.pid = 1500;
    Say(report);
  }
  std::string problem() const { return restored && !*restored ? restored->error().message() : ""; }

  static constexpr pid_t kHolder = 1777;
  std::optional<Result<PageHelper::AllIn>> memory;
};

using PagesKind = snapshot::PagesReport::Kind;

TEST_CASE_FIXTURE(LazyDesk, "memory that is to come lazily has a page server before CRIU begins") {
  REQUIRE(launcher.started.size() == 3);
  CHECK(pages().spec.argv == Words{snapshot::kPagesArgv0});
  CHECK(pages().spec.executable == "/proc/self/exe");
  CHECK(pages().spec.parent_death_signal == 0);
  auto& fds = inherited[pages().pid];
  CHECK(fds.size() == 3);
  CHECK(fds[snapshot::kPagesListenerFd]);
  CHECK(std::filesystem::exists(work_dir() + "/" + snapshot::kPagesSocket));
  const std::optional<WorkerRequest> request = Hear();
  REQUIRE(request);
  CHECK(request->kind == WorkerRequest::Kind::kGoOn);
  CHECK(request->value == 1);
  SayPages(PagesKind::kHolder);
  CHECK(tree.helpers.contains(pages().pid));
  CHECK(tree.helpers.contains(kHolder));
  SayRestored();
  REQUIRE((restored && *restored));
  CHECK((*restored)->lazy);
  CHECK_FALSE(memory);
  SayPages(PagesKind::kDone);
  REQUIRE((memory && *memory));
  CHECK((*memory)->pages == 10);
  CHECK((*memory)->faults == 3);
  CHECK((*memory)->took == 70ms);
  CHECK(log.Count("snapshot.pages") == 1);
  Exit(pages(), ExitStatus::Code(0));
  Exit(holder(), ExitStatus::Code(0));
  CHECK_FALSE(tree.helpers.contains(pages().pid));
  CHECK_FALSE(tree.helpers.contains(kHolder));
}

TEST_CASE_FIXTURE(LazyDesk, "it stays when the worker ends, and at a stop") {
  SayRestored();
  Say(ReportOf(Kind::kDone, "proven"));
  snapshotter->Cancel();
  CHECK(pages().signals.empty());
  SayPages(PagesKind::kDone);
  CHECK(memory);
}

TEST_CASE_FIXTURE(LazyDesk, "what a snapshot is worth is told when all of its memory was read") {
  REQUIRE(Hear());
  SayRestored();
  snapshotter->RestoreServed(50ms, nullptr);
  CHECK_FALSE(Hear());
  SUBCASE("and was right") {
    SayPages(PagesKind::kDone);
    const std::optional<WorkerRequest> request = Hear();
    REQUIRE(request);
    CHECK(request->kind == WorkerRequest::Kind::kServed);
    CHECK(request->value == 50);
  }
  SUBCASE("and was damaged") {
    SayPages(PagesKind::kFailed, "pages-7.img: is damaged, its checksum differs");
    REQUIRE((memory && !*memory));
    CHECK_FALSE(Hear());
    snapshotter->RestoreFailed("lazy pages: damaged", nullptr);
    const std::optional<WorkerRequest> request = Hear();
    REQUIRE(request);
    CHECK(request->kind == WorkerRequest::Kind::kUseless);
    CHECK(BoardText(request->text) == "lazy pages: damaged");
  }
}

TEST_CASE_FIXTURE(LazyDesk, "a page server that fails during the restore makes it fail") {
  const std::string why = "pages-7.img: Bad address";
  SayPages(PagesKind::kFailed, why);
  CHECK(HasEnded(criu()));
  CHECK_FALSE(HasEnded(worker()));
  CHECK(answers == 0);
  SUBCASE("the worker notes it") {
    Say(ReportOf(Kind::kFailed, "", "criu: it has ended without an answer"));
  }
  SUBCASE("the worker says nothing") { clock.Advance(Snapshotter::kWorkerGrace); }
  CHECK(problem() == "lazy pages: " + why);
  CHECK_FALSE(memory);
}

TEST_CASE_FIXTURE(LazyDesk,
                  "memory that is lost while CRIU has just been done is told after that") {
  SayPages(PagesKind::kFailed, "x");
  CHECK_FALSE(memory);
  SayRestored();
  REQUIRE((restored && *restored));
  REQUIRE(memory);
  CHECK(memory->error().message() == "x");
}

TEST_CASE_FIXTURE(LazyDesk, "a page server that dies during the restore makes it fail likewise") {
  Exit(pages(), ExitStatus::Signal(SIGKILL));
  CHECK(HasEnded(criu()));
  HangUp();
  CHECK(problem() == "lazy pages: the page server has ended with signal SIGKILL");
}

TEST_CASE_FIXTURE(LazyDesk, "memory that is lost later is told, and released with the tree") {
  SayPages(PagesKind::kHolder);
  SayRestored();
  Exit(pages(), ExitStatus::Signal(SIGKILL));
  REQUIRE(memory);
  REQUIRE_FALSE(*memory);
  CHECK(memory->error().message() == "the page server has ended with signal SIGKILL");
  CHECK(holder().signals.empty());
  snapshotter->ReleaseMemory();
  CHECK(HasEnded(holder()));
  CHECK_FALSE(tree.helpers.contains(kHolder));
}

TEST_CASE("a page server that cannot be started is a restore of everything at once") {
  Desk desk;
  desk.launcher.refuse = [](const process::LaunchSpec& spec) -> std::optional<Error> {
    if (spec.argv.front() == snapshot::kPagesArgv0) return Error("fork: no more processes");
    return std::nullopt;
  };
  desk.Restore();
  desk.SayKey();
  WorkerReport report = Desk::ReportOf(Kind::kFound);
  report.other = 1;
  desk.Say(report);
  CHECK(desk.Hear()->value == 0);
  CHECK(desk.log.Count("snapshot.pages") == 1);
  report = Desk::ReportOf(Kind::kRestored);
  report.pid = 1500;
  desk.Say(report);
  REQUIRE((desk.restored && *desk.restored));
  CHECK_FALSE((*desk.restored)->lazy);
}

TEST_CASE_FIXTURE(Desk, "a helper that cannot be started is a cold start, told from the loop") {
  for (const bool is_criu : {true, false}) {
    CAPTURE(is_criu);
    Desk desk;
    desk.launcher.refuse = [is_criu](const process::LaunchSpec& spec) -> std::optional<Error> {
      if ((spec.argv[0] == "criu") != is_criu) return std::nullopt;
      return Error("fork: Resource temporarily unavailable");
    };
    desk.Restore();
    CHECK(desk.answers == 0);
    desk.clock.Turn();
    REQUIRE(desk.restored);
    CHECK(desk.restored->error().message() ==
          std::string(is_criu ? "snapshot: criu: " : "snapshot: worker: ") +
              "fork: Resource temporarily unavailable");
    CHECK(desk.answers == 1);
    for (Started& one : desk.launcher.started) CHECK(desk.HasEnded(one));
  }
}

TEST_CASE_FIXTURE(Desk, "a dump waits for the word to proceed, and publishes behind the scenes") {
  Restore();
  SayKey();
  Say(ReportOf(Kind::kNothing, "", "none"));
  Dump();
  REQUIRE(launcher.started.size() == 4);
  const snapshot::Job job = JobOf(worker(1));
  CHECK(job.kind == JobKind::kDump);
  CHECK(job.key == kKey);
  CHECK(job.image_identity == "key:v1");
  CHECK(job.root == 1000);
  CHECK(job.workload == 1001);
  CHECK(job.cold_ms == 800);
  CHECK(job.hooks_ms == 90);
  CHECK(job.listening == "0.0.0.0:8000");
  // The first two are reaped only now, and forgotten.
  Exit(criu(), ExitStatus::Signal(SIGKILL));
  Exit(worker(), ExitStatus::Signal(SIGKILL));
  CHECK(tree.helpers == std::set<pid_t>{criu(1).pid, worker(1).pid});

  Say(ReportOf(Kind::kFound), 1);
  CHECK(readies == 1);
  CHECK_FALSE(Hear(1));
  snapshotter->Proceed();
  CHECK(Hear(1)->kind == WorkerRequest::Kind::kGoOn);
  Say(ReportOf(Kind::kResumed), 1);
  REQUIRE(resumed);
  CHECK(resumed->ok());
  CHECK_FALSE(HasEnded(worker(1)));
  SUBCASE("all is well") {
    Say(ReportOf(Kind::kDone), 1);
    CHECK(log.Count("snapshot.done") == 1);
    CHECK(published->ok());
  }
  SUBCASE("it cannot be published") {
    Say(ReportOf(Kind::kFailed, "", "no space left"), 1);
    CHECK(published->error().message() == "no space left");
  }
  SUBCASE("publishing takes for ever") {
    clock.Advance(120s);
    clock.Advance(Snapshotter::kWorkerGrace);
    CHECK(published->error().message() == "not done within 120000 ms");
  }
  CHECK(HasEnded(worker(1)));
  CHECK(answers == 3);
  CHECK_FALSE(snapshotter->WantsDump());
}

TEST_CASE_FIXTURE(Desk, "a dump that comes to nothing is told once, and the tree was left alone") {
  Restore();
  SayKey();
  Say(ReportOf(Kind::kNothing, "", "none"));
  Dump();
  SUBCASE("declined") {
    Say(ReportOf(Kind::kNothing, "", "somebody makes one"), 1);
    CHECK(resumed->error().message() == "somebody makes one");
  }
  SUBCASE("failed") {
    Say(ReportOf(Kind::kFound), 1);
    snapshotter->Proceed();
    Say(ReportOf(Kind::kFailed, "", "Connected TCP socket"), 1);
    CHECK(resumed->error().message() == "Connected TCP socket");
  }
  SUBCASE("dead") {
    HangUp(1);
    CHECK(resumed->error().message() == "the worker has ended");
  }
  SUBCASE("late") {
    clock.Advance(120s);
    CHECK(HasEnded(criu(1)));
    clock.Advance(Snapshotter::kWorkerGrace);
    CHECK(resumed->error().message() == "not done within 120000 ms");
  }
  REQUIRE(resumed);
  CHECK_FALSE(resumed->ok());
  CHECK(answers == 2);
  CHECK(HasEnded(criu(1)));
  CHECK(HasEnded(worker(1)));
}

TEST_CASE_FIXTURE(Desk, "a dump that ends without CRIU's own word has broken the tree") {
  Restore();
  SayKey();
  Say(ReportOf(Kind::kNothing, "", "none"));
  Dump();
  Say(ReportOf(Kind::kFound), 1);
  snapshotter->Proceed();
  SUBCASE("CRIU was gone in the middle") {
    WorkerReport report = ReportOf(Kind::kFailed, "", "criu: it has ended without an answer");
    report.value = 1;
    Say(report, 1);
    REQUIRE(broken);
    CHECK(*broken == "criu: it has ended without an answer");
  }
  SUBCASE("the worker was") {
    HangUp(1);
    REQUIRE(broken);
    CHECK(*broken == "the worker has ended");
  }
  SUBCASE("it was ended at its limit") {
    clock.Advance(120s);
    clock.Advance(Snapshotter::kWorkerGrace);
    REQUIRE(broken);
    CHECK(*broken == "not done within 120000 ms");
  }
  CHECK_FALSE(resumed);
  CHECK(HasEnded(criu(1)));
  CHECK(HasEnded(worker(1)));
}

TEST_CASE_FIXTURE(Desk, "a CRIU that did not end well leaves no helpers of its own behind") {
  Restore();
  SUBCASE("it was killed") {
    Exit(criu(), ExitStatus::Signal(SIGKILL));
    CHECK(criu().group_signals == std::vector<int>{SIGKILL});
  }
  SUBCASE("it has failed") {
    Exit(criu(), ExitStatus::Code(1));
    CHECK(criu().group_signals == std::vector<int>{SIGKILL});
  }
  SUBCASE("all is well: what it has restored lives on") {
    Exit(criu(), ExitStatus::Code(0));
    CHECK(criu().group_signals.empty());
  }
}

TEST_CASE_FIXTURE(Desk, "after Cancel() nothing is told any more, and nobody runs") {
  Restore();
  SayKey();
  const std::string place = work_dir();
  SUBCASE("by its owner") { snapshotter->Cancel(); }
  SUBCASE("by its end") { snapshotter.reset(); }
  CHECK(HasEnded(criu()));
  CHECK(HasEnded(worker()));
  CHECK_FALSE(std::filesystem::exists(place));
  HangUp();
  clock.Advance(1h);
  CHECK(answers == 0);
}

TEST_CASE_FIXTURE(Desk, "a verdict that nobody waits for any more is dropped") {
  Restore();
  SayKey();
  Say(ReportOf(Kind::kNothing, "", "none"));
  snapshotter->RestoreServed(1ms, nullptr);
  bool is_answered = false;
  snapshotter->RestoreFailed("x", [&](const auto& judged) { is_answered = !judged.ok(); });
  CHECK_FALSE(is_answered);  // from the loop
  clock.Turn();
  CHECK(is_answered);
  CHECK(log.Count("snapshot.failed") == 0);
}

}  // namespace
}  // namespace modal::lifecycle

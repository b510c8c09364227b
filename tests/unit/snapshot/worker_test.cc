#include "snapshot/worker.h"

#include <doctest/doctest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <optional>

#include "agent/base/status_board.h"
#include "agent/base/strings.h"
#include "snapshot/changed_files.h"
#include "snapshot/userfaultfd.h"
#include "tests/unit/snapshot/file_tree.h"
#include "tests/unit/snapshot/store_fixture.h"

namespace modal::snapshot {
namespace {

using Kind = WorkerReport::Kind;
using Kinds = std::vector<Kind>;
using testing::FileTree;

bool Holds(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// Dumps one small file, restores nothing.
class FakeCriu : public Criu {
 public:
  std::optional<DumpSpec> dumped;
  std::optional<Error> failure;
  bool leaves_tree_suspect = false;
  std::function<void()> on_dump;     // before anything is frozen
  std::function<void()> on_begin;    // of a restore
  std::function<void()> on_images;   // it knows what the tree is to be
  std::function<void()> on_restore;  // it has been agreed to
  bool fails_at_once = false;        // a restore: before it has asked
  int restores_begun = 0;
  std::optional<RestoreSpec> restored;  // agreed to
  bool is_running = false;

  Result<CriuTimes> Dump(const DumpSpec& spec) override {
    dumped = spec;
    if (on_dump) on_dump();
    if (Result<void> put = Put(spec.images_dir + "/pages-1.img", "memory"); !put) {
      return std::move(put.error());
    }
    spec.on_moment(CriuMoment::kFrozen);
    if (Result<void> looked = spec.when_frozen(); !looked) return std::move(looked.error());
    if (failure) return *failure;
    if (Result<void> done = spec.while_frozen(); !done) return std::move(done.error());
    return CriuTimes{Milliseconds(12), 3};
  }
  bool HasLeftTreeSuspect() const override { return leaves_tree_suspect; }
  Result<Restored> Restore(const RestoreSpec& spec) override {
    ++restores_begun;
    if (on_begin) on_begin();
    spec.on_moment(CriuMoment::kUp);
    if (failure && fails_at_once) return *failure;
    if (on_images) on_images();
    spec.on_moment(CriuMoment::kImagesRead);
    if (Result<void> agreed = spec.before_processes(); !agreed) return std::move(agreed.error());
    restored = spec;
    if (on_restore) on_restore();
    if (failure) return *failure;
    spec.on_moment(CriuMoment::kInPlace);
    if (Result<void> ready = spec.before_running(); !ready) return std::move(ready.error());
    is_running = true;
    return Restored{4321, {Milliseconds(0), 5}};
  }
};

class FakeChannel : public WorkerChannel {
 public:
  std::vector<WorkerReport> reports;
  std::deque<WorkerRequest> requests;  // none left: the supervisor is gone
  bool begins = true;                  // of a restore: it is told to begin before all else

  void Report(const WorkerReport& report) override { reports.push_back(report); }
  Result<WorkerRequest> Await() override {
    if (std::exchange(begins, false)) return WorkerRequest{};
    if (requests.empty()) return Error("the supervisor is gone");
    const WorkerRequest next = requests.front();
    requests.pop_front();
    return next;
  }
  void Tell(WorkerRequest::Kind kind, int64_t value = 0, std::string_view text = "") {
    WorkerRequest& request = requests.emplace_back();
    request.kind = kind;
    request.value = value;
    SetBoardText(request.text, text);
  }
  Kinds kinds() const {
    Kinds kinds;
    for (const WorkerReport& report : reports) kinds.push_back(report.kind);
    return kinds;
  }
  std::string last_reason() const { return std::string(BoardText(reports.back().reason)); }
  std::string last_text() const { return std::string(BoardText(reports.back().text)); }
};

int64_t Now(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

struct Workshop : StoreFixture {
  Workshop() {
    std::filesystem::create_directories(work_dir);
    root.Folder("srv");
    job.folder = folder;
    job.work_dir = work_dir;
    job.explicit_key = "v1";
    job.inputs.command = {"./server"};
    job.inputs.environment = {"COLOUR=blue", "HOSTNAME=abc"};
    job.inputs.kernel = "6.1.0";
    job.root = ::getpid();
    job.workload = 1234;
    job.listening = "0.0.0.0:8000";
    job.cold_ms = 800;
    job.hooks_ms = 90;
    job.since_ns = Now(CLOCK_REALTIME) + int64_t{3600} * 1'000'000'000;  // nothing is newer
  }

  // Each is a worker of its own.
  const FakeChannel& Run(JobKind kind) {
    channel.reports.clear();
    channel.begins = kind == JobKind::kRestore;
    job.kind = kind;
    Worker(criu, channel, root.path()).Do(job);
    return channel;
  }
  std::string KeyOfThis() {
    FakeChannel asked;
    Job question = job;
    question.kind = JobKind::kRestore;
    Worker(criu, asked, root.path()).Do(question);
    return std::string(BoardText(asked.reports.at(0).text));
  }
  const FakeChannel& Dump() {
    job.key = KeyOfThis();
    job.image_identity = "key:v1";
    channel.Tell(WorkerRequest::Kind::kGoOn);
    return Run(JobKind::kDump);
  }
  // A snapshot of this key that says of itself what a test wants.
  void Publish(Manifest manifest = SomeManifest()) {
    manifest.times.cold_ms = 800;
    REQUIRE(Problem(Make(*store, KeyOfThis(), std::move(manifest))) == "");
  }
  Verdict verdict() {
    const Result<Verdict> read = store->ReadVerdict(KeyOfThis());
    REQUIRE(read);
    return *read;
  }

  const std::string work_dir = temp.path() + "/work";
  FileTree root;
  Job job;
  FakeCriu criu;
  FakeChannel channel;
};

// What was told of, in order: "restore.memory", "restore.memory failed"; each step ends where the
// next one begins or before.
std::vector<std::string> Steps(const FakeChannel& channel) {
  std::vector<std::string> steps;
  int64_t last_us = 0;
  for (const WorkerReport& report : channel.reports) {
    for (const BootSpan& span : report.steps.spans()) {
      CHECK(span.begin_us >= last_us);
      CHECK(span.end_us >= span.begin_us);
      last_us = span.end_us;
      steps.push_back(Concat(BootStepName(span.step), span.failed ? " failed" : ""));
    }
  }
  return steps;
}
using Words = std::vector<std::string>;

// Restores ----------------------------------------------------------------------------------------

TEST_CASE_FIXTURE(Workshop, "a restore job tells the key, and that there is nothing of it yet") {
  Run(JobKind::kRestore);
  REQUIRE(channel.kinds() == Kinds{Kind::kKey, Kind::kNothing});
  CHECK(IsKey(BoardText(channel.reports[0].text)));
  CHECK(BoardText(channel.reports[0].reason) == "key:v1");
  CHECK(channel.last_reason() == "there is no snapshot of this key yet");
  CHECK(channel.reports[1].value == 0);
  CHECK_FALSE(criu.restored);
}

TEST_CASE_FIXTURE(Workshop,
                  "without an identity of the image there is no key, and no more is done") {
  job.explicit_key.clear();
  job.fingerprint.executable = root.At("no-such-program");
  job.fingerprint.workdir = root.At("no-such-folder");
  Run(JobKind::kRestore);
  REQUIRE(channel.kinds() == Kinds{Kind::kKey});
  CHECK(channel.last_text().empty());
  CHECK_FALSE(channel.last_reason().empty());
}

TEST_CASE_FIXTURE(Workshop, "a folder that is none is a cold start that says so") {
  REQUIRE(Put(temp.path() + "/file", "x").ok());
  job.folder = temp.path() + "/file";
  Run(JobKind::kRestore);
  REQUIRE(channel.kinds() == Kinds{Kind::kKey, Kind::kNothing});
  CHECK(Holds(channel.last_reason(), job.folder));
}

TEST_CASE_FIXTURE(Workshop, "a snapshot is restored when told to, and judged by how it served") {
  Manifest manifest = SomeManifest();
  manifest.workload = 1501;
  manifest.descriptors = {{1, "pipe:[11]"}, {2, "pipe:[22]"}};
  Publish(manifest);
  channel.Tell(WorkerRequest::Kind::kGoOn);
  channel.Tell(WorkerRequest::Kind::kServed, 120);
  Run(JobKind::kRestore);
  REQUIRE(channel.kinds() == Kinds{Kind::kKey, Kind::kFound, Kind::kRestored, Kind::kDone});
  CHECK(channel.reports[1].value > 9000);
  CHECK(channel.reports[1].cold_ms == 800);
  CHECK(channel.reports[2].pid == 4321);
  CHECK(channel.reports[2].other == 1501);
  CHECK(channel.reports[2].value == 5 * 4096);
  CHECK(channel.reports[2].cold_ms == 800);
  CHECK(channel.last_text() == "proven");
  REQUIRE(criu.restored);
  CHECK(criu.restored->images_dir == folder + "/" + KeyOfThis() + "/images");
  CHECK(criu.restored->work_dir == work_dir);
  REQUIRE(criu.restored->descriptors.size() == 2);
  CHECK(criu.restored->descriptors[0].id == "pipe:[11]");
  CHECK(criu.restored->descriptors[0].fd == kCriuFirstDescriptorFd);
  CHECK(criu.restored->descriptors[1].fd == kCriuFirstDescriptorFd + 1);
  CHECK(verdict().restores == 1);
  CHECK(verdict().last_restore_ms == 120);
  CHECK(Steps(channel) == Words{"restore.identity", "restore.find", "restore.criu", "restore.files",
                                "restore.images", "restore.memory", "restore.resume"});
}

TEST_CASE_FIXTURE(Workshop, "each step of a job is told of, and the one in which it fails") {
  SUBCASE("a cold start that is to be dumped") {
    Run(JobKind::kRestore);
    CHECK(Steps(channel) == Words{"restore.identity", "restore.find"});
  }
  SUBCASE("a restore that fails") {
    Publish();
    criu.failure = Error("criu restore: pid 1000 is taken");
    channel.Tell(WorkerRequest::Kind::kGoOn);
    Run(JobKind::kRestore);
    CHECK(Steps(channel) == Words{"restore.identity", "restore.find", "restore.criu",
                                  "restore.files", "restore.images", "restore.memory failed"});
  }
  SUBCASE("a dump") {
    Dump();
    CHECK(Steps(channel) == Words{"dump.criu", "dump.frozen", "dump.written"});
  }
  SUBCASE("a dump that fails") {
    criu.failure = Error("criu dump: it may not");
    Dump();
    CHECK(Steps(channel) == Words{"dump.criu", "dump.frozen failed"});
  }
}

TEST_CASE_FIXTURE(Workshop, "a restore that gains too little is not done again, nor dumped anew") {
  Publish();
  channel.Tell(WorkerRequest::Kind::kGoOn);
  channel.Tell(WorkerRequest::Kind::kServed, 790);
  Run(JobKind::kRestore);
  CHECK(channel.last_text() == "not-worth-it");
  criu.restored.reset();
  Run(JobKind::kRestore);
  REQUIRE(channel.kinds() == Kinds{Kind::kKey, Kind::kNothing});
  CHECK(Holds(channel.last_reason(), "not worth it"));
  CHECK(channel.reports.back().value == 1);  // it is there all the same
  CHECK_FALSE(criu.restored);
}

TEST_CASE_FIXTURE(Workshop,
                  "two restores that fail quarantine the key, and the third is not tried") {
  Publish();
  criu.failure = Error("criu restore: pid 1000 is taken");
  for (int round = 0; round < 2; ++round) {
    channel.Tell(WorkerRequest::Kind::kGoOn);
    Run(JobKind::kRestore);
    REQUIRE(channel.kinds() == Kinds{Kind::kKey, Kind::kFound, Kind::kFailed});
    CHECK(channel.last_reason() == "criu restore: pid 1000 is taken");
    CHECK(verdict().failures == static_cast<uint32_t>(round) + 1);
  }
  Run(JobKind::kRestore);
  REQUIRE(channel.kinds() == Kinds{Kind::kKey, Kind::kNothing});
  CHECK(Holds(channel.last_reason(), "quarantined: criu restore: pid 1000 is taken"));
  CHECK(Holds(channel.last_reason(), "snapshot delete"));
  CHECK(channel.reports.back().value == 1);
}

TEST_CASE_FIXTURE(Workshop, "a restored tree that did not serve counts as a failure") {
  Publish();
  channel.Tell(WorkerRequest::Kind::kGoOn);
  channel.Tell(WorkerRequest::Kind::kUseless, 0, "not ready within 5000 ms");
  Run(JobKind::kRestore);
  CHECK(channel.kinds().back() == Kind::kDone);
  CHECK(channel.last_reason() == "not ready within 5000 ms");
  CHECK(verdict().failures == 1);
  CHECK(verdict().restores == 0);
}

TEST_CASE_FIXTURE(Workshop,
                  "a supervisor that goes away before the restore is none of its failures") {
  Publish();
  Run(JobKind::kRestore);
  CHECK(channel.kinds() == Kinds{Kind::kKey, Kind::kFound, Kind::kFailed});
  CHECK_FALSE(criu.restored);
  CHECK(verdict().failures == 0);
}

TEST_CASE_FIXTURE(Workshop, "a supervisor that goes away before the verdict leaves it open") {
  Publish();
  channel.Tell(WorkerRequest::Kind::kGoOn);
  Run(JobKind::kRestore);
  CHECK(channel.kinds() == Kinds{Kind::kKey, Kind::kFound, Kind::kRestored});
  CHECK(verdict().failures == 0);
  CHECK(verdict().restores == 0);
}

TEST_CASE_FIXTURE(Workshop, "a damaged snapshot is a cold start and a failure of it") {
  Publish();
  std::filesystem::resize_file(PathOf("images/pages-1.img", KeyOfThis()), 4096);
  // KeyOfThis() itself has looked at it and noted one.
  const uint32_t before = verdict().failures;
  Run(JobKind::kRestore);
  REQUIRE(channel.kinds() == Kinds{Kind::kKey, Kind::kNothing});
  CHECK(Holds(channel.last_reason(), "pages-1.img"));
  CHECK(channel.reports.back().value == 1);
  CHECK(verdict().failures > before);
  CHECK_FALSE(criu.restored);
}

TEST_CASE_FIXTURE(Workshop, "a changed byte of an image is a failure of it before anything runs") {
  Publish();
  const auto flip = [this](const std::string& name) {
    std::string bytes = ReadAll(PathOf(name, KeyOfThis()));
    bytes[0] ^= 1;
    REQUIRE(Put(PathOf(name, KeyOfThis()), bytes).ok());
  };
  channel.Tell(WorkerRequest::Kind::kGoOn);
  SUBCASE("of memory: CRIU reads it meanwhile, and is refused the last step") {
    flip("images/pages-1.img");
    Run(JobKind::kRestore);
    CHECK(criu.restored);
    CHECK(Holds(channel.last_reason(), "pages-1.img: is damaged"));
  }
  SUBCASE("of anything else: CRIU never sees it") {
    flip("images/core-1.img");
    Run(JobKind::kRestore);
    CHECK_FALSE(criu.restored);
    CHECK(Holds(channel.last_reason(), "core-1.img: is damaged"));
  }
  CHECK(channel.kinds() == Kinds{Kind::kKey, Kind::kFound, Kind::kFailed});
  CHECK(verdict().failures == 1);
}

TEST_CASE_FIXTURE(Workshop, "a damaged verdict lifts no rule") {
  Manifest manifest = SomeManifest();
  manifest.uptime_ms = static_cast<uint64_t>(Now(CLOCK_BOOTTIME) / 1'000'000 + 3'600'000);
  Publish(manifest);
  REQUIRE(Put(folder + "/" + KeyOfThis() + ".verdict", "{").ok());
  Run(JobKind::kRestore);
  CHECK(Holds(channel.last_reason(), "its clocks would go back"));
}

TEST_CASE_FIXTURE(Workshop, "a snapshot of a machine that has run for longer is left alone") {
  Manifest manifest = SomeManifest();
  manifest.uptime_ms = static_cast<uint64_t>(Now(CLOCK_BOOTTIME) / 1'000'000 + 3'600'000);
  Publish(manifest);
  Run(JobKind::kRestore);
  REQUIRE(channel.kinds() == Kinds{Kind::kKey, Kind::kNothing});
  CHECK(Holds(channel.last_reason(), "its clocks would go back"));
  CHECK(channel.reports.back().value == 1);
  CHECK(verdict().failures == 0);
}

TEST_CASE_FIXTURE(
    Workshop, "carried files that cannot be put back are a failed restore, before any process") {
  Manifest manifest = SomeManifest();
  manifest.carried_files = 1;
  Contents contents = SomeContents();
  contents["files.tar"] = "no archive at all";
  REQUIRE(Problem(Make(*store, KeyOfThis(), manifest, contents)) == "");
  channel.Tell(WorkerRequest::Kind::kGoOn);
  Run(JobKind::kRestore);
  CHECK(channel.kinds().back() == Kind::kFailed);
  CHECK_FALSE(criu.restored);
  CHECK(verdict().failures == 1);
}

// Begun on a likely key ---------------------------------------------------------------------------

// An image without a name: its identity is a fingerprint of /srv.
struct Unnamed : Workshop {
  Unnamed() {
    job.explicit_key.clear();
    job.fingerprint.root = root.path();
    job.fingerprint.executable = "/srv/server";
    job.fingerprint.workdir = "/srv";
    root.File("srv/server", "#!/bin/sh\n", 1'600'000'000, 0755);
    root.File("srv/app.py", "print(1)");
  }
  // Of the image as it is now, with a file that travels.
  std::string Take(int64_t created = 0) {
    FakeChannel asked;
    Job question = job;
    FakeCriu unused;
    Worker(unused, asked, root.path()).Do(question);
    const std::string key(BoardText(asked.reports.at(0).text));
    Manifest manifest = SomeManifest();
    manifest.image_identity = BoardText(asked.reports.at(0).reason);
    manifest.times.cold_ms = 800;
    manifest.carried_files = 1;
    Contents contents = SomeContents();
    contents["files.tar"] = "no archive at all";
    REQUIRE(Problem(Make(*store, key, manifest, contents)) == "");
    const timespec times[2] = {{created, 0}, {created, 0}};
    REQUIRE(::utimensat(AT_FDCWD, (folder + "/" + key).c_str(), times, 0) == 0);
    return key;
  }
  uint32_t FailuresOf(const std::string& key) {
    const Result<Verdict> read = store->ReadVerdict(key);
    REQUIRE(read);
    return read->failures;
  }
};

TEST_CASE_FIXTURE(Unnamed, "the likely snapshot is begun with before the key is known") {
  const std::string key = Take();
  size_t told = 1;
  criu.on_begin = [&] { told = channel.reports.size(); };
  channel.Tell(WorkerRequest::Kind::kGoOn);
  Run(JobKind::kRestore);
  CHECK(told == 0);
  CHECK(criu.restores_begun == 1);
  REQUIRE(channel.kinds().size() >= 2);
  CHECK(channel.kinds()[0] == Kind::kKey);
  CHECK(BoardText(channel.reports[0].text) == key);
  CHECK(channel.kinds()[1] == Kind::kFound);
  // Here it was agreed to: files are put back, which these cannot be.
  CHECK(channel.kinds().back() == Kind::kFailed);
  CHECK(FailuresOf(key) == 1);
}

TEST_CASE_FIXTURE(Unnamed, "a likely snapshot that is another image's never runs: a cold start") {
  const std::string old = Take();
  root.File("srv/app.py", "print(2)");
  SUBCASE("CRIU is told so when it asks") {}
  SUBCASE("CRIU has failed before it asked, which is not held against it") {
    criu.failure = Error("criu restore: no");
    criu.fails_at_once = true;
  }
  Run(JobKind::kRestore);
  CHECK(criu.restores_begun == 1);
  CHECK_FALSE(criu.restored);
  REQUIRE(channel.kinds() == Kinds{Kind::kKey, Kind::kNothing});
  CHECK(BoardText(channel.reports[0].text) != old);
  CHECK(channel.last_reason() == "there is no snapshot of this key yet");
  CHECK(channel.reports.back().value == 0);
  CHECK(FailuresOf(old) == 0);
}

TEST_CASE_FIXTURE(Unnamed, "where the guess was wrong and there is one of ours, it is begun anew") {
  const std::string first = Take(1'700'000'000);
  root.File("srv/app.py", "print(2)");
  const std::string second = Take(1'700'000'001);
  root.File("srv/app.py", "print(1)");
  Run(JobKind::kRestore);
  CHECK_FALSE(criu.restored);
  REQUIRE(channel.kinds() == Kinds{Kind::kKey, Kind::kAgain});
  CHECK(BoardText(channel.reports[0].text) == first);
  job.guesses = false;
  channel.Tell(WorkerRequest::Kind::kGoOn);
  Run(JobKind::kRestore);
  CHECK(BoardText(channel.reports[0].text) == first);
  CHECK(channel.kinds()[1] == Kind::kFound);
  CHECK(criu.restores_begun == 2);
  CHECK(FailuresOf(second) == 0);
}

TEST_CASE_FIXTURE(Unnamed, "one that comes when its pids may be taken already is left to others") {
  std::string key;
  Worker worker(criu, channel, root.path(), [&](const Job& asked) {
    key = Take();  // somebody else was a little sooner
    return IdentifyImageOf(asked);
  });
  Job raising = job;
  raising.raise_pids = true;
  worker.Do(raising);
  CHECK(criu.restores_begun == 0);
  CHECK(channel.kinds() == Kinds{Kind::kKey, Kind::kNothing});
  CHECK(BoardText(channel.reports.at(0).text) == key);
  CHECK(channel.last_reason().find("made while this container started") != std::string::npos);
  CHECK(channel.reports.back().value == 1);  // and none has to be made
  CHECK(FailuresOf(key) == 0);
}

TEST_CASE_FIXTURE(Unnamed,
                  "a snapshot that cannot be ours whatever the image is is not begun with") {
  const std::string other = Take();
  job.inputs.environment = {"COLOUR=red"};
  Run(JobKind::kRestore);
  CHECK(criu.restores_begun == 0);
  CHECK(channel.kinds() == Kinds{Kind::kKey, Kind::kNothing});
}

TEST_CASE_FIXTURE(Unnamed, "one that is quarantined is not begun with, and said to be") {
  const std::string key = Take();
  for (int i = 0; i < 2; ++i) {
    REQUIRE(store->ChangeVerdict(key, [](Verdict v) { return AfterFailure(std::move(v), "no"); }));
  }
  Run(JobKind::kRestore);
  CHECK(criu.restores_begun == 0);
  REQUIRE(channel.kinds() == Kinds{Kind::kKey, Kind::kNothing});
  CHECK(Holds(channel.last_reason(), "quarantined"));
}

// Made before the key is known --------------------------------------------------------------------

// The image is identified when a test lets it be.
struct Early : Unnamed {
  Early() {
    manifest.touches_files = false;
    manifest.times.cold_ms = 800;
  }
  void LetGo() {
    if (!std::exchange(is_let_go, true)) gate.set_value();
  }
  std::string Take(Contents contents = SomeContents()) {
    const Result<ImageIdentity> image = IdentifyImageOf(job);
    REQUIRE(image);
    KeyInputs inputs = job.inputs;
    inputs.image.text = manifest.image_identity = image->text;
    std::string key = MakeKey(inputs).text;
    REQUIRE(Problem(Make(*store, key, manifest, std::move(contents))) == "");
    return key;
  }
  // With a file that travels.
  std::string TakeWithFile() {
    root.File("var/state", "as it was");
    Contents contents = SomeContents();
    const UniqueFd archive(::memfd_create("archive", MFD_CLOEXEC));
    ChangedFiles changed;
    changed.files = {{"var", 0}, {"var/state", 9}};
    changed.bytes = 9;
    REQUIRE(CarryFiles({root.path(), 0, {}}, changed, archive.get(), kMaxCarried));
    std::string& bytes = contents["files.tar"];
    bytes.resize(static_cast<size_t>(::lseek(archive.get(), 0, SEEK_END)));
    REQUIRE(::pread(archive.get(), bytes.data(), bytes.size(), 0) ==
            static_cast<ssize_t>(bytes.size()));
    manifest.carried_files = 2;
    manifest.carried_bytes = 9;
    root.Remove("var/state");
    return Take(std::move(contents));
  }
  const FakeChannel& Restore() {
    channel.reports.clear();
    job.kind = JobKind::kRestore;
    Worker(criu, channel, root.path(), [this](const Job& asked) {
      opened.wait();
      return IdentifyImageOf(asked);
    }).Do(job);
    return channel;
  }

  Manifest manifest = SomeManifest();
  std::promise<void> gate;
  std::shared_future<void> opened = gate.get_future().share();
  bool is_let_go = false;
};

TEST_CASE_FIXTURE(Early, "what touches no file is made before the key is known, and runs after") {
  const std::string key = TakeWithFile();
  criu.on_restore = [this] {
    CHECK(channel.reports.empty());
    CHECK_FALSE(std::filesystem::exists(root.At("var/state")));
    LetGo();
  };
  channel.Tell(WorkerRequest::Kind::kGoOn);
  channel.Tell(WorkerRequest::Kind::kServed, 100);
  Restore();
  CHECK(channel.kinds() == Kinds{Kind::kKey, Kind::kFound, Kind::kRestored, Kind::kDone});
  CHECK(BoardText(channel.reports[0].text) == key);
  CHECK(criu.is_running);
  CHECK(root.Read("var/state") == "as it was");
  CHECK(Steps(channel) == Words{"restore.find", "restore.criu", "restore.images", "restore.memory",
                                "restore.identity", "restore.files", "restore.resume"});
}

TEST_CASE_FIXTURE(Early, "what was made for another key ends without having run or written") {
  const std::string other = TakeWithFile();
  root.File("srv/app.py", "print(2)");
  criu.on_restore = [this] { LetGo(); };
  Restore();
  CHECK(criu.restored);
  CHECK_FALSE(criu.is_running);
  CHECK(channel.kinds() == Kinds{Kind::kKey, Kind::kNothing});
  CHECK(FailuresOf(other) == 0);
  CHECK_FALSE(std::filesystem::exists(root.At("var/state")));
}

TEST_CASE_FIXTURE(Early,
                  "where there is one of ours after all, it is told that processes go first") {
  const std::string ours = Take();
  root.File("srv/app.py", "print(2)");
  const std::string other = Take();
  const timespec times[2] = {{1, 0}, {1, 0}};
  REQUIRE(::utimensat(AT_FDCWD, (folder + "/" + ours).c_str(), times, 0) == 0);
  root.File("srv/app.py", "print(1)");
  criu.on_restore = [this] { LetGo(); };
  Restore();
  CHECK_FALSE(criu.is_running);
  REQUIRE(channel.kinds() == Kinds{Kind::kKey, Kind::kAgain});
  CHECK(BoardText(channel.reports[0].text) == ours);
  CHECK(channel.reports[1].value == 1);
  CHECK(FailuresOf(ours) == 0);
  CHECK(FailuresOf(other) == 0);
}

TEST_CASE_FIXTURE(Early, "what was found of the image by an earlier job is not looked for again") {
  const std::string key = Take();
  job.image_identity = manifest.image_identity;
  channel.Tell(WorkerRequest::Kind::kGoOn);
  Restore();  // would wait for ever
  REQUIRE(channel.kinds() == Kinds{Kind::kKey, Kind::kFound, Kind::kRestored});
  CHECK(BoardText(channel.reports[0].text) == key);
}

TEST_CASE_FIXTURE(Early, "one of ours that fails before its key is known is begun anew") {
  const std::string key = Take();
  criu.on_restore = [this] { LetGo(); };
  criu.failure = Error("criu restore: no");
  Restore();
  REQUIRE(channel.kinds() == Kinds{Kind::kKey, Kind::kAgain});
  CHECK(channel.reports[1].value == 1);
  CHECK(FailuresOf(key) == 0);
}

TEST_CASE_FIXTURE(Early, "whatever is not known to touch no file waits for the key") {
  SUBCASE("it touches files") {
    manifest.touches_files = true;
    TakeWithFile();
  }
  SUBCASE("a folder that travels is not there") {
    TakeWithFile();
    root.Remove("var");
  }
  SUBCASE("the files that travel are no archive") {
    manifest.carried_files = 1;
    Contents contents = SomeContents();
    contents["files.tar"] = "no archive at all";
    Take(std::move(contents));
  }
  criu.on_images = [this] { LetGo(); };
  criu.on_restore = [this] { CHECK(channel.kinds() == Kinds{Kind::kKey, Kind::kFound}); };
  channel.Tell(WorkerRequest::Kind::kGoOn);
  Restore();
  CHECK(channel.kinds()[1] == Kind::kFound);
}

// Lazy pages
// ---------------------------------------------------------------------------------------

// The beginning of what CRIU keeps about a kernel, as far as anybody looks at it.
std::string SomeKernelCache() {
  std::string cache(904, '\0');
  cache[16] = 40;
  cache[44] = 1;
  cache[74] = 1;
  return cache;
}

TEST_CASE_FIXTURE(Workshop, "memory comes lazily where it is wanted, possible, and served") {
  if (!ProbeUserfaultfd()) return;
  Contents contents = SomeContents();
  contents["criu.kdat"] = SomeKernelCache();
  REQUIRE(Problem(Make(*store, KeyOfThis(), SomeManifest(), contents)) == "");
  job.pages = Pages::kLazy;
  bool is_lazy = false;
  SUBCASE("all of it") {
    channel.Tell(WorkerRequest::Kind::kGoOn, 1);
    is_lazy = true;
  }
  SUBCASE("not served") { channel.Tell(WorkerRequest::Kind::kGoOn, 0); }
  Run(JobKind::kRestore);
  REQUIRE(channel.kinds()[1] == Kind::kFound);
  CHECK(channel.reports[1].other == 1);
  REQUIRE(criu.restored);
  CHECK(criu.restored->lazy == is_lazy);
  std::ifstream cache(work_dir + "/criu.kdat", std::ios::binary);
  cache.seekg(89);
  CHECK(cache.get() == 1);
}

TEST_CASE_FIXTURE(Workshop, "memory comes at once where it is small, or CRIU's cache is unknown") {
  Contents contents = SomeContents();
  contents["criu.kdat"] = "unknown";
  REQUIRE(Problem(Make(*store, KeyOfThis(), SomeManifest(), contents)) == "");
  SUBCASE("small") {}
  SUBCASE("unknown") { job.pages = Pages::kLazy; }
  channel.Tell(WorkerRequest::Kind::kGoOn, 1);
  Run(JobKind::kRestore);
  REQUIRE(channel.kinds()[1] == Kind::kFound);
  CHECK(channel.reports[1].other == 0);
  CHECK((BoardText(channel.reports[1].reason) == "") == (job.pages == Pages::kAuto));
  REQUIRE(criu.restored);
  CHECK_FALSE(criu.restored->lazy);
}

// Dumps -------------------------------------------------------------------------------------------

TEST_CASE_FIXTURE(Workshop,
                  "a dump is published after the tree runs again, with what is known of it") {
  Dump();
  REQUIRE(channel.kinds() == Kinds{Kind::kFound, Kind::kResumed, Kind::kDone});
  CHECK(channel.reports[1].value == 12);
  CHECK(channel.reports[2].value == 3 * 4096);
  REQUIRE(criu.dumped);
  CHECK(criu.dumped->root == ::getpid());
  CHECK(criu.dumped->leave_running);
  Result<std::optional<Store::Found>> found = store->Find(job.key);
  REQUIRE((found && *found));
  const Manifest& manifest = (*found)->manifest;
  CHECK(manifest.workload == 1234);
  CHECK(manifest.listening == "0.0.0.0:8000");
  CHECK(manifest.times.cold_ms == 800);
  CHECK(manifest.times.hooks_ms == 90);
  CHECK(manifest.times.frozen_ms == 12);
  CHECK(manifest.image_identity == "key:v1");
  CHECK(manifest.command == std::vector<std::string>{"./server"});
  CHECK(manifest.variables == std::vector<std::string>{"COLOUR"});
  CHECK(manifest.uptime_ms > 0);
  CHECK(manifest.carried_files == 0);
  REQUIRE_FALSE(manifest.processes.empty());
  CHECK(manifest.processes[0].pid == ::getpid());
  CHECK(Problem(store->Verify(job.key)) == "");
}

TEST_CASE_FIXTURE(Workshop, "what a dump has published is what the next start restores") {
  Dump();
  channel.Tell(WorkerRequest::Kind::kGoOn);
  channel.Tell(WorkerRequest::Kind::kServed, 100);
  Run(JobKind::kRestore);
  CHECK(channel.kinds().back() == Kind::kDone);
  CHECK(channel.last_text() == "proven");
}

TEST_CASE_FIXTURE(Workshop,
                  "files that the start has written travel along, also those of the last moment") {
  root.File("srv/old", "as it was in the image");
  job.since_ns = Now(CLOCK_REALTIME) - int64_t{3600} * 1'000'000'000;
  root.File("srv/model", "downloaded");
  criu.on_dump = [this] { root.File("srv/late", "written while it was looked at"); };
  Dump();
  REQUIRE(channel.kinds().back() == Kind::kDone);
  std::filesystem::remove_all(root.At("srv"));
  root.Folder("srv");
  channel.Tell(WorkerRequest::Kind::kGoOn);
  channel.Tell(WorkerRequest::Kind::kServed, 100);
  Run(JobKind::kRestore);
  REQUIRE(channel.kinds().back() == Kind::kDone);
  CHECK(root.Read("srv/model") == "downloaded");
  CHECK(root.Read("srv/late") == "written while it was looked at");
}

TEST_CASE_FIXTURE(Workshop,
                  "files that came with a snapshot are taken back when it does not serve") {
  root.File("srv/config", "as in the image");
  job.since_ns = Now(CLOCK_REALTIME) - int64_t{3600} * 1'000'000'000;
  root.File("srv/config", "as the start has written it");
  root.File("srv/server.pid", "1001");
  Dump();
  root.File("srv/config", "as in the image");
  root.Remove("srv/server.pid");
  channel.Tell(WorkerRequest::Kind::kGoOn);
  SUBCASE("CRIU fails") {
    criu.on_restore = [this] {
      CHECK(root.Read("srv/config") == "as the start has written it");
      CHECK(root.Read("srv/server.pid") == "1001");
    };
    criu.failure = Error("criu restore: pid 1000 is taken");
    Run(JobKind::kRestore);
    CHECK(channel.last_reason() == "criu restore: pid 1000 is taken");
  }
  SUBCASE("nothing comes of what was restored") {
    channel.Tell(WorkerRequest::Kind::kUseless, 0, "not ready within 5000 ms");
    Run(JobKind::kRestore);
    CHECK(channel.kinds().back() == Kind::kDone);
    CHECK(channel.last_reason() == "not ready within 5000 ms");
  }
  CHECK(root.Read("srv/config") == "as in the image");
  CHECK_FALSE(std::filesystem::exists(root.At("srv/server.pid")));
  CHECK(verdict().failures == 1);
}

TEST_CASE_FIXTURE(Workshop, "a socket that a failed restore has made is taken away, and no other") {
  Manifest manifest = SomeManifest();
  manifest.sockets = {"/srv/app.sock", "/srv/mine.sock", "/no/such/folder/x.sock", "relative"};
  Publish(manifest);
  root.File("srv/mine.sock", "there before");
  criu.on_restore = [this] { root.Fifo("srv/app.sock"); };  // as good as a socket
  criu.failure = Error("criu restore: pid 1000 is taken");
  channel.Tell(WorkerRequest::Kind::kGoOn);
  Run(JobKind::kRestore);
  CHECK(channel.last_reason() == "criu restore: pid 1000 is taken");
  CHECK_FALSE(std::filesystem::exists(root.At("srv/app.sock")));
  CHECK(root.Read("srv/mine.sock") == "there before");
}

TEST_CASE_FIXTURE(Workshop,
                  "more files than may travel decline the dump before anybody is disturbed") {
  job.since_ns = 0;
  root.File("srv/huge", "");
  std::filesystem::resize_file(root.At("srv/huge"), kMaxCarried + 1);
  Dump();
  REQUIRE(channel.kinds() == Kinds{Kind::kFailed});
  CHECK(Holds(channel.last_reason(), "64 MiB"));
  CHECK_FALSE(criu.dumped);
  CHECK_FALSE(std::filesystem::exists(folder + "/" + job.key));
}

TEST_CASE_FIXTURE(Workshop, "a second dump of the same key is declined") {
  Dump();
  criu.dumped.reset();
  channel.requests.clear();
  Run(JobKind::kDump);
  REQUIRE(channel.kinds() == Kinds{Kind::kNothing});
  CHECK(Holds(channel.last_reason(), "there is a snapshot of this key"));
  CHECK_FALSE(criu.dumped);
}

TEST_CASE_FIXTURE(Workshop, "a dump that fails leaves no trace in the folder") {
  const std::vector<std::string> before = [this] {
    job.key = KeyOfThis();
    return NamesOf(folder);
  }();
  SUBCASE("in CRIU") {
    criu.failure = Error("criu dump: Connected TCP socket");
    Dump();
    CHECK(channel.kinds() == Kinds{Kind::kFound, Kind::kFailed});
    CHECK(channel.last_reason() == "criu dump: Connected TCP socket");
  }
  SUBCASE("because CRIU is gone in the middle of it") {
    criu.failure = Error("criu: it has ended without an answer");
    criu.leaves_tree_suspect = true;
    Dump();
    CHECK(channel.kinds() == Kinds{Kind::kFound, Kind::kFailed});
    CHECK(channel.reports.back().value == 1);
  }
  SUBCASE("while the tree is frozen: too much was written meanwhile") {
    job.since_ns = 0;
    criu.on_dump = [this] {
      root.File("srv/huge", "");
      std::filesystem::resize_file(root.At("srv/huge"), kMaxCarried + 1);
    };
    Dump();
    CHECK(channel.kinds() == Kinds{Kind::kFound, Kind::kFailed});
    CHECK(Holds(channel.last_reason(), "huge"));
  }
  SUBCASE("because the supervisor is gone") {
    job.image_identity = "key:v1";
    Run(JobKind::kDump);
    CHECK(channel.kinds() == Kinds{Kind::kFound, Kind::kFailed});
    CHECK_FALSE(criu.dumped);
  }
  SUBCASE("because the tree is gone") {
    job.root = 0x7ffffff0;  // beyond any pid
    Dump();
    CHECK(channel.kinds() == Kinds{Kind::kFailed});
    CHECK(Holds(channel.last_reason(), "gone"));
  }
  CHECK_FALSE(std::filesystem::exists(folder + "/" + job.key));
  for (const std::string& name : NamesOf(folder)) CHECK_FALSE(Holds(name, ".staging"));
  channel.requests.clear();
  criu.failure.reset();
  criu.on_dump = nullptr;
  std::filesystem::remove_all(root.At("srv"));
  job.root = ::getpid();
  Dump();  // and the next one may try
  CHECK(channel.kinds().back() == Kind::kDone);
}

// We are the keeper here.
TEST_CASE_FIXTURE(Workshop, "a workload that nobody leaves is dumped without its keeper") {
  const pid_t workload = ::fork();
  if (workload == 0) {
    ::setsid();
    ::pause();
    ::_exit(0);
  }
  while (::getsid(workload) != workload) ::sched_yield();
  job.workload = workload;
  pid_t other = 0;
  SUBCASE("nobody does") {
    Dump();
    CHECK(criu.dumped->root == workload);
    const auto found = store->Find(KeyOfThis());
    REQUIRE((found && *found));
    CHECK((*found)->manifest.root == workload);
    REQUIRE((*found)->manifest.processes.size() == 1);
    CHECK((*found)->manifest.processes[0].pid == workload);
  }
  SUBCASE("somebody does, as it is frozen: it is to be done again") {
    criu.on_dump = [&other] {
      other = ::fork();
      if (other == 0) {
        ::pause();
        ::_exit(0);
      }
    };
    Dump();
    CHECK(channel.kinds() == Kinds{Kind::kFound, Kind::kAgain});
    CHECK(NamesOf(folder) == std::vector<std::string>{"README"});
    criu.on_dump = nullptr;
    job.with_keeper = true;
    Dump();
    CHECK(criu.dumped->root == ::getpid());
    CHECK(channel.kinds().back() == Kind::kDone);
  }
  for (const pid_t child : {workload, other}) {
    if (child == 0) continue;
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }
}

TEST_CASE_FIXTURE(Workshop, "a dump that ends the tree is told so to CRIU") {
  job.key = KeyOfThis();
  channel.Tell(WorkerRequest::Kind::kGoOn);
  Run(JobKind::kCreate);
  REQUIRE(criu.dumped);
  CHECK_FALSE(criu.dumped->leave_running);
}

TEST_CASE_FIXTURE(Workshop, "to create one, what has proved itself is left alone") {
  Publish();
  job.creates = true;
  channel.Tell(WorkerRequest::Kind::kGoOn);
  channel.Tell(WorkerRequest::Kind::kServed, 100);
  Run(JobKind::kRestore);  // of which nothing is known yet: its trial
  CHECK(channel.kinds().back() == Kind::kDone);
  CHECK(channel.last_text() == "proven");
  criu.restored.reset();
  Run(JobKind::kRestore);
  CHECK(channel.kinds() == Kinds{Kind::kKey, Kind::kProven});
  CHECK(channel.last_reason() == "restored in 100 ms, a cold start took 800 ms");
  CHECK_FALSE(criu.restored);
  job.key = KeyOfThis();
  Run(JobKind::kCreate);
  CHECK(channel.kinds() == Kinds{Kind::kNothing});
  CHECK(verdict().standing == Standing::kProven);
}

TEST_CASE_FIXTURE(Workshop, "to create one, any other gives way to it") {
  Publish();
  job.creates = true;
  SUBCASE("one that gained too little") {
    channel.Tell(WorkerRequest::Kind::kGoOn);
    channel.Tell(WorkerRequest::Kind::kServed, 790);
    Run(JobKind::kRestore);
    CHECK(channel.last_text() == "not-worth-it");
  }
  SUBCASE("one that is quarantined") {
    const auto fails = [](Verdict before) { return AfterFailure(std::move(before), "no"); };
    REQUIRE(store->ChangeVerdict(KeyOfThis(), fails).ok());
    REQUIRE(store->ChangeVerdict(KeyOfThis(), fails).ok());
  }
  SUBCASE("one that is damaged, even if it had proved itself") {
    const auto serves = [](Verdict before) {
      return AfterRestore(std::move(before), Milliseconds(10), Milliseconds(800));
    };
    REQUIRE(store->ChangeVerdict(KeyOfThis(), serves).ok());
    std::filesystem::resize_file(PathOf("images/pages-1.img", KeyOfThis()), 4096);
  }
  channel.requests.clear();
  Run(JobKind::kRestore);
  REQUIRE(channel.kinds() == Kinds{Kind::kKey, Kind::kNothing});
  CHECK(channel.reports.back().value == 0);
  CHECK(std::filesystem::exists(folder + "/" + KeyOfThis()));  // until there is another
  job.key = KeyOfThis();
  channel.Tell(WorkerRequest::Kind::kGoOn);
  Run(JobKind::kCreate);
  CHECK(channel.kinds().back() == Kind::kDone);
  CHECK(verdict().standing == Standing::kUnproven);
  CHECK(verdict().failures == 0);
  CHECK(Problem(store->Verify(job.key)) == "");
}

TEST_CASE_FIXTURE(Workshop, "a dump that cannot be published says so after the tree runs again") {
  job.key = KeyOfThis();
  // Somebody else was quicker (where locks of one machine are not seen by another).
  criu.on_dump = [this] { std::filesystem::create_directories(folder + "/" + job.key); };
  Dump();
  CHECK(channel.kinds() == Kinds{Kind::kFound, Kind::kResumed, Kind::kFailed});
}

}  // namespace
}  // namespace modal::snapshot

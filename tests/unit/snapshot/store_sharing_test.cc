// Several processes in one snapshot folder, in whatever namespaces, and file systems that are not
// as one would wish.
#include <seccomp.h>

#include "snapshot/store.h"
#include "tests/unit/snapshot/child_process.h"
#include "tests/unit/snapshot/store_fixture.h"

namespace modal::snapshot {
namespace {

using Names = std::vector<std::string>;

// For a child: from now on this call fails.
bool Forbid(int call, int code) {
  const scmp_filter_ctx filter = ::seccomp_init(SCMP_ACT_ALLOW);
  const bool done =
      filter &&
      ::seccomp_rule_add(filter, SCMP_ACT_ERRNO(static_cast<uint32_t>(code)), call, 0) == 0 &&
      ::seccomp_load(filter) == 0;
  ::seccomp_release(filter);
  return done;
}

TEST_CASE_FIXTURE(
    StoreFixture,
    "of several processes that make one key at once, one does and the others are told") {
  constexpr int kProcesses = 6;
  for (int round = 0; round < 5; ++round) {
    // All wait for the same pipe to close.
    int gate[2];
    REQUIRE(::pipe2(gate, O_CLOEXEC) == 0);
    const UniqueFd waiting(gate[0]);
    UniqueFd closing(gate[1]);
    std::vector<pid_t> children;
    for (int i = 0; i < kProcesses; ++i) {
      const pid_t child = ::fork();
      REQUIRE(child >= 0);
      if (child == 0) {
        closing.Reset();
        char byte;
        (void)::read(waiting.get(), &byte, 1);
        const std::unique_ptr<Store> maker = OpenStore(folder);
        Result<std::unique_ptr<Staging>> staging = maker->Stage(kKey);
        if (!staging) ::_exit(3);
        if (!*staging) ::_exit(1);
        if (!Fill(**staging, SomeContents())) ::_exit(4);
        ::_exit(maker->Publish(*std::move(staging), SomeManifest()) ? 0 : 2);
      }
      children.push_back(child);
    }
    closing.Reset();
    int published = 0;
    int told = 0;
    for (const pid_t child : children) {
      int status = 0;
      REQUIRE(::waitpid(child, &status, 0) == child);
      published += status == 0;
      told += WIFEXITED(status) && WEXITSTATUS(status) == 1;
    }
    CHECK(published == 1);
    CHECK(published + told == kProcesses);
    CHECK(Problem(store->Verify(kKey)) == "");
    REQUIRE(Problem(store->Delete(kKey)) == "");
    CHECK(NamesOf(folder) == Names{"README"});
  }
}

TEST_CASE_FIXTURE(StoreFixture,
                  "of several processes that change one verdict at once, no change is forgotten") {
  constexpr int kProcesses = 4;
  constexpr int kChanges = 10;
  std::vector<pid_t> children;
  for (int i = 0; i < kProcesses; ++i) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      const std::unique_ptr<Store> other = OpenStore(folder);
      for (int n = 0; n < kChanges; ++n) {
        if (!other->ChangeVerdict(kKey, [](Verdict v) { return AfterFailure(v, "x"); })) ::_exit(1);
      }
      ::_exit(0);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) CHECK(EndOf(child) == "");
  CHECK(store->ReadVerdict(kKey)->failures == kProcesses * kChanges);
}

TEST_CASE_FIXTURE(StoreFixture, "several processes may prune at once, and each of them succeeds") {
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 4; ++i) {
      REQUIRE(Problem(Make(*store, std::string(31, '0') + std::to_string(i))) == "");
    }
    std::vector<pid_t> children;
    for (int i = 0; i < 4; ++i) {
      const pid_t child = ::fork();
      REQUIRE(child >= 0);
      // What another one is about to delete may count as in use.
      if (child == 0) ::_exit(OpenStore(folder)->Prune({.keep = 0}, 0) ? 0 : 1);
      children.push_back(child);
    }
    for (const pid_t child : children) CHECK(EndOf(child) == "");
    REQUIRE(Problem(store->Prune({.keep = 0}, 0)) == "");
    CHECK(NamesOf(folder) == Names{"README"});
  }
}

TEST_CASE_FIXTURE(
    StoreFixture,
    "a snapshot that another process restores from is not deleted until that is gone") {
  REQUIRE(Problem(Make(*store, kKey)) == "");
  HeldChild reader([&](const std::function<void()>& wait) {
    const std::unique_ptr<Store> other = OpenStore(folder, Store::Use::kRead);
    const auto found = other->Find(kKey);
    MODAL_CHECK(found.ok() && *found);
    wait();
  });
  CHECK(Problem(store->Delete(kKey)) == "snapshot " + kKey + ": is in use");
  CHECK(store->Prune({.keep = 0}, 0)->empty());
  CHECK((*store->List())[0].in_use);
  SUBCASE("it ends") { CHECK(reader.LetGo() == ""); }
  SUBCASE("it is killed") { reader.Kill(); }
  CHECK_FALSE((*store->List())[0].in_use);
  CHECK(Problem(store->Delete(kKey)) == "");
}

TEST_CASE_FIXTURE(
    StoreFixture,
    "what a killed maker has left goes with the next one, of the same key or another") {
  HeldChild maker([&](const std::function<void()>& wait) {
    const std::unique_ptr<Store> other = OpenStore(folder);
    const Result<std::unique_ptr<Staging>> staging = other->Stage(kKey);
    MODAL_CHECK(staging.ok() && *staging && Fill(**staging, SomeContents()).ok());
    wait();
  });
  const auto has_staging = [&] {
    const Names names = NamesOf(folder);
    return std::any_of(names.begin(), names.end(),
                       [](const std::string& name) { return name.starts_with(".staging"); });
  };
  CHECK_FALSE(*store->Stage(kKey));
  REQUIRE(Problem(store->Prune({}, 0)) == "");
  CHECK(has_staging());
  maker.Kill();
  CHECK(has_staging());
  SUBCASE("the same key") { REQUIRE(Problem(Make(*store, kKey)) == ""); }
  SUBCASE("another key") { REQUIRE(Problem(Make(*store, kOtherKey)) == ""); }
  CHECK_FALSE(has_staging());
}

TEST_CASE_FIXTURE(StoreFixture,
                  "processes of other pid and mount namespaces are seen all the same") {
  REQUIRE(Problem(Make(*store, kKey)) == "");
  HeldChild elsewhere([&](const std::function<void()>& wait) {
    if (!EnterNamespaces(CLONE_NEWPID)) {
      temp.Write("not-permitted", "");
      wait();
      return;
    }
    // Process 1 of the new namespace holds the snapshot, and another one is being made there.
    HeldChild first([&](const std::function<void()>& wait_there) {
      const std::unique_ptr<Store> other = OpenStore(folder);
      const auto found = other->Find(kKey);
      const auto staging = other->Stage(kOtherKey);
      MODAL_CHECK(::getpid() == 1 && found.ok() && *found && staging.ok() && *staging);
      wait_there();
    });
    wait();
    first.Kill();
  });
  if (std::filesystem::exists(temp.path() + "/not-permitted")) {
    MESSAGE("skipped: namespaces are not permitted here");
    return;
  }
  CHECK(Problem(store->Delete(kKey)) == "snapshot " + kKey + ": is in use");
  CHECK_FALSE(*store->Stage(kOtherKey));
  CHECK(elsewhere.LetGo() == "");
  CHECK(Problem(store->Delete(kKey)) == "");
  CHECK(Problem(Make(*store, kOtherKey)) == "");
  CHECK(NamesOf(folder) == Names{kOtherKey, kOtherKey + ".lock", "README"});
}

TEST_CASE_FIXTURE(StoreFixture,
                  "where another machine's locks are not seen, whoever is second is told, and what "
                  "is published is whole") {
  Result<std::unique_ptr<Staging>> ours = store->Stage(kKey);
  REQUIRE(*ours);
  REQUIRE(Fill(**ours, SomeContents()));
  // As if it were locked there only.
  REQUIRE(std::filesystem::remove(folder + "/" + kKey + ".lock"));
  const std::unique_ptr<Store> other = OpenStore(folder);
  REQUIRE(Problem(Make(*other, kKey)) == "");
  CHECK_FALSE(Problem(store->Publish(*std::move(ours), SomeManifest())).empty());
  CHECK(Problem(other->Verify(kKey)) == "");
  CHECK(NamesOf(folder) == Names{"README", kKey, kKey + ".lock"});
}

TEST_CASE_FIXTURE(
    StoreFixture,
    "on a file system without locks snapshots are found, and none is made, judged or deleted") {
  REQUIRE(Problem(Make(*store, kKey)) == "");
  const std::string text = InChild([&]() -> std::string {
    if (!Forbid(SCMP_SYS(flock), ENOLCK)) return "no filter";
    const std::unique_ptr<Store> other = OpenStore(folder);
    const auto found = other->Find(kKey);
    if (!found || !*found) return "not found: " + Problem(found);
    if (!other->Verify(kKey)) return "not verified";
    return Concat(Problem(other->Stage(kOtherKey)), "\n", Problem(other->Delete(kKey)), "\n",
                  Problem(other->ChangeVerdict(kKey, [](Verdict v) { return v; })));
  });
  const std::string why =
      ": No locks available (this file system has no locks; snapshots need another)";
  CHECK(text == "stage snapshot " + kOtherKey + ": lock " + kOtherKey + ".lock" + why +
                    "\nsnapshot " + kKey + ": lock " + kKey + ".lock" + why + "\nsnapshot " + kKey +
                    ": lock .lock" + why);
  CHECK(Problem(store->Verify(kKey)) == "");
}

TEST_CASE_FIXTURE(StoreFixture, "a file system that cannot refuse to replace is good enough") {
  const std::string text = InChild([&]() -> std::string {
    if (!Forbid(SCMP_SYS(renameat2), EINVAL)) return "no filter";
    if (Result<void> made = Make(*store, kKey); !made) return made.error().message();
    Result<std::unique_ptr<Staging>> second = store->Stage(kOtherKey);
    MODAL_CHECK(second.ok() && *second);
    temp.Write("snapshots/" + kOtherKey + "/theirs", "x");
    return Problem(store->Publish(*std::move(second), SomeManifest()));
  });
  CHECK(text == "publish snapshot " + kOtherKey + ": somebody else was first");
  CHECK(Problem(store->Verify(kKey)) == "");
  CHECK(ReadAll(PathOf("theirs", kOtherKey)) == "x");
}

TEST_CASE_FIXTURE(StoreFixture, "what the disk cannot keep is not published") {
  const std::string text = InChild([&]() -> std::string {
    if (!Forbid(SCMP_SYS(fsync), EIO)) return "no filter";
    return Problem(Make(*store, kKey));
  });
  CHECK(text == "publish snapshot " + kKey + ": criu.kdat: sync: Input/output error");
  CHECK(NamesOf(folder) == Names{"README"});
}

TEST_CASE_FIXTURE(StoreFixture,
                  "a folder on a read-only file system is read, with locks, and not written") {
  REQUIRE(Problem(Make(*store, kKey)) == "");
  CHECK(InNamespaces([&]() -> std::string {
          const char* path = folder.c_str();
          if (::mount(path, path, nullptr, MS_BIND, nullptr) != 0 ||
              ::mount(nullptr, path, nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr) != 0) {
            return kNotPermitted;
          }
          const std::string problem = Problem(Store::Open(folder, Store::Use::kWrite));
          if (problem !=
              "snapshot folder " + folder + ": nothing can be saved there: Read-only file system") {
            return problem;
          }
          const std::unique_ptr<Store> reader = OpenStore(folder, Store::Use::kRead);
          const auto found = reader->Find(kKey);
          if (!found || !*found) return "not found: " + Problem(found);
          // From outside, where it can be written.
          return Problem(store->Delete(kKey)) == "snapshot " + kKey + ": is in use" ? ""
                                                                                    : "not locked";
        }) == "");
}

TEST_CASE_FIXTURE(StoreFixture, "what is mounted in a leftover is not emptied with it") {
  const std::string precious = temp.Write("precious/file", "mine");
  std::filesystem::create_directories(folder + "/.trash-aaaaaa/images");
  CHECK(InNamespaces([&]() -> std::string {
          const std::string from = temp.path() + "/precious";
          const std::string to = folder + "/.trash-aaaaaa/images";
          if (::mount(from.c_str(), to.c_str(), nullptr, MS_BIND, nullptr) != 0) {
            return kNotPermitted;
          }
          return Problem(store->Prune({}, 0));
        }) == "");
  CHECK(ReadAll(precious) == "mine");
}

}  // namespace
}  // namespace modal::snapshot

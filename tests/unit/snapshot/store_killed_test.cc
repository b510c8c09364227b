// Whoever works in a snapshot folder may be killed at any moment: here after every system call.
#include "snapshot/archive.h"
#include "snapshot/store.h"
#include "tests/unit/snapshot/child_process.h"
#include "tests/unit/snapshot/store_fixture.h"

namespace modal::snapshot {
namespace {

using Names = std::vector<std::string>;

constexpr unsigned kMostSteps = 20'000;

// Kills `work` at each step; between two, `look` returns what is wrong. How many steps it took.
unsigned KillEverywhere(const std::function<void()>& work,
                        const std::function<std::string()>& look) {
  for (unsigned step = 1; step < kMostSteps; ++step) {
    const Fate fate = KillAtStep(step, work);
    if (fate == Fate::kNotPermitted) {
      MESSAGE("skipped: tracing is not permitted here");
      return 0;
    }
    CAPTURE(step);
    const std::string problem = look();
    REQUIRE(problem == "");
    if (fate == Fate::kFinished) return step;
  }
  FAIL("it does not end");
  return 0;
}

struct KilledFixture : StoreFixture {
  std::string outside = temp.Write("outside/file", "mine");

  // What the next container does: it looks, deletes what there is, and makes room for its own.
  // Counts what it found.
  std::string LookAndClean() {
    bool is_there = false;
    const std::unique_ptr<Store> next = OpenStore(folder);
    if (std::string problem = WholeOrNotThere(*next, kKey, &is_there); !problem.empty()) {
      return problem;
    }
    ++(is_there ? whole : none);
    if (is_there) {
      if (Result<void> gone = next->Delete(kKey); !gone) return gone.error().message();
    }
    {
      const Result<std::unique_ptr<Staging>> staging = next->Stage(kKey);
      if (!staging) return staging.error().message();
      if (!*staging) return "the key is still locked";
    }
    Names left;
    for (const std::string& name : NamesOf(folder)) {
      if (name != "README" && name != ".lock") left.push_back(name);
    }
    if (!left.empty()) return "left behind: " + Join(left, ", ");
    return ReadAll(outside) == "mine" ? "" : "something outside was touched";
  }

  int whole = 0;
  int none = 0;
};

TEST_CASE_FIXTURE(KilledFixture,
                  "killed at any moment of making a snapshot, there is a whole one or none, and "
                  "nothing stays behind") {
  const auto work = [&] {
    const std::unique_ptr<Store> maker = OpenStore(folder);
    MODAL_CHECK(Make(*maker, kKey).ok());
  };
  if (KillEverywhere(work, [&] { return LookAndClean(); }) == 0) return;
  // Killed before the rename, and after it.
  CHECK(none > 25);
  CHECK(whole >= 2);
}

TEST_CASE_FIXTURE(KilledFixture,
                  "killed at any moment of giving a snapshot up, nothing stays behind") {
  const auto work = [&] {
    const std::unique_ptr<Store> maker = OpenStore(folder);
    Result<std::unique_ptr<Staging>> staging = maker->Stage(kKey);
    MODAL_CHECK(staging.ok() && *staging && Fill(**staging, SomeContents()).ok());
  };
  (void)KillEverywhere(work, [&] { return LookAndClean(); });
  CHECK(whole == 0);
}

TEST_CASE_FIXTURE(KilledFixture,
                  "killed at any moment of deleting, the snapshot is whole or gone") {
  REQUIRE(Problem(Make(*store, kKey)) == "");
  const auto work = [&] { (void)OpenStore(folder)->Delete(kKey); };
  const auto look = [&]() -> std::string {
    if (std::string problem = LookAndClean(); !problem.empty()) return problem;
    return Problem(Make(*store, kKey));
  };
  if (KillEverywhere(work, look) == 0) return;
  CHECK(whole > 5);
  CHECK(none > 5);
}

TEST_CASE_FIXTURE(KilledFixture,
                  "killed at any moment of unpacking, there is a whole snapshot or none") {
  REQUIRE(Problem(Make(*store, kKey)) == "");
  const std::string archive = temp.path() + "/archive";
  {
    const UniqueFd fd(::open(archive.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    REQUIRE(Problem(Pack(*store, kKey, fd.get(), 1)) == "");
  }
  REQUIRE(Problem(store->Delete(kKey)) == "");
  const auto work = [&] {
    const UniqueFd fd(::open(archive.c_str(), O_RDONLY | O_CLOEXEC));
    MODAL_CHECK(Unpack(*OpenStore(folder), fd.get()).ok());
  };
  if (KillEverywhere(work, [&] { return LookAndClean(); }) == 0) return;
  CHECK(none > 25);
  CHECK(whole >= 2);
}

TEST_CASE_FIXTURE(KilledFixture,
                  "killed at any moment of changing a verdict, it is the old one or the new one") {
  int changed = 0;
  int unchanged = 0;
  uint32_t before = 0;
  const auto work = [&] {
    const auto change = [](Verdict verdict) { return AfterFailure(std::move(verdict), "again"); };
    MODAL_CHECK(OpenStore(folder)->ChangeVerdict(kKey, change).ok());
  };
  const auto look = [&]() -> std::string {
    const Result<Verdict> verdict = store->ReadVerdict(kKey);
    if (!verdict) return verdict.error().message();
    if (verdict->failures == before) {
      ++unchanged;
    } else if (verdict->failures == before + 1) {
      ++changed;
    } else {
      return Concat(before, " failures became ", verdict->failures);
    }
    before = verdict->failures;
    return "";
  };
  if (KillEverywhere(work, look) == 0) return;
  CHECK(unchanged > 5);
  CHECK(changed >= 2);
}

}  // namespace
}  // namespace modal::snapshot

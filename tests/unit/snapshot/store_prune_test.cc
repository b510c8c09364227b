#include "snapshot/store.h"
#include "tests/unit/snapshot/store_fixture.h"

namespace modal::snapshot {
namespace {

constexpr int64_t kNow = 1'700'000'000'000;

std::string Numbered(int number) { return std::string(31, '0') + std::to_string(number); }

// Five snapshots, number N being N hours old.
struct PruneFixture : StoreFixture {
  PruneFixture() {
    for (const int hours : {3, 1, 5, 2, 4}) {
      Manifest manifest = SomeManifest();
      manifest.created_unix_ms = kNow - int64_t{hours} * 3'600'000;
      REQUIRE(Problem(Make(*store, Numbered(hours), manifest)) == "");
    }
  }

  // The numbers that are left, youngest first.
  std::string Left() const {
    std::string left;
    const Result<std::vector<Entry>> entries = store->List();
    for (const Entry& entry : *entries) left += entry.key.back();
    return left;
  }
  std::string Pruned(const PruneRules& rules) const {
    const Result<std::vector<Entry>> gone = store->Prune(rules, kNow);
    REQUIRE(Problem(gone) == "");
    std::string numbers;
    for (const Entry& entry : *gone) numbers += entry.key.back();
    return numbers;
  }
};

TEST_CASE_FIXTURE(PruneFixture, "a list has the youngest first, with what is known of each") {
  REQUIRE(store->ChangeVerdict(Numbered(1), [](Verdict v) { return AfterFailure(v, "x"); }));
  const Result<std::optional<Store::Found>> used = store->Find(Numbered(2));
  const Result<std::vector<Entry>> entries = store->List();
  REQUIRE(entries);
  REQUIRE(entries->size() == 5);
  const Entry& first = entries->front();
  CHECK(first.key == Numbered(1));
  CHECK(first.path == folder + "/" + Numbered(1));
  REQUIRE(first.manifest);
  CHECK(first.manifest->command == SomeManifest().command);
  CHECK(first.problem == "");
  CHECK(first.verdict.failures == 1);
  CHECK(first.made_unix_ms == kNow - 3'600'000);
  CHECK(first.bytes >= 9000);
  CHECK_FALSE(first.in_use);
  CHECK((*entries)[1].in_use);
  CHECK(Left() == "12345");
}

TEST_CASE_FIXTURE(PruneFixture, "what would be pruned can be asked for, and stays") {
  const auto reader = OpenStore(folder, Store::Use::kRead);
  PruneRules rules;
  rules.keep = 3;
  const Result<std::vector<Entry>> superfluous = reader->WouldPrune(rules, kNow);
  REQUIRE(Problem(superfluous) == "");
  REQUIRE(superfluous->size() == 2);
  CHECK(superfluous->front().key == Numbered(4));
  CHECK(superfluous->back().key == Numbered(5));
  CHECK(Left() == "12345");
}

TEST_CASE_FIXTURE(PruneFixture, "no rule removes nothing") {
  CHECK(Pruned({}) == "");
  CHECK(Left() == "12345");
}

TEST_CASE_FIXTURE(PruneFixture, "by age those that are older go") {
  CHECK(Pruned({.older_than = Milliseconds{3 * 3'600'000}}) == "45");
  CHECK(Left() == "123");
}

TEST_CASE_FIXTURE(PruneFixture, "by count the youngest are kept") {
  CHECK(Pruned({.keep = 2}) == "345");
  CHECK(Left() == "12");
  CHECK(Pruned({.keep = 0}) == "12");
}

TEST_CASE_FIXTURE(
    PruneFixture,
    "by size the youngest are kept, and what is older than one that does not fit goes too") {
  const uint64_t one = store->List()->front().bytes;
  SUBCASE("three fit") {
    CHECK(Pruned({.max_bytes = 3 * one}) == "45");
    CHECK(Left() == "123");
  }
  SUBCASE("nothing fits") { CHECK(Pruned({.max_bytes = one - 1}) == "12345"); }
  SUBCASE("one in the middle is too large") {
    REQUIRE(Problem(store->Delete(Numbered(2))) == "");
    Manifest manifest = SomeManifest();
    manifest.created_unix_ms = kNow - int64_t{2} * 3'600'000;
    REQUIRE(Problem(Make(*store, Numbered(2), manifest,
                         {{"images/x", std::string(one * 5, 'x')}})) == "");
    CHECK(Pruned({.max_bytes = 5 * one}) == "2345");
  }
}

TEST_CASE_FIXTURE(PruneFixture, "snapshots in use stay and count") {
  const Result<std::optional<Store::Found>> used = OpenStore(folder)->Find(Numbered(5));
  REQUIRE(*used);
  CHECK(Pruned({.older_than = Milliseconds{0}, .keep = 2}) == "1234");
  CHECK(Left() == "5");
}

TEST_CASE_FIXTURE(PruneFixture, "of two places one is taken by a snapshot in use, however old") {
  const Result<std::optional<Store::Found>> used = OpenStore(folder)->Find(Numbered(5));
  REQUIRE(*used);
  CHECK(Pruned({.keep = 2}) == "234");
  CHECK(Left() == "15");
}

TEST_CASE_FIXTURE(PruneFixture, "a damaged snapshot is as old as its folder") {
  std::filesystem::remove(PathOf("manifest.json", Numbered(3)));
  // Its folder was changed just now, long after kNow.
  CHECK(Left() == "31245");
  CHECK(Pruned({.keep = 1}) == "1245");
}

}  // namespace
}  // namespace modal::snapshot

#include "snapshot/store.h"

#include <errno.h>
#include <sys/stat.h>

#include "tests/unit/snapshot/store_fixture.h"

namespace modal::snapshot {
namespace {

using Names = std::vector<std::string>;
using std::chrono_literals::operator""ms;

TEST_CASE_FIXTURE(StoreFixture,
                  "a folder that is missing is made, for its owner alone, and explains itself") {
  struct stat info {};
  REQUIRE(::stat(folder.c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0700);
  CHECK(NamesOf(folder) == Names{"README"});
  CHECK(ReadAll(folder + "/README").find("memory snapshots") != std::string::npos);
  CHECK(store->folder() == folder);
  CHECK(Store::Open(folder, Store::Use::kWrite).ok());
}

TEST_CASE("a folder that is no good is refused with the reason") {
  test::TempFolder temp;
  const auto problem = [](const std::string& folder, Store::Use use) {
    return Problem(Store::Open(folder, use));
  };
  const std::string missing = temp.path() + "/a/b";
  CHECK(problem(missing, Store::Use::kWrite) ==
        "make snapshot folder " + missing + ": No such file or directory");
  CHECK(problem(missing, Store::Use::kRead) ==
        "snapshot folder " + missing + ": No such file or directory");
  const std::string file = temp.Write("file", "x");
  CHECK(problem(file, Store::Use::kWrite) == "snapshot folder " + file + ": Not a directory");

  const std::string open = temp.path() + "/open";
  REQUIRE(::mkdir(open.c_str(), 0700) == 0);
  for (const mode_t mode : {0770, 0777, 0702, 01777}) {
    REQUIRE(::chmod(open.c_str(), mode) == 0);
    CHECK(problem(open, Store::Use::kWrite).find("other users may write to it") !=
          std::string::npos);
    CHECK_FALSE(problem(open, Store::Use::kRead).empty());
  }
  CHECK(problem(open + "/within", Store::Use::kWrite) == "");
}

TEST_CASE_FIXTURE(
    StoreFixture,
    "a snapshot that was published is found, with its files and what was said of it") {
  REQUIRE(Problem(Make(*store, kKey)) == "");
  const Result<std::optional<Store::Found>> found = store->Find(kKey);
  REQUIRE(Problem(found) == "");
  REQUIRE(*found);
  const Manifest& manifest = (*found)->manifest;
  CHECK(manifest.key == kKey);
  CHECK(manifest.agent_version == "1.2.3");
  CHECK((*found)->path == folder + "/" + kKey);
  REQUIRE(manifest.files.size() == 3);
  CHECK(manifest.files[0].name == "criu.kdat");
  CHECK(manifest.files[0].checksum == "99aa06d3014798d86001c324468d497f");  // of nothing
  CHECK(manifest.files[1].name == "images/core-1.img");
  CHECK(manifest.files[2].size == 9000);
  for (const auto& [name, bytes] : SomeContents()) CHECK(ReadAll(PathOf(name)) == bytes);
  CHECK(Problem(store->Verify(kKey)) == "");
  CHECK(NamesOf(folder) == Names{"README", kKey, kKey + ".lock"});
}

TEST_CASE_FIXTURE(StoreFixture,
                  "a key without a snapshot is found as nothing, and leaves nothing behind") {
  const Result<std::optional<Store::Found>> found = store->Find(kKey);
  REQUIRE(found);
  CHECK_FALSE(*found);
  CHECK(NamesOf(folder) == Names{"README"});
}

TEST_CASE_FIXTURE(StoreFixture, "what is no key is refused by every call") {
  for (const std::string key : {"", "..", "../../etc", "README", "x"}) {
    CAPTURE(key);
    const std::string refusal = "'" + key + "' is no key of a snapshot: those have 32 hex digits";
    CHECK(Problem(store->Find(key)) == refusal);
    CHECK(Problem(store->Stage(key)) == refusal);
    CHECK(Problem(store->Verify(key)) == refusal);
    CHECK(Problem(store->Delete(key)) == refusal);
    CHECK(Problem(store->ReadVerdict(key)) == refusal);
    CHECK(Problem(store->ChangeVerdict(key, [](Verdict v) { return v; })) == refusal);
  }
}

TEST_CASE_FIXTURE(StoreFixture, "a staging folder has an empty images folder for its owner alone") {
  Result<std::unique_ptr<Staging>> staging = store->Stage(kKey);
  REQUIRE(Problem(staging) == "");
  REQUIRE(*staging);
  CHECK((*staging)->images_dir() == (*staging)->path() + "/images");
  struct stat info {};
  REQUIRE(::stat((*staging)->images_dir().c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0700);
  CHECK(NamesOf((*staging)->images_dir()).empty());
}

TEST_CASE_FIXTURE(StoreFixture,
                  "a staging that is given up leaves nothing behind, even after its store") {
  Result<std::unique_ptr<Staging>> staging = store->Stage(kKey);
  REQUIRE(*staging);
  REQUIRE(Fill(**staging, SomeContents()));
  store.reset();
  staging->reset();
  CHECK(NamesOf(folder) == Names{"README"});
}

TEST_CASE_FIXTURE(StoreFixture,
                  "a key is staged by one at a time, and no more once it is published") {
  const std::unique_ptr<Store> other = OpenStore(folder);
  {
    Result<std::unique_ptr<Staging>> first = store->Stage(kKey);
    REQUIRE(*first);
    Result<std::unique_ptr<Staging>> second = other->Stage(kKey);
    REQUIRE(Problem(second) == "");
    CHECK_FALSE(*second);
    Result<std::unique_ptr<Staging>> another_key = other->Stage(kOtherKey);
    CHECK(*another_key);
  }
  REQUIRE(Problem(Make(*other, kKey)) == "");
  Result<std::unique_ptr<Staging>> late = store->Stage(kKey);
  REQUIRE(Problem(late) == "");
  CHECK_FALSE(*late);
}

TEST_CASE_FIXTURE(
    StoreFixture,
    "a snapshot that came from elsewhere meanwhile is not touched, and the maker is told") {
  Result<std::unique_ptr<Staging>> staging = store->Stage(kKey);
  REQUIRE(*staging);
  REQUIRE(Fill(**staging, SomeContents()));
  SUBCASE("a whole one") { temp.Write("snapshots/" + kKey + "/theirs", "x"); }
  SUBCASE("something that is no snapshot") { temp.Write("snapshots/" + kKey, "x"); }
  CHECK(Problem(store->Publish(*std::move(staging), SomeManifest())) ==
        "publish snapshot " + kKey + ": somebody else was first");
  CHECK(std::filesystem::exists(folder + "/" + kKey));
  for (const std::string& name : NamesOf(folder)) CHECK_FALSE(name.starts_with(".staging"));
}

TEST_CASE_FIXTURE(StoreFixture, "only regular files with names of a manifest are published") {
  Result<std::unique_ptr<Staging>> staging = store->Stage(kKey);
  REQUIRE(*staging);
  const std::string path = (*staging)->path();
  std::string complaint;
  SUBCASE("a symbolic link") {
    REQUIRE(::symlink("/etc/passwd", (path + "/images/link").c_str()) == 0);
    complaint = "\"images/link\": is no regular file";
  }
  SUBCASE("a pipe") {
    REQUIRE(::mkfifo((path + "/pipe").c_str(), 0600) == 0);
    complaint = "\"pipe\": is no regular file";
  }
  SUBCASE("a folder in a folder") {
    REQUIRE(::mkdir((path + "/images/more").c_str(), 0700) == 0);
    complaint = "\"images/more\": is no regular file";
  }
  SUBCASE("a name with a line end") {
    REQUIRE(Put(path + "/a\nb", "x"));
    complaint = "\"a\\nb\": has a name that no manifest may have";
  }
  SUBCASE("a manifest of somebody else") {
    REQUIRE(Put(path + "/manifest.json", "x"));
    complaint = "manifest.json: stands there already";
  }
  CHECK(Problem(store->Publish(*std::move(staging), SomeManifest())) ==
        "publish snapshot " + kKey + ": " + complaint);
  CHECK(NamesOf(folder) == Names{"README"});
}

TEST_CASE_FIXTURE(StoreFixture, "a manifest that could not be read again is not published") {
  Manifest manifest = SomeManifest();
  SUBCASE("a number out of range") { manifest.created_unix_ms = -5; }
  SUBCASE("too large") { manifest.command = {std::string(kLargestManifest, 'x')}; }
  CHECK(Problem(Make(*store, kKey, manifest)).find("manifest.json: ") != std::string::npos);
  CHECK(NamesOf(folder) == Names{"README"});
}

TEST_CASE_FIXTURE(StoreFixture,
                  "leftovers of makers and deleters that are gone go with the next who stages, "
                  "deletes or prunes") {
  REQUIRE(Problem(Make(*store, kOtherKey)) == "");
  temp.Write("snapshots/.staging-" + kKey + "-abcdef/images/pages-1.img", "half");
  temp.Write("snapshots/.staging-" + std::string(32, 'b') + "-234567/x", "half");
  temp.Write("snapshots/.trash-zzzzzz/images/x", "old");
  temp.Write("snapshots/" + std::string(32, 'c') + ".lock", "");
  // What is not ours, or not quite.
  const Names strange{".staging-x", ".staging-" + kKey + "-abcdefg", ".trash-zzzzzzz", ".trash-",
                      "notes.txt",  std::string(31, 'c') + ".lock",  kKey + ".backup"};
  for (const std::string& name : strange) temp.Write("snapshots/" + name + "/file", "theirs");
  SUBCASE("stages") { REQUIRE(*store->Stage(kKey)); }
  SUBCASE("deletes") {
    REQUIRE(Problem(Make(*store, std::string(32, 'd'))) == "");
    REQUIRE(Problem(store->Delete(std::string(32, 'd'))) == "");
  }
  SUBCASE("prunes") { REQUIRE(Problem(store->Prune({}, 0)) == ""); }
  Names expected = strange;
  expected.insert(expected.end(), {"README", kOtherKey, kOtherKey + ".lock"});
  std::sort(expected.begin(), expected.end());
  CHECK(NamesOf(folder) == expected);
  for (const std::string& name : strange) CHECK(ReadAll(folder + "/" + name + "/file") == "theirs");
}

TEST_CASE_FIXTURE(StoreFixture, "what somebody is at work on is nobody's leftover") {
  Result<std::unique_ptr<Staging>> staging = store->Stage(kKey);
  REQUIRE(*staging);
  REQUIRE(Fill(**staging, SomeContents()));
  const std::unique_ptr<Store> other = OpenStore(folder);
  REQUIRE(*other->Stage(kOtherKey));
  REQUIRE(Problem(other->Prune({.keep = 0}, 0)) == "");
  CHECK(Problem(store->Publish(*std::move(staging), SomeManifest())) == "");
  CHECK(Problem(store->Verify(kKey)) == "");
}

TEST_CASE_FIXTURE(StoreFixture, "no link is followed when leftovers are removed") {
  const std::string precious = temp.Write("precious/file", "mine");
  std::filesystem::create_directory(folder + "/.trash-aaaaaa");
  const std::string link = folder + "/.trash-aaaaaa/link";
  REQUIRE(::symlink((temp.path() + "/precious").c_str(), link.c_str()) == 0);
  const std::string trash = folder + "/.trash-bbbbbb";
  REQUIRE(::symlink((temp.path() + "/precious").c_str(), trash.c_str()) == 0);
  REQUIRE(Problem(store->Prune({}, 0)) == "");
  CHECK(ReadAll(precious) == "mine");
  CHECK(NamesOf(folder) == Names{".trash-bbbbbb", "README"});
}

TEST_CASE_FIXTURE(StoreFixture,
                  "a snapshot in use is not deleted; free, it goes with its verdict") {
  REQUIRE(Problem(Make(*store, kKey)) == "");
  REQUIRE(store->ChangeVerdict(kKey, [](Verdict v) { return AfterFailure(v, "x"); }));
  {
    Result<std::optional<Store::Found>> found = store->Find(kKey);
    REQUIRE(*found);
    const std::unique_ptr<Store> other = OpenStore(folder);
    Result<std::optional<Store::Found>> shared = other->Find(kKey);
    REQUIRE(*shared);
    CHECK(Problem(other->Delete(kKey)) == "snapshot " + kKey + ": is in use");
    CHECK(Problem(store->Verify(kKey)) == "");
  }
  CHECK(Problem(store->Delete(kKey)) == "");
  CHECK(Problem(store->Delete(kKey)) == "there is no snapshot " + kKey);
  CHECK(Problem(store->Verify(kKey)) == "there is no snapshot " + kKey);
  CHECK(NamesOf(folder) == Names{".lock", "README"});
}

TEST_CASE_FIXTURE(StoreFixture, "what has a key's name and is no folder is an error, and stays") {
  const std::string path = folder + "/" + kKey;
  SUBCASE("a file") { REQUIRE(Put(path, "x")); }
  SUBCASE("a link to a folder") { REQUIRE(::symlink(temp.path().c_str(), path.c_str()) == 0); }
  CHECK(Problem(store->Find(kKey)) == "snapshot " + kKey + ": is no folder");
  CHECK(Problem(store->Delete(kKey)) == "snapshot " + kKey + ": is no folder, and stays");
  CHECK_FALSE(Problem(store->Verify(kKey)).empty());
  CHECK_FALSE(*store->Stage(kKey));
  REQUIRE(store->List()->size() == 1);
  CHECK((*store->List())[0].is_foreign);
  CHECK((*store->List())[0].problem != "");
  CHECK(store->Prune({.keep = 0}, 0)->empty());
  CHECK(NamesOf(folder) == Names{"README", kKey});
}

TEST_CASE_FIXTURE(StoreFixture,
                  "a verdict is kept beside its snapshot, and each change sees the one before") {
  CHECK(store->ReadVerdict(kKey)->standing == Standing::kUnproven);
  for (int i = 0; i < 2; ++i) {
    REQUIRE(Problem(store->ChangeVerdict(
                kKey, [](Verdict v) { return AfterFailure(v, "it hung"); })) == "");
  }
  const Result<Verdict> verdict = OpenStore(folder)->ReadVerdict(kKey);
  REQUIRE(verdict);
  CHECK(verdict->standing == Standing::kQuarantined);
  CHECK(verdict->failures == 2);
  CHECK(verdict->reason == "it hung");
}

TEST_CASE_FIXTURE(StoreFixture,
                  "a new snapshot of a key starts without the verdict on the old one") {
  REQUIRE(store->ChangeVerdict(kKey, [](Verdict v) { return AfterFailure(v, "old"); }));
  REQUIRE(Problem(Make(*store, kKey)) == "");
  CHECK(store->ReadVerdict(kKey)->failures == 0);
}

TEST_CASE_FIXTURE(StoreFixture,
                  "a damaged verdict is an error to read, and is as none when it changes") {
  temp.Write("snapshots/" + kKey + ".verdict", "{\"standing\":");
  CHECK(Problem(store->ReadVerdict(kKey)) == kKey + ".verdict: is not valid JSON at byte 13");
  const auto changed = store->ChangeVerdict(kKey, [](Verdict v) { return AfterFailure(v, "x"); });
  REQUIRE(Problem(changed) == "");
  CHECK(changed->failures == 1);
  CHECK(store->ReadVerdict(kKey)->failures == 1);
}

TEST_CASE_FIXTURE(StoreFixture, "a verdict is never written through a link") {
  const std::string precious = temp.Write("precious", "mine");
  for (const char* name : {".verdict", ".verdict.new"}) {
    REQUIRE(::symlink(precious.c_str(), (folder + "/" + kKey + name).c_str()) == 0);
  }
  CHECK(Problem(store->ReadVerdict(kKey)) == kKey + ".verdict: is a symbolic link");
  CHECK(store->ChangeVerdict(kKey, [](Verdict v) { return AfterFailure(v, "x"); }));
  CHECK(ReadAll(precious) == "mine");
  CHECK(store->ReadVerdict(kKey)->failures == 1);
}

TEST_CASE_FIXTURE(StoreFixture, "nothing is locked through a link, or through what is no file") {
  REQUIRE(Problem(Make(*store, kKey)) == "");
  const std::string lock = folder + "/" + kKey + ".lock";
  REQUIRE(std::filesystem::remove(lock));
  SUBCASE("a link") { REQUIRE(::symlink((temp.path() + "/made").c_str(), lock.c_str()) == 0); }
  SUBCASE("a pipe") { REQUIRE(::mkfifo(lock.c_str(), 0600) == 0); }
  CHECK_FALSE(Problem(store->Find(kKey)).empty());
  CHECK_FALSE(Problem(store->Delete(kKey)).empty());
  CHECK_FALSE(std::filesystem::exists(temp.path() + "/made"));
}

TEST_CASE_FIXTURE(StoreFixture,
                  "a store opened for reading finds and verifies, and changes nothing") {
  REQUIRE(Problem(Make(*store, kKey)) == "");
  const std::unique_ptr<Store> reader = OpenStore(folder, Store::Use::kRead);
  {
    Result<std::optional<Store::Found>> found = reader->Find(kKey);
    REQUIRE(*found);
    CHECK(Problem(store->Delete(kKey)) == "snapshot " + kKey + ": is in use");
  }
  CHECK(Problem(reader->Verify(kKey)) == "");
  const std::string refusal = folder + ": was opened for reading only";
  CHECK(Problem(reader->Stage(kOtherKey)) == refusal);
  CHECK(Problem(reader->Delete(kKey)) == refusal);
  CHECK(Problem(reader->Prune({}, 0)) == refusal);
  CHECK(Problem(reader->ChangeVerdict(kKey, [](Verdict v) { return v; })) == refusal);
  // One that was copied there by hand has no lock yet, and gets none.
  REQUIRE(std::filesystem::remove(folder + "/" + kKey + ".lock"));
  CHECK(*reader->Find(kKey));
  CHECK(NamesOf(folder) == Names{"README", kKey});
}

}  // namespace
}  // namespace modal::snapshot

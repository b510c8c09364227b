// Snapshots that are not what they were: what Find(), Verify() and List() say of them.
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "snapshot/store.h"
#include "tests/unit/snapshot/resealed.h"
#include "tests/unit/snapshot/store_fixture.h"

namespace modal::snapshot {
namespace {

struct DamageFixture : StoreFixture {
  DamageFixture() { REQUIRE(Problem(Make(*store, kKey)) == ""); }

  // Without "snapshot KEY: ".
  std::string Found() const { return Cut(Problem(store->Find(kKey))); }
  std::string Verified() const { return Cut(Problem(store->Verify(kKey))); }
  static std::string Cut(const std::string& problem) {
    const std::string start = "snapshot " + kKey + ": ";
    if (problem.empty()) return "";
    REQUIRE(problem.starts_with(start));
    CHECK(problem.find('\n') == std::string::npos);
    return problem.substr(start.size());
  }
};

TEST_CASE_FIXTURE(
    DamageFixture,
    "one byte that flipped is told by verify with the file's name, and not noticed by find") {
  std::string bytes = ReadAll(PathOf("images/pages-1.img"));
  bytes[4321] ^= 1;
  REQUIRE(Put(PathOf("images/pages-1.img"), bytes));
  CHECK(Found() == "");
  CHECK(Verified() == "is damaged: images/pages-1.img (checksum)");
}

TEST_CASE_FIXTURE(DamageFixture, "a file that is shorter, longer or missing is told by both") {
  const auto path = PathOf("images/pages-1.img");
  SUBCASE("shorter") {
    std::filesystem::resize_file(path, 8999);
    CHECK(Found() == "images/pages-1.img: has 8999 bytes, and should have 9000");
    CHECK(Verified() == "is damaged: images/pages-1.img (8999 bytes instead of 9000)");
  }
  SUBCASE("longer") {
    std::filesystem::resize_file(path, 9001);
    CHECK(Found() == "images/pages-1.img: has 9001 bytes, and should have 9000");
  }
  SUBCASE("missing") {
    std::filesystem::remove(path);
    CHECK(Found() == "images/pages-1.img: is missing");
    CHECK(Verified() == "is damaged: images/pages-1.img (is missing)");
  }
  SUBCASE("with its folder") {
    std::filesystem::remove_all(PathOf("images"));
    CHECK(Found() == "images/core-1.img: images: No such file or directory");
    CHECK(Verified().starts_with("is damaged: images/core-1.img ("));
  }
}

TEST_CASE_FIXTURE(DamageFixture,
                  "verify names everything that is wrong, what does not belong there too") {
  REQUIRE(Put(PathOf("images/core-1.img"), "registerz"));
  std::filesystem::remove(PathOf("criu.kdat"));
  REQUIRE(Put(PathOf("images/extra.img"), "x"));
  CHECK(Verified() ==
        "is damaged: criu.kdat (is missing), images/core-1.img (checksum), images/extra.img (is "
        "not in "
        "the manifest)");
}

TEST_CASE_FIXTURE(DamageFixture, "links and other things in a file's place are not followed") {
  const std::string path = PathOf("images/core-1.img");
  const std::string outside = temp.Write("outside/core-1.img", "registers");
  std::filesystem::remove(path);
  SUBCASE("a link") {
    REQUIRE(::symlink(outside.c_str(), path.c_str()) == 0);
    CHECK(Found() == "images/core-1.img: is no regular file");
  }
  SUBCASE("a pipe") {
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    CHECK(Found() == "images/core-1.img: is no regular file");
  }
  SUBCASE("a link in the folder's place") {
    std::filesystem::remove_all(PathOf("images"));
    REQUIRE(::symlink((temp.path() + "/outside").c_str(), PathOf("images").c_str()) == 0);
    CHECK(Found() == "images/core-1.img: images: is a symbolic link");
  }
  CHECK(Verified().starts_with("is damaged: images/core-1.img ("));
}

TEST_CASE_FIXTURE(DamageFixture,
                  "a manifest that is missing, damaged, foreign or giant is told in one line") {
  const std::string path = PathOf("manifest.json");
  const std::string text = ReadAll(path);
  std::string expected;
  SUBCASE("missing") {
    std::filesystem::remove(path);
    expected = "manifest.json: is missing";
  }
  SUBCASE("cut off") {
    std::filesystem::resize_file(path, text.size() / 2);
    expected = "manifest.json: is not valid JSON at byte " + std::to_string(text.size() / 2 + 1);
  }
  SUBCASE("empty") {
    std::filesystem::resize_file(path, 0);
    expected = "manifest.json: is not valid JSON at byte 1";
  }
  SUBCASE("giant") {
    std::filesystem::resize_file(path, uint64_t{1} << 40);
    expected = "manifest.json: is too large";
  }
  SUBCASE("a link") {
    std::filesystem::remove(path);
    const std::string outside = temp.Write("outside.json", text);
    REQUIRE(::symlink(outside.c_str(), path.c_str()) == 0);
    expected = "manifest.json: is a symbolic link";
  }
  SUBCASE("of another snapshot") {
    nlohmann::json json = nlohmann::json::parse(text);
    json["key"] = kOtherKey;
    REQUIRE(Put(path, Resealed(json)));
    expected = "manifest.json: is that of snapshot " + kOtherKey;
  }
  SUBCASE("with a path that leads out") {
    nlohmann::json json = nlohmann::json::parse(text);
    json["files"][0]["name"] = "../../etc/passwd";
    REQUIRE(Put(path, json.dump()));
    expected = "manifest.json: files[0].name: is no name of a file in a snapshot";
  }
  CHECK(Found() == expected);
  CHECK(Verified() == expected);
  const Result<std::vector<Entry>> entries = store->List();
  REQUIRE(entries);
  REQUIRE(entries->size() == 1);
  CHECK_FALSE((*entries)[0].manifest);
  CHECK_FALSE((*entries)[0].is_foreign);
  CHECK((*entries)[0].problem == "snapshot " + kKey + ": " + expected);
  CHECK(Problem(store->Delete(kKey)) == "");
}

TEST_CASE_FIXTURE(DamageFixture,
                  "a snapshot of another format is an error to find, and pruning leaves it alone") {
  REQUIRE(Put(PathOf("manifest.json"), "{\"format\":2,\"new\":true}"));
  CHECK(Found() == "manifest.json: format: is 2, and this agent knows 1");
  REQUIRE(store->List()->size() == 1);
  CHECK((*store->List())[0].is_foreign);
  CHECK(store->Prune({.keep = 0}, 0)->empty());
  CHECK(std::filesystem::exists(PathOf("manifest.json")));
  CHECK(Problem(store->Delete(kKey)) == "");
}

}  // namespace
}  // namespace modal::snapshot

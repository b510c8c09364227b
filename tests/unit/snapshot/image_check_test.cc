#include "snapshot/image_check.h"

#include <doctest/doctest.h>

#include <filesystem>

#include "tests/unit/snapshot/store_fixture.h"

namespace modal::snapshot {
namespace {

struct Published : StoreFixture {
  Published() {
    REQUIRE(Problem(Make(*store, kKey)) == "");
    Result<std::optional<Store::Found>> found = store->Find(kKey);
    REQUIRE((found && *found));
    files = (*found)->manifest.files;
  }
  void Flip(const std::string& name) {
    std::string bytes = ReadAll(PathOf(name));
    REQUIRE_FALSE(bytes.empty());
    bytes[bytes.size() / 2] ^= 1;
    REQUIRE(Put(PathOf(name), bytes).ok());
  }

  std::vector<ImageFile> files;
};

TEST_CASE_FIXTURE(Published,
                  "files that are as they were published are right, asked for twice too") {
  ImageCheck check(folder + "/" + kKey, files);
  for (int i = 0; i < 2; ++i) {
    CHECK(Problem(check.AwaitOthers()) == "");
    CHECK(Problem(check.AwaitMemory()) == "");
  }
}

TEST_CASE_FIXTURE(Published, "a changed byte is told of memory apart from all else") {
  SUBCASE("of memory") {
    Flip("images/pages-1.img");
    ImageCheck check(folder + "/" + kKey, files);
    CHECK(Problem(check.AwaitOthers()) == "");
    CHECK(Problem(check.AwaitMemory()) == "images/pages-1.img: is damaged, its checksum differs");
  }
  SUBCASE("of something else") {
    Flip("images/core-1.img");
    ImageCheck check(folder + "/" + kKey, files);
    CHECK(Problem(check.AwaitOthers()) == "images/core-1.img: is damaged, its checksum differs");
    CHECK(Problem(check.AwaitMemory()) == "");
  }
}

TEST_CASE_FIXTURE(Published, "a file that is gone, cut off or longer is an error that names it") {
  const std::string path = PathOf("images/pages-1.img");
  SUBCASE("gone") { std::filesystem::remove(path); }
  SUBCASE("cut off") { std::filesystem::resize_file(path, 4096); }
  SUBCASE("longer") { std::filesystem::resize_file(path, 1 << 20); }
  ImageCheck check(folder + "/" + kKey, files);
  CHECK(Problem(check.AwaitMemory()).find("images/pages-1.img") != std::string::npos);
}

TEST_CASE_FIXTURE(Published, "one that nobody waits for ends before its files are read") {
  // A hole of 64 GiB takes longer to read than any test may.
  std::filesystem::resize_file(PathOf("images/pages-1.img"), uint64_t{64} << 30);
  { ImageCheck check(folder + "/" + kKey, files); }
}

}  // namespace
}  // namespace modal::snapshot

#include "snapshot/page_map.h"

#include <doctest/doctest.h>

#include "tests/unit/snapshot/page_images.h"

namespace modal::snapshot {
namespace {

using namespace testing;

std::string ProblemOf(const std::string& image) {
  const Result<PageMap> map = ParsePageMap(image, kPage);
  return map ? "" : map.error().message();
}

TEST_CASE("a map of pages tells where in the file each lazy run lies, past all that is not lazy") {
  const Result<PageMap> map = ParsePageMap(
      PageMapImage(7, {{0x10000, 2}, {0x20000, 3, kPresent}, {0x30000, 5, 2}, {0x40000, 1}}),
      kPage);
  REQUIRE(map);
  CHECK(map->pages_id == 7);
  REQUIRE(map->lazy.size() == 2);
  CHECK(map->lazy[0].memory.start == 0x10000);
  CHECK(map->lazy[0].memory.end == 0x12000);
  CHECK(map->lazy[0].offset == 0);
  CHECK(map->lazy[1].memory.start == 0x40000);
  CHECK(map->lazy[1].offset == 5 * kPage);
  CHECK(map->file_bytes == 6 * kPage);
  REQUIRE(map->eager.size() == 1);
  CHECK(map->eager[0].start == 2 * kPage);
  CHECK(map->eager[0].end == 5 * kPage);
}

TEST_CASE("the wide number of pages counts where there is one") {
  std::string image = PageMapImage(1, {});
  image += Message(
      ProtobufWriter().Varint(1, 0x10000).Varint(2, 1).Varint(4, kLazyPresent).Varint(5, 9));
  const Result<PageMap> map = ParsePageMap(image, kPage);
  REQUIRE(map);
  CHECK(map->file_bytes == 9 * kPage);
}

TEST_CASE("pages of another snapshot are refused") {
  CHECK(ProblemOf(PageMapImage(1, {{0x10000, 1, kPresent | 1}})) ==
        "its pages lie in another snapshot");
}

TEST_CASE("a damaged map of pages is an Error") {
  const std::string damaged = "the map of its pages is damaged";
  const std::string whole = PageMapImage(1, {{0x10000, 2}, {0x20000, 3}});
  CHECK(ProblemOf("") == damaged);
  CHECK(ProblemOf(MemoryImage({})) == damaged);
  for (size_t size = 0; size < whole.size(); ++size) {
    const Result<PageMap> map = ParsePageMap(whole.substr(0, size), kPage);
    // Only between two messages it is a shorter map.
    if (map) CHECK(map->lazy.size() < 2);
  }
  CHECK(ProblemOf(PageMapImage(1, {{0x10001, 2}})) == damaged);
  CHECK(ProblemOf(PageMapImage(1, {{0x10000, 0}})) == damaged);
  CHECK(ProblemOf(PageMapImage(1, {{0x20000, 2}, {0x10000, 2}})) == damaged);
  CHECK(ProblemOf(PageMapImage(1, {{0x10000, 2}, {0x11000, 2}})) == damaged);
  CHECK(ProblemOf(PageMapImage(1, {{0x10000, ~uint64_t{0}}})) == damaged);
  CHECK(ProblemOf(PageMapImage(1, {{~uint64_t{0} - kPage + 1, 1}})) == damaged);
}

TEST_CASE("what a child does not inherit is found by its advice") {
  constexpr uint64_t kDontFork = 1 << 10;
  constexpr uint64_t kWipeOnFork = 1 << 18;
  const std::string image = MemoryImage({{0x1000, 0x2000},
                                         {0x3000, 0x4000, kDontFork},
                                         {0x5000, 0x6000, 1 << 14},
                                         {0x7000, 0x8000, kWipeOnFork}});
  const Result<std::vector<MemoryRange>> ranges = ParseNotInherited(image);
  REQUIRE(ranges);
  REQUIRE(ranges->size() == 2);
  CHECK(ranges->at(0).start == 0x3000);
  CHECK(ranges->at(1).end == 0x8000);
  CHECK_FALSE(ParseNotInherited(image.substr(0, image.size() - 1)));
  CHECK_FALSE(ParseNotInherited(PageMapImage(1, {})));
}

}  // namespace
}  // namespace modal::snapshot

#include "snapshot/page_sums.h"

#include <doctest/doctest.h>

#include "tests/unit/snapshot/file_tree.h"
#include "tests/unit/snapshot/page_images.h"

namespace modal::snapshot {
namespace {

using namespace testing;

// Two blocks that CRIU reads itself, two that it does not, and a short one.
struct Images {
  Images() {
    constexpr uint64_t kBlockPages = kSumBlock / kPage;
    tree.File("pagemap-1000.img", PageMapImage(7, {{0x100000, kBlockPages, kPresent},
                                                   {0x200000, 2 * kBlockPages},
                                                   {0x300000, kBlockPages, kPresent},
                                                   {0x400000, 1}}));
    tree.File("pages-7.img", pages);
    tree.File("pages-x.img", "none of CRIU's");
    REQUIRE(WritePageSums(tree.path()));
  }
  std::string Problem() const {
    const Result<void> checked = CheckEagerPages(tree.path(), kPage);
    return checked ? "" : checked.error().message();
  }
  void Flip(size_t at) {
    pages[at] = static_cast<char>(pages[at] ^ 1);
    tree.File("pages-7.img", pages);
  }

  FileTree tree;
  std::string pages = std::string(4 * kSumBlock, 'x') + std::string(kPage, 'y');
};

TEST_CASE_FIXTURE(Images, "what CRIU reads itself is compared, and nothing else") {
  CHECK(Problem() == "");
  const std::string damaged = "pages-7.img: is damaged, its checksum differs";
  SUBCASE("the first block") {
    Flip(0);
    CHECK(Problem() == damaged);
  }
  SUBCASE("the last of them") {
    Flip(4 * kSumBlock - 1);
    CHECK(Problem() == damaged);
  }
  SUBCASE("what comes lazily") {
    Flip(kSumBlock);
    Flip(3 * kSumBlock - 1);
    Flip(4 * kSumBlock);
    CHECK(Problem() == "");
  }
  SUBCASE("cut off") {
    tree.File("pages-7.img", pages.substr(0, 3 * kSumBlock));
    CHECK(Problem() == damaged);
  }
}

TEST_CASE_FIXTURE(Images, "checksums that are missing, or not as many as blocks, are an Error") {
  SUBCASE("missing") {
    tree.Remove("sums-7.img");
    CHECK(Problem() == "sums-7.img: No such file or directory");
  }
  SUBCASE("too few") {
    tree.File("sums-7.img", "12345678");
    CHECK(Problem() == "sums-7.img: not of as many blocks as there are");
  }
}

}  // namespace
}  // namespace modal::snapshot

#include "snapshot/pages_choice.h"

#include <doctest/doctest.h>

namespace modal::snapshot {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

Manifest With(const std::vector<uint64_t>& mebibytes) {
  Manifest manifest;
  manifest.files.push_back({"images/core-1000.img", 1000 * kMiB, ""});
  manifest.files.push_back({"files.tar", 1000 * kMiB, ""});
  for (size_t i = 0; i < mebibytes.size(); ++i) {
    manifest.files.push_back(
        {"images/pages-" + std::to_string(i + 1) + ".img", mebibytes[i] * kMiB, ""});
  }
  return manifest;
}

TEST_CASE("one large process comes back lazily, and small ones at once") {
  CHECK(WantsLazyPages(Pages::kAuto, With({1, 1024, 30}), Verdict{}));
  CHECK(WantsLazyPages(Pages::kAuto, With({128}), Verdict{}));
  CHECK_FALSE(WantsLazyPages(Pages::kAuto, With({127}), Verdict{}));
  CHECK_FALSE(WantsLazyPages(Pages::kAuto, With({}), Verdict{}));
  CHECK(MemoryBytes(With({1, 1024, 30})) == 1055 * kMiB);
}

TEST_CASE("workers that may share their memory come back at once") {
  CHECK_FALSE(WantsLazyPages(Pages::kAuto, With({500, 500, 500}), Verdict{}));
}

TEST_CASE("after a failure it is tried in the plain way") {
  CHECK_FALSE(WantsLazyPages(Pages::kAuto, With({1024}), AfterFailure(Verdict{}, "lazy pages")));
}

TEST_CASE("whoever says so has it so") {
  CHECK(WantsLazyPages(Pages::kLazy, With({1, 1}), AfterFailure(Verdict{}, "x")));
  CHECK_FALSE(WantsLazyPages(Pages::kEager, With({1024}), Verdict{}));
}

}  // namespace
}  // namespace modal::snapshot

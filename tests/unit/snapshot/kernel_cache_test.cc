#include "snapshot/kernel_cache.h"

#include <doctest/doctest.h>

#include <cstring>
#include <fstream>
#include <sstream>

#include "tests/unit/snapshot/file_tree.h"

namespace modal::snapshot {
namespace {

constexpr uint64_t kFeatures = 0x1ffff;

template <class T>
void Put(std::string& cache, size_t offset, T value) {
  std::memcpy(cache.data() + offset, &value, sizeof value);
}

// The beginning of what CRIU 4.1.1 writes on x86-64, unprivileged.
std::string SomeCache() {
  std::string cache(904, '\0');
  Put<uint32_t>(cache, 0, 0x57023458);
  Put<uint32_t>(cache, 4, 0x688914eb);
  Put<int32_t>(cache, 16, 40);
  Put<uint64_t>(cache, 24, ~uint64_t{0});
  Put<uint32_t>(cache, 32, 0x01010100);
  Put<uint64_t>(cache, 40, 0x7ffffffff000);
  Put<uint32_t>(cache, 48, 1);
  Put<uint64_t>(cache, 72, 65536);
  Put<uint32_t>(cache, 104, 0x00010100);
  return cache;
}

std::string ProblemOf(std::string cache) {
  const std::string before = cache;
  const Result<void> put = PutUserfaultfd(cache, kFeatures);
  if (put) return "";
  CHECK(cache == before);
  return put.error().message();
}

TEST_CASE("userfaultfd is put into a cache that lacks it, and nothing else is changed") {
  std::string cache = SomeCache();
  REQUIRE(PutUserfaultfd(cache, kFeatures));
  CHECK(cache[89] == 1);
  uint64_t features = 0;
  std::memcpy(&features, cache.data() + 96, sizeof features);
  CHECK(features == kFeatures);
  Put<uint64_t>(cache, 96, 0);
  cache[89] = 0;
  CHECK(cache == SomeCache());
}

TEST_CASE("a cache that has it is left as it is") {
  std::string cache = SomeCache();
  REQUIRE(PutUserfaultfd(cache, kFeatures));
  const std::string before = cache;
  REQUIRE(PutUserfaultfd(cache, kFeatures));
  CHECK(cache == before);
}

TEST_CASE("a cache of another kind is refused, and left as it is") {
  const std::string unknown = "CRIU's cache of the kernel's features is of an unknown kind";
  CHECK(ProblemOf("") == unknown);
  CHECK(ProblemOf(SomeCache().substr(0, 100)) == unknown);
  CHECK(ProblemOf(std::string(904, '\xff')) == unknown);
  CHECK(ProblemOf(std::string(904, '\0')) == unknown);
  std::string cache = SomeCache();
  Put<uint64_t>(cache, 72, 4097);
  CHECK(ProblemOf(cache) == unknown);
  cache = SomeCache();
  Put<int32_t>(cache, 16, 0);
  CHECK(ProblemOf(cache) == unknown);
  cache = SomeCache();
  cache[80] = 2;
  CHECK(ProblemOf(cache) == unknown);
  cache = SomeCache();
  Put<uint64_t>(cache, 96, 1);
  CHECK(ProblemOf(cache) == unknown);
}

TEST_CASE("the cache in a folder is replaced; where there is none it is an Error") {
  testing::FileTree tree;
  tree.Folder("from");
  tree.Folder("to");
  const std::string from = tree.path() + "/from";
  const std::string to = tree.path() + "/to";
  CHECK_FALSE(CopyKernelCache(from, to));
  CHECK_FALSE(PutUserfaultfdInto(to, kFeatures));
  std::ofstream(from + "/criu.kdat") << SomeCache();
  REQUIRE(CopyKernelCache(from, to));
  REQUIRE(PutUserfaultfdInto(to, kFeatures));
  const auto read = [](const std::string& path) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  };
  std::string expected = SomeCache();
  CHECK(read(from + "/criu.kdat") == expected);
  REQUIRE(PutUserfaultfd(expected, kFeatures));
  CHECK(read(to + "/criu.kdat") == expected);
}

}  // namespace
}  // namespace modal::snapshot

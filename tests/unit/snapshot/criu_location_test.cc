#include "snapshot/criu_location.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include "tests/unit/snapshot/file_tree.h"

namespace modal::snapshot {
namespace {

using testing::FileTree;

std::string Problem(const Result<CriuLocation>& found) {
  return found ? "" : found.error().message();
}

bool HasBundle() { return ::access(kBundledCriu, F_OK) == 0; }

TEST_CASE("the program that was asked for is taken, with the build that its bundle names") {
  const FileTree tree;
  tree.File("criu/criu", "program", 1'600'000'000, 0755);
  tree.File("criu/MANIFEST", "build 0123456789abcdef\npackage criu 4.1\n");
  const Result<CriuLocation> found = LocateCriu(tree.At("criu/criu"), "");
  REQUIRE(found);
  CHECK(found->path == tree.At("criu/criu"));
  CHECK(found->build == "0123456789abcdef");
}

TEST_CASE("without a bundle's manifest the build is the program's size and time") {
  const FileTree tree;
  tree.File("criu", "program", 1'600'000'000, 0755);
  const Result<CriuLocation> found = LocateCriu(tree.At("criu"), "");
  REQUIRE(found);
  CHECK(found->build == "7-1600000000");
  SUBCASE("nor with one that is none of ours") { tree.File("MANIFEST", "something else\n"); }
  SUBCASE("nor with an empty one") { tree.File("MANIFEST", ""); }
  SUBCASE("nor with a folder of that name") { tree.Folder("MANIFEST"); }
  SUBCASE("nor with a FIFO, on which nobody waits") { tree.Fifo("MANIFEST"); }
  CHECK(LocateCriu(tree.At("criu"), "")->build == "7-1600000000");
}

TEST_CASE("what was asked for must be a program, and nothing else takes its place") {
  const FileTree tree;
  tree.File("bin/criu", "program", 1'600'000'000, 0755);
  tree.File("text", "no program");
  tree.Folder("folder");
  for (const char* name : {"none", "folder", "text"}) {
    CAPTURE(name);
    const std::string problem = Problem(LocateCriu(tree.At(name), tree.At("bin")));
    CHECK(problem.starts_with("--criu: " + tree.At(name)));
  }
}

TEST_CASE("otherwise it is looked for on the PATH") {
  if (HasBundle()) return;
  const FileTree tree;
  tree.File("sbin/criu", "program", 1'600'000'000, 0755);
  const Result<CriuLocation> found = LocateCriu("", tree.At("bin") + ":" + tree.At("sbin"));
  REQUIRE(found);
  CHECK(found->path == tree.At("sbin/criu"));
}

TEST_CASE("where there is none it is said how to get one") {
  if (HasBundle()) return;
  const FileTree tree;
  const std::string problem = Problem(LocateCriu("", tree.path()));
  CHECK(problem.find(kBundledCriu) != std::string::npos);
  CHECK(problem.find("--criu") != std::string::npos);
}

}  // namespace
}  // namespace modal::snapshot

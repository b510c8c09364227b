#include "snapshot/read_ahead.h"

#include <dirent.h>
#include <doctest/doctest.h>
#include <fcntl.h>

#include <string>
#include <vector>

#include "tests/unit/snapshot/file_tree.h"

namespace modal::snapshot {
namespace {

using testing::FileTree;

// Nothing, or how it is another folder than there is.
std::string Differs(int root, const std::string& path, const SeenFolder& seen) {
  int code = 0;
  const UniqueFd folder = OpenFolder(root, Below(path), code);
  Listing listing;
  if (!folder || listing.Read(folder.get()) != 0) return "cannot be read";
  if (listing.size() != seen.listing.size() || seen.entries.size() != listing.size()) return "size";
  for (size_t i = 0; i < listing.size(); ++i) {
    if (std::string(listing.name(i)) != seen.listing.name(i)) return "name";
    FileFacts facts;
    const SeenEntry& entry = seen.entries[i];
    if (listing.type(i) == DT_LNK && entry.target != LinkTarget(folder.get(), listing.name(i))) {
      return "target";
    }
    if (listing.type(i) != DT_REG) continue;
    if (Look(folder.get(), listing.name(i), facts) != entry.code) return "code";
    if (facts.size != entry.facts.size || facts.mtime_ns != entry.facts.mtime_ns) return "facts";
  }
  return "";
}

TEST_CASE("what was read ahead is what there is, and what was not is asked for in vain") {
  const FileTree tree;
  std::vector<std::string> folders = {"a"};
  for (int i = 0; i < 100; ++i) {
    folders.push_back("a/" + std::to_string(i));
    tree.File(folders.back() + "/file", std::string(static_cast<size_t>(i), 'x'));
    tree.Link(folders.back() + "/link", std::to_string(i));
  }
  tree.File("a/left/file", "x");
  int code = 0;
  const UniqueFd root = OpenFolder(AT_FDCWD, tree.path().c_str(), code);
  FileFacts facts;
  REQUIRE(Look(root.get(), "", facts) == 0);
  for (int round = 0; round < 50; ++round) {
    ReadAhead ahead(
        root.get(), facts.mount, {"none", "a"},
        [](const std::string&, const char* name) { return std::string(name) != "left"; });
    for (const std::string& folder : folders) {
      const std::shared_ptr<const SeenFolder> seen = ahead.Take(folder);
      if (seen) CHECK(Differs(root.get(), folder, *seen) == "");
      CHECK_FALSE(ahead.Take(folder));
      if (folder != "a") ahead.Leave(folder);
    }
    CHECK_FALSE(ahead.Take("a/left"));
    CHECK_FALSE(ahead.Take("none"));
  }
}

TEST_CASE("nothing of another mount is read ahead") {
  const FileTree tree;
  tree.File("a/file", "x");
  int code = 0;
  const UniqueFd root = OpenFolder(AT_FDCWD, tree.path().c_str(), code);
  FileFacts facts;
  REQUIRE(Look(root.get(), "", facts) == 0);
  for (int round = 0; round < 50; ++round) {
    ReadAhead ahead(root.get(), facts.mount + 1, {"a"},
                    [](const std::string&, const char*) { return true; });
    CHECK_FALSE(ahead.Take("a"));
  }
}

}  // namespace
}  // namespace modal::snapshot

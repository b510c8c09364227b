#include "agent/whole_file.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "tests/unit/snapshot/store_fixture.h"

namespace modal {
namespace {

using snapshot::NamesOf;
using snapshot::ReadAll;
using Names = std::vector<std::string>;

void Say(const WholeFile& file, const std::string& text) {
  REQUIRE(::write(file.fd(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

TEST_CASE("a file is there under its name when it is published, and not before") {
  const test::TempFolder folder;
  const std::string path = folder.path() + "/a";
  {
    Result<WholeFile> file = WholeFile::Create(path);
    REQUIRE(file.ok());
    Say(*file, "all of it");
    CHECK_FALSE(std::filesystem::exists(path));
    REQUIRE(file->Publish().ok());
  }
  CHECK(NamesOf(folder.path()) == Names{"a"});
  CHECK(ReadAll(path) == "all of it");
  struct stat info {};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0600);
}

TEST_CASE("a file that is not published leaves nothing, and what was there stays") {
  const test::TempFolder folder;
  const std::string path = folder.Write("a", "old");
  {
    Result<WholeFile> file = WholeFile::Create(path);
    REQUIRE(file.ok());
    Say(*file, "half");
  }
  CHECK(NamesOf(folder.path()) == Names{"a"});
  CHECK(ReadAll(path) == "old");
  {
    Result<WholeFile> file = WholeFile::Create(path);
    REQUIRE(file.ok());
    Say(*file, "new");
    REQUIRE(file->Publish().ok());
  }
  CHECK(NamesOf(folder.path()) == Names{"a"});
  CHECK(ReadAll(path) == "new");
}

TEST_CASE("a link stays one, and what it leads to is replaced") {
  const test::TempFolder folder;
  const std::string target = folder.Write("deep/target", "old");
  std::filesystem::create_symlink("deep/target", folder.path() + "/link");
  Result<WholeFile> file = WholeFile::Create(folder.path() + "/link");
  REQUIRE(file.ok());
  Say(*file, "new");
  REQUIRE(file->Publish().ok());
  CHECK(std::filesystem::is_symlink(folder.path() + "/link"));
  CHECK(ReadAll(target) == "new");
}

TEST_CASE("a folder that is not there, or a name that is none, is an error") {
  const test::TempFolder folder;
  CHECK_FALSE(WholeFile::Create(folder.path() + "/no/a").ok());
  CHECK_FALSE(WholeFile::Create(folder.path() + "/new/").ok());
  CHECK(NamesOf(folder.path()).empty());
}

}  // namespace
}  // namespace modal

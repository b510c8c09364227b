#include "snapshot/replaced_files.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <map>

#include "snapshot/changed_files.h"
#include "tests/unit/snapshot/file_tree.h"
#include "tests/unit/snapshot/store_fixture.h"

namespace modal::snapshot {
namespace {

using testing::FileTree;

// Everything below a folder, with what of it a program could tell apart.
std::map<std::string, std::string> Everything(const FileTree& tree) {
  std::map<std::string, std::string> all;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(tree.path())) {
    const std::string name = std::filesystem::relative(entry.path(), tree.path()).string();
    const struct stat info = tree.Stat(name);
    std::string facts = std::to_string(info.st_mode) + " " + std::to_string(info.st_uid) + " " +
                        std::to_string(info.st_mtim.tv_sec) + "." +
                        std::to_string(info.st_mtim.tv_nsec);
    if (entry.is_symlink()) {
      facts += " -> " + std::filesystem::read_symlink(entry.path()).string();
    } else if (entry.is_regular_file()) {
      facts += " " + tree.Read(name);
    }
    all[name] = facts;
  }
  return all;
}

// A root that a start has changed, as an archive; and a fresh one.
struct Travellers {
  Travellers() {
    changed.File("app/config", "as the start has written it", 1'700'000'000, 0600);
    changed.File("run/server.pid", "1001");
    changed.File("cache/deep/down/model", "downloaded");
    changed.Link("app/current", "config");
    ScanSpec spec;
    spec.root = changed.path();
    const Result<ChangedFiles> files = ScanChangedFiles(spec);
    REQUIRE(files);
    archive = UniqueFd(::open(place.At("archive").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    REQUIRE(CarryFiles(spec, *files, archive.get(), kMaxCarried));

    fresh.File("app/config", "as in the image", 1'600'000'000, 0644);
    fresh.File("app/code.py", "print(1)");
    fresh.Link("app/current", "code.py");
    fresh.Folder("cache");
  }
  // As a restore does.
  ReplacedFiles Put() const {
    Result<ReplacedFiles> replaced = ReplacedFiles::Note(fresh.path(), archive.get());
    REQUIRE(Problem(replaced) == "");
    REQUIRE(Problem(PutBackFiles(fresh.path(), archive.get())) == "");
    return *std::move(replaced);
  }

  FileTree place;
  FileTree changed;
  FileTree fresh;
  UniqueFd archive;
};

TEST_CASE_FIXTURE(Travellers, "what was put into a root is taken back without a trace") {
  const auto before = Everything(fresh);
  ReplacedFiles replaced = Put();
  CHECK(fresh.Read("app/config") == "as the start has written it");
  CHECK(fresh.Read("app/current") == "as the start has written it");
  CHECK(fresh.Read("cache/deep/down/model") == "downloaded");
  REQUIRE(Problem(replaced.TakeBack()) == "");
  CHECK(Everything(fresh) == before);
}

TEST_CASE_FIXTURE(Travellers, "half of it is taken back too, and what has changed since") {
  const auto before = Everything(fresh);
  Result<ReplacedFiles> replaced = ReplacedFiles::Note(fresh.path(), archive.get());
  REQUIRE(replaced);
  SUBCASE("nothing was put yet") {}
  SUBCASE("a part of it") {
    fresh.File("run/server.pid", "1001");
    fresh.File("app/config", "another");
  }
  SUBCASE("it was put, and a program has removed and replaced some") {
    REQUIRE(PutBackFiles(fresh.path(), archive.get()));
    fresh.Remove("run/server.pid");
    fresh.Remove("app/current");
    fresh.File("app/config", "written by the restored server");
    fresh.Remove("cache/deep/down/model");
    fresh.Fifo("cache/deep/down/model");
  }
  REQUIRE(Problem(replaced->TakeBack()) == "");
  CHECK(Everything(fresh) == before);
}

TEST_CASE_FIXTURE(Travellers, "a folder in which others have put something stays with it") {
  ReplacedFiles replaced = Put();
  fresh.File("cache/deep/mine", "of somebody else");
  REQUIRE(Problem(replaced.TakeBack()) == "");
  CHECK(fresh.Read("cache/deep/mine") == "of somebody else");
  CHECK_FALSE(std::filesystem::exists(fresh.At("cache/deep/down")));
  CHECK_FALSE(std::filesystem::exists(fresh.At("run")));
}

TEST_CASE_FIXTURE(Travellers,
                  "nothing is removed through a link that was put in a folder's place") {
  const FileTree outside;
  outside.File("server.pid", "of another program");
  ReplacedFiles replaced = Put();
  fresh.Remove("run");
  fresh.Link("run", outside.path());
  CHECK_FALSE(replaced.TakeBack());
  CHECK(outside.Read("server.pid") == "of another program");
  CHECK(fresh.Read("app/config") == "as in the image");
}

TEST_CASE(
    "what is no archive, or replaces more than may be kept, is refused with nothing changed") {
  const FileTree place;
  const FileTree fresh;
  const UniqueFd archive(::open(place.At("archive").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  SUBCASE("no archive") { REQUIRE(::write(archive.get(), "nothing of the kind", 19) == 19); }
  SUBCASE("too much") {
    const FileTree changed;
    changed.File("data", "small");
    ScanSpec spec;
    spec.root = changed.path();
    REQUIRE(CarryFiles(spec, *ScanChangedFiles(spec), archive.get(), kMaxCarried));
    fresh.File("data", "");
    std::filesystem::resize_file(fresh.At("data"), kMaxCarried + 1);
  }
  CHECK_FALSE(ReplacedFiles::Note(fresh.path(), archive.get()));
}

}  // namespace
}  // namespace modal::snapshot

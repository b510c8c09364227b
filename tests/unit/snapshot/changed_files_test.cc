#include "snapshot/changed_files.h"

#include <doctest/doctest.h>
#include <sched.h>
#include <sys/mount.h>
#include <time.h>

#include <algorithm>
#include <filesystem>
#include <functional>

#include "snapshot/folder.h"
#include "snapshot/tar.h"
#include "tests/unit/process/launch_fixture.h"
#include "tests/unit/snapshot/file_tree.h"

namespace modal::snapshot {
namespace {

using process::testing::InAnotherProcess;
using testing::FileTree;

using Texts = std::vector<std::string>;

int64_t Nanoseconds(const timespec& time) {
  return time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec;
}

// A time such that what is there now is older, and what changes from now on is not.
int64_t AfterAllOf(const std::string& folder) {
  int64_t newest = 0;
  const auto look = [&](const std::string& path) {
    struct stat info {};
    MODAL_CHECK(::lstat(path.c_str(), &info) == 0);
    newest = std::max(newest, Nanoseconds(info.st_ctim));
  };
  look(folder);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    look(entry.path().string());
  }
  timespec now{};
  do {
    ::sched_yield();
    ::clock_gettime(CLOCK_REALTIME_COARSE, &now);  // the clock of ctimes
  } while (Nanoseconds(now) <= newest);
  return newest + 1 + kClockSlack;
}

// A root with files in it, some of them older than the start.
struct Root {
  Root() {
    tree.File("etc/old.conf", "old");
    tree.File("app/app.py", "print(0)");
    tree.Folder("data");
    spec.root = tree.path();
    spec.since_ns = AfterAllOf(tree.path());
  }
  Texts Changed() const {
    const Result<ChangedFiles> changed = ScanChangedFiles(spec);
    REQUIRE(changed);
    Texts paths;
    for (const ChangedFile& file : changed->files) paths.push_back(file.path);
    return paths;
  }
  FileTree tree;
  ScanSpec spec;
};

UniqueFd Archive(const FileTree& place) {
  const int fd = ::open(place.At("archive").c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  MODAL_CHECK(fd >= 0);
  return UniqueFd(fd);
}

// What is changed in one root, put into another.
Result<void> Travel(const Root& from, const FileTree& to) {
  const FileTree place;
  const UniqueFd archive = Archive(place);
  const Result<ChangedFiles> changed = ScanChangedFiles(from.spec);
  if (!changed) return changed.error();
  if (auto carried = CarryFiles(from.spec, *changed, archive.get(), kMaxCarried); !carried) {
    return carried;
  }
  MODAL_CHECK(::lseek(archive.get(), 0, SEEK_SET) == 0);
  return PutBackFiles(to.path(), archive.get());
}

// An archive that nobody's CarryFiles() has written, put into a root.
Result<void> PutBack(const FileTree& to, const std::function<void(TarWriter&)>& write) {
  const FileTree place;
  const UniqueFd archive = Archive(place);
  TarWriter writer([&](std::string_view bytes) { return WriteAll(archive.get(), bytes); });
  write(writer);
  MODAL_CHECK(writer.Finish().ok());
  MODAL_CHECK(::lseek(archive.get(), 0, SEEK_SET) == 0);
  return PutBackFiles(to.path(), archive.get());
}

TarMember Member(TarMember::Kind kind, const std::string& name) {
  TarMember member;
  member.kind = kind;
  member.name = name;
  member.mode = kind == TarMember::Kind::kFolder ? 0755 : 0644;
  member.uid = ::geteuid();
  member.gid = ::getegid();
  return member;
}

void WriteFile(TarWriter& writer, const std::string& name, std::string_view text) {
  TarMember member = Member(TarMember::Kind::kFile, name);
  member.size = text.size();
  MODAL_CHECK(writer.Begin(member).ok());
  MODAL_CHECK(writer.Write(text).ok());
}

std::string MessageOf(const Result<void>& result) { return result ? "" : result.error().message(); }

// ---- what is changed ----

TEST_CASE("only what was changed since is found, folders before what is in them") {
  const Root root;
  CHECK(root.Changed().empty());

  SUBCASE("a new file, with the folder that got it") {
    root.tree.File("data/new/model.bin", "weights", 1'000'000'000);  // its mtime is no matter
    CHECK(root.Changed() == Texts{"data", "data/new", "data/new/model.bin"});
  }
  SUBCASE("new contents") {
    root.tree.Edit("app/app.py");
    CHECK(root.Changed() == Texts{"app/app.py"});
  }
  SUBCASE("a new mode") {
    std::filesystem::permissions(root.tree.At("etc/old.conf"), std::filesystem::perms(0600));
    CHECK(root.Changed() == Texts{"etc/old.conf"});
  }
  SUBCASE("a link, that leads anywhere") {
    root.tree.Link("data/link", "/not/there");
    CHECK(root.Changed() == Texts{"data", "data/link"});
  }
  SUBCASE("both names of a hard link") {
    std::filesystem::create_hard_link(root.tree.At("app/app.py"), root.tree.At("data/twin"));
    CHECK(root.Changed() == Texts{"app/app.py", "data", "data/twin"});
  }
  SUBCASE("no FIFO") {
    root.tree.Fifo("data/queue");
    CHECK(root.Changed() == Texts{"data"});
  }
}

TEST_CASE("sizes are those of files") {
  const Root root;
  root.tree.File("data/a", "12345");
  root.tree.File("data/b", "123");
  root.tree.Link("data/c", "a");
  const Result<ChangedFiles> changed = ScanChangedFiles(root.spec);
  REQUIRE(changed);
  CHECK(changed->bytes == 8);
}

TEST_CASE("what is ours never travels") {
  Root root;
  root.spec.left_out = {"/data", "/app/agent.log", "/missing"};
  root.tree.File("data/x", "x");
  root.tree.File("app/agent.log", "x");
  root.tree.File("app/x.log", "x");
  CHECK(root.Changed() == Texts{"app", "app/x.log"});
}

TEST_CASE("volumes are not looked into, of whatever file system") {
  const std::string seen = InAnotherProcess([]() -> std::string {
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
      return "cannot";
    }
    Root root;
    const FileTree volume;  // on the root's own file system
    for (const char* name : {"data/bound", "data/tmpfs"}) root.tree.Folder(name);
    root.tree.File("data/file", "");
    volume.File("file", "");
    root.spec.since_ns = AfterAllOf(root.tree.path());
    if (::mount(volume.path().c_str(), root.tree.At("data/bound").c_str(), nullptr, MS_BIND,
                nullptr) != 0 ||
        ::mount("tmpfs", root.tree.At("data/tmpfs").c_str(), "tmpfs", 0, nullptr) != 0 ||
        ::mount(volume.At("file").c_str(), root.tree.At("data/file").c_str(), nullptr, MS_BIND,
                nullptr) != 0) {
      return "cannot";
    }
    root.tree.File("data/bound/x", "x");
    root.tree.File("data/tmpfs/x", "x");
    root.tree.Edit("app/app.py");
    volume.File("file", "changed");
    const Result<ChangedFiles> changed = ScanChangedFiles(root.spec);
    std::string text;
    if (changed) {
      for (const ChangedFile& file : changed->files) text += file.path + " ";
    }
    for (const char* name : {"data/bound", "data/tmpfs", "data/file"}) {
      ::umount2(root.tree.At(name).c_str(), MNT_DETACH);
    }
    return text;
  });
  if (seen == "cannot") {
    MESSAGE("not shown: mounts are not permitted here");
    return;
  }
  CHECK(seen == "app/app.py ");
}

TEST_CASE("on an overlay what was copied up is found, and nothing else of the image") {
  const std::string seen = InAnotherProcess([]() -> std::string {
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
      return "cannot";
    }
    const FileTree place;
    // An overlay cannot lie on every file system; on this one it can.
    if (::mount("tmpfs", place.path().c_str(), "tmpfs", 0, nullptr) != 0) return "cannot";
    place.File("lower/app/app.py", "print(0)");
    place.File("lower/app/other.py", "print(0)");
    place.File("lower/lib/deep/x", "x");
    for (const char* name : {"upper", "work", "root"}) place.Folder(name);
    const std::string options = "lowerdir=" + place.At("lower") + ",upperdir=" + place.At("upper") +
                                ",workdir=" + place.At("work");
    if (::mount("overlay", place.At("root").c_str(), "overlay", 0, options.c_str()) != 0) {
      return "cannot";
    }
    ScanSpec spec;
    spec.root = place.At("root");
    spec.since_ns = AfterAllOf(spec.root);
    place.Edit("root/app/app.py");
    place.File("root/lib/deep/new", "x");
    place.Remove("root/app/other.py");
    const Result<ChangedFiles> changed = ScanChangedFiles(spec);
    std::string text;
    if (changed) {
      for (const ChangedFile& file : changed->files) text += file.path + " ";
    }
    ::umount2(place.At("root").c_str(), MNT_DETACH);
    ::umount2(place.path().c_str(), MNT_DETACH);
    return text;
  });
  if (seen == "cannot") {
    MESSAGE("not shown: overlays are not permitted here");
    return;
  }
  CHECK(seen == "app app/app.py lib lib/deep lib/deep/new ");
}

// ---- travelling ----

TEST_CASE("changed files arrive as they were") {
  const Root root;
  const FileTree fresh;
  fresh.File("app/app.py", "print(0)");
  fresh.File("app/kept", "kept");
  root.tree.File("app/app.py", "print(1)", 1'234'567'890, 0640);
  root.tree.SetTime("app/app.py", 1'234'567'890, 123'456'789);
  root.tree.File("data/deep/run.sh", "#!/bin/sh", 1'500'000'000, 06755);
  root.tree.Link("data/latest", "deep/run.sh");
  root.tree.SetTime("data/latest", 1'400'000'000);
  root.tree.File("data/empty", "");
  std::filesystem::permissions(root.tree.At("data/deep"), std::filesystem::perms(0555));
  root.tree.SetTime("data/deep", 1'450'000'000);
  REQUIRE(MessageOf(Travel(root, fresh)) == "");

  CHECK(fresh.Read("app/app.py") == "print(1)");
  CHECK(fresh.Stat("app/app.py").st_mode == (S_IFREG | 0640));
  CHECK(fresh.Stat("app/app.py").st_mtim.tv_sec == 1'234'567'890);
  CHECK(fresh.Stat("app/app.py").st_mtim.tv_nsec == 123'456'789);
  CHECK(fresh.Read("app/kept") == "kept");
  CHECK(fresh.Read("data/deep/run.sh") == "#!/bin/sh");
  CHECK(fresh.Stat("data/deep/run.sh").st_mode == (S_IFREG | 06755));
  CHECK(fresh.Stat("data/deep").st_mode == (S_IFDIR | 0555));
  CHECK(fresh.Stat("data/deep").st_mtim.tv_sec == 1'450'000'000);
  CHECK(std::filesystem::read_symlink(fresh.At("data/latest")) == "deep/run.sh");
  CHECK(fresh.Stat("data/latest").st_mtim.tv_sec == 1'400'000'000);
  CHECK(fresh.Stat("data/empty").st_size == 0);
  std::filesystem::permissions(root.tree.At("data/deep"), std::filesystem::perms(0755));
  std::filesystem::permissions(fresh.At("data/deep"), std::filesystem::perms(0755));
}

TEST_CASE("holes are holes again") {
  const Root root;
  const FileTree fresh;
  root.tree.File("data/sparse", "begin");
  std::filesystem::resize_file(root.tree.At("data/sparse"), 8 << 20);
  REQUIRE(MessageOf(Travel(root, fresh)) == "");
  const struct stat info = fresh.Stat("data/sparse");
  CHECK(info.st_size == 8 << 20);
  CHECK(info.st_blocks * 512 < 1 << 20);
  CHECK(fresh.Read("data/sparse") == root.tree.Read("data/sparse"));
}

TEST_CASE("owners arrive too, where that is permitted") {
  if (!process::testing::IsRoot()) return;
  const Root root;
  const FileTree fresh;
  root.tree.File("data/x", "x");
  REQUIRE(::chown(root.tree.At("data/x").c_str(), 1234, 4321) == 0);
  root.tree.Link("data/l", "x");
  REQUIRE(::lchown(root.tree.At("data/l").c_str(), 1234, 4321) == 0);
  REQUIRE(MessageOf(Travel(root, fresh)) == "");
  for (const char* name : {"data/x", "data/l"}) {
    CHECK(fresh.Stat(name).st_uid == 1234);
    CHECK(fresh.Stat(name).st_gid == 4321);
  }
}

TEST_CASE("a user carries what is theirs, and needs not own the folders that it lies in") {
  if (!process::testing::IsRoot()) return;
  constexpr uid_t kUser = 1234;
  const Root root;
  const FileTree fresh;
  for (const FileTree* tree : {&root.tree, &fresh}) {
    tree->Folder("tmp");
    REQUIRE(::chmod(tree->At("tmp").c_str(), 01777) == 0);
    REQUIRE(::chmod(tree->path().c_str(), 0755) == 0);
  }
  // As the container's runtime writes some.
  root.tree.File("etc/hostname", "one");
  root.tree.File("etc/secret", "s", 1'600'000'000, 0600);
  root.tree.Link("etc/mtab", "/proc/mounts");
  fresh.File("etc/hostname", "another");
  const FileTree place;
  const UniqueFd archive = Archive(place);
  const std::string seen = InAnotherProcess([&]() -> std::string {
    if (::setresgid(kUser, kUser, kUser) != 0 || ::setresuid(kUser, kUser, kUser) != 0) return "?";
    root.tree.File("tmp/mine", "x");
    const Result<ChangedFiles> changed = ScanChangedFiles(root.spec);
    if (!changed) return changed.error().message();
    auto done = CarryFiles(root.spec, *changed, archive.get(), kMaxCarried);
    MODAL_CHECK(::lseek(archive.get(), 0, SEEK_SET) == 0);
    if (done) done = PutBackFiles(fresh.path(), archive.get());
    return MessageOf(done);
  });
  CHECK(seen == "");
  CHECK(fresh.Read("tmp/mine") == "x");
  CHECK(fresh.Stat("tmp/mine").st_uid == kUser);
  CHECK(fresh.Stat("tmp").st_uid == 0);
  CHECK(fresh.Read("etc/hostname") == "another");
  CHECK(::access(fresh.At("etc/mtab").c_str(), F_OK) != 0);
}

TEST_CASE("what vanishes between search and carrying is passed over") {
  const Root root;
  const FileTree place;
  const UniqueFd archive = Archive(place);
  root.tree.File("data/gone", "x");
  root.tree.File("data/folder/gone", "x");
  root.tree.File("data/stays", "x");
  root.tree.File("data/turned", "x");
  const Result<ChangedFiles> changed = ScanChangedFiles(root.spec);
  REQUIRE(changed);
  root.tree.Remove("data/gone");
  root.tree.Remove("data/folder");
  root.tree.Remove("data/turned");
  root.tree.Fifo("data/turned");
  REQUIRE(MessageOf(CarryFiles(root.spec, *changed, archive.get(), kMaxCarried)) == "");
  MODAL_CHECK(::lseek(archive.get(), 0, SEEK_SET) == 0);
  const FileTree fresh;
  REQUIRE(MessageOf(PutBackFiles(fresh.path(), archive.get())) == "");
  CHECK(fresh.Read("data/stays") == "x");
  CHECK_FALSE(std::filesystem::exists(fresh.At("data/gone")));
  CHECK_FALSE(std::filesystem::exists(fresh.At("data/turned")));
}

TEST_CASE("of a file that has grown since as much travels as it has by now") {
  const Root root;
  const FileTree place;
  const UniqueFd archive = Archive(place);
  root.tree.File("data/log", "one");
  const Result<ChangedFiles> changed = ScanChangedFiles(root.spec);
  REQUIRE(changed);
  root.tree.File("data/log", "one two");
  REQUIRE(MessageOf(CarryFiles(root.spec, *changed, archive.get(), kMaxCarried)) == "");
  MODAL_CHECK(::lseek(archive.get(), 0, SEEK_SET) == 0);
  const FileTree fresh;
  REQUIRE(MessageOf(PutBackFiles(fresh.path(), archive.get())) == "");
  CHECK(fresh.Read("data/log") == "one two");

  // Not beyond the limit, though.
  root.tree.File("data/log", std::string(10'000, 'x'));
  CHECK(MessageOf(CarryFiles(root.spec, *changed, archive.get(), 5'000)).find("still growing") !=
        std::string::npos);
}

TEST_CASE("too much to carry is refused, and the largest are named") {
  const Root root;
  const FileTree place;
  const UniqueFd archive = Archive(place);
  root.tree.File("data/small", "x");
  root.tree.File("data/large", std::string(3 << 20, 'x'));
  root.tree.File("data/larger", std::string(5 << 20, 'x'));
  const Result<ChangedFiles> changed = ScanChangedFiles(root.spec);
  REQUIRE(changed);
  const std::string message =
      MessageOf(CarryFiles(root.spec, *changed, archive.get(), uint64_t{1} << 20));
  CAPTURE(message);
  CHECK(message.find("(8.0 MiB) are more than can travel with a snapshot (1.0 MiB)") !=
        std::string::npos);
  const size_t larger = message.find("/data/larger");
  REQUIRE(larger != std::string::npos);
  CHECK(larger < message.find("/data/large", larger + 12));
  CHECK(::lseek(archive.get(), 0, SEEK_END) == 0);  // nothing was written
}

// ---- putting back ----

TEST_CASE("nothing is put through a link") {
  const FileTree outside;
  outside.File("passwd", "root");
  const FileTree root;
  SUBCASE("of the archive") {
    const auto put = PutBack(root, [&](TarWriter& writer) {
      TarMember link = Member(TarMember::Kind::kLink, "way");
      link.link = outside.path();
      MODAL_CHECK(writer.Begin(link).ok());
      WriteFile(writer, "way/passwd", "evil");
    });
    CHECK(MessageOf(put).find("is no folder here") != std::string::npos);
  }
  SUBCASE("of the root") {
    root.Link("way", outside.path());
    const auto put =
        PutBack(root, [](TarWriter& writer) { WriteFile(writer, "way/passwd", "evil"); });
    CHECK(MessageOf(put).find("is no folder here") != std::string::npos);
  }
  SUBCASE("that has a file's name: it is replaced") {
    root.Link("passwd", outside.At("passwd"));
    REQUIRE(MessageOf(PutBack(
                root, [](TarWriter& writer) { WriteFile(writer, "passwd", "ours"); })) == "");
    CHECK(root.Read("passwd") == "ours");
    CHECK(S_ISREG(root.Stat("passwd").st_mode));
  }
  SUBCASE("that has a folder's name: it is replaced") {
    root.Link("way", outside.path());
    REQUIRE(MessageOf(PutBack(root, [](TarWriter& writer) {
              MODAL_CHECK(writer.Begin(Member(TarMember::Kind::kFolder, "way")).ok());
              WriteFile(writer, "way/passwd", "ours");
            })) == "");
    CHECK(root.Read("way/passwd") == "ours");
  }
  CHECK(outside.Read("passwd") == "root");
}

TEST_CASE("an existing file is replaced as a whole: who has it open keeps what it was") {
  const FileTree root;
  root.File("log", "before");
  const UniqueFd open(::open(root.At("log").c_str(), O_RDONLY | O_CLOEXEC));
  REQUIRE(MessageOf(PutBack(root, [](TarWriter& writer) { WriteFile(writer, "log", "after"); })) ==
          "");
  CHECK(root.Read("log") == "after");
  CHECK(process::testing::ReadToEnd(open.get()) == "before");
}

TEST_CASE("an empty folder makes way for a file, a full one does not") {
  const FileTree root;
  root.Folder("empty");
  root.File("full/x", "x");
  const auto put_file = [&](const char* name) {
    return MessageOf(PutBack(root, [&](TarWriter& writer) { WriteFile(writer, name, "file"); }));
  };
  CHECK(put_file("empty") == "");
  CHECK(root.Read("empty") == "file");
  CHECK(put_file("full").find("replace: ") != std::string::npos);
  CHECK(root.Read("full/x") == "x");
  // Nothing of ours stays behind.
  CHECK(std::distance(std::filesystem::directory_iterator(root.path()), {}) == 2);
}

TEST_CASE("missing folders are made") {
  const FileTree root;
  REQUIRE(MessageOf(PutBack(root, [](TarWriter& writer) { WriteFile(writer, "a/b/c", "x"); })) ==
          "");
  CHECK(root.Read("a/b/c") == "x");
}

TEST_CASE("a cut archive is an error, and leaves no half file") {
  const FileTree root;
  const FileTree place;
  const UniqueFd archive = Archive(place);
  TarWriter writer([&](std::string_view bytes) { return WriteAll(archive.get(), bytes); });
  WriteFile(writer, "large", std::string(100'000, 'x'));
  REQUIRE(writer.Finish());
  REQUIRE(::ftruncate(archive.get(), 50'000) == 0);
  REQUIRE(::lseek(archive.get(), 0, SEEK_SET) == 0);
  CHECK_FALSE(PutBackFiles(root.path(), archive.get()));
  CHECK(std::filesystem::is_empty(root.path()));
}

TEST_CASE("nothing is put into a volume") {
  const std::string seen = InAnotherProcess([]() -> std::string {
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
      return "cannot";
    }
    const FileTree root;
    const FileTree volume;
    root.Folder("data");
    if (::mount(volume.path().c_str(), root.At("data").c_str(), nullptr, MS_BIND, nullptr) != 0) {
      return "cannot";
    }
    const auto put = PutBack(root, [](TarWriter& writer) { WriteFile(writer, "data/x", "x"); });
    const std::string message =
        MessageOf(put) + (std::filesystem::is_empty(volume.path()) ? "" : "!");
    ::umount2(root.At("data").c_str(), MNT_DETACH);
    return message;
  });
  if (seen == "cannot") {
    MESSAGE("not shown: mounts are not permitted here");
    return;
  }
  CHECK(seen.find("is a volume here") != std::string::npos);
  CHECK_FALSE(seen.ends_with("!"));
}

}  // namespace
}  // namespace modal::snapshot

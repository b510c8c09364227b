#include "snapshot/tar.h"

#include <doctest/doctest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "tests/unit/snapshot/store_fixture.h"

namespace modal::snapshot {
namespace {

struct Written {
  TarMember member;
  std::string bytes;
};

TarMember File(const std::string& name, uint64_t size) {
  TarMember member;
  member.name = name;
  member.size = size;
  return member;
}

TarSink AppendTo(std::string& text) {
  return [&text](std::string_view bytes) -> Result<void> {
    text += bytes;
    return {};
  };
}

TarSource TakeFrom(std::string_view text) {
  return [text](char* to, size_t size) mutable -> Result<size_t> {
    const size_t got = std::min(size, text.size());
    std::memcpy(to, text.data(), got);
    text.remove_prefix(got);
    return got;
  };
}

Result<void> WriteInto(std::string& archive, const std::vector<Written>& members) {
  TarWriter writer(AppendTo(archive));
  for (const Written& each : members) {
    if (Result<void> begun = writer.Begin(each.member); !begun) return begun;
    if (Result<void> written = writer.Write(each.bytes); !written) return written;
  }
  return writer.Finish();
}

std::string ArchiveOf(const std::vector<Written>& members) {
  std::string archive;
  REQUIRE(Problem(WriteInto(archive, members)) == "");
  return archive;
}

Result<std::vector<Written>> ReadArchive(std::string_view archive, size_t piece = 1000) {
  TarReader reader(TakeFrom(archive));
  std::vector<Written> members;
  std::string buffer(piece, '\0');
  for (;;) {
    Result<std::optional<TarMember>> member = reader.Next();
    if (!member) return std::move(member.error());
    if (!*member) return members;
    Written written{**member, ""};
    for (;;) {
      const Result<size_t> got = reader.Read(buffer.data(), buffer.size());
      if (!got) return got.error();
      if (*got == 0) break;
      written.bytes.append(buffer, 0, *got);
    }
    members.push_back(written);
  }
}

std::string ProblemOf(std::string_view archive) { return Problem(ReadArchive(archive)); }

// With the checksum made right again.
std::string Resealed(std::string archive, size_t at = 0) {
  std::fill_n(archive.begin() + static_cast<ptrdiff_t>(at) + 148, 8, ' ');
  unsigned sum = 0;
  for (size_t i = 0; i < 512; ++i) sum += static_cast<unsigned char>(archive[at + i]);
  char digits[8];
  std::snprintf(digits, sizeof digits, "%06o", sum);
  archive.replace(at + 148, 7, digits, 7);
  return archive;
}

std::string WithField(std::string archive, size_t at, std::string_view value) {
  archive.replace(at, value.size(), value);
  return Resealed(std::move(archive));
}

// An extended header of one's own making before a small file.
std::string WithRecords(const std::string& records) {
  std::string archive = ArchiveOf({{File("x", records.size()), records}, {File("y", 2), "yy"}});
  archive[156] = 'x';
  return Resealed(std::move(archive));
}

std::vector<Written> Difficult() {
  TarMember folder;
  folder.kind = TarMember::Kind::kFolder;
  folder.name = "dir";
  folder.mode = 01755;
  TarMember link;
  link.kind = TarMember::Kind::kLink;
  link.name = "dir/link";
  link.link = "../" + std::string(200, 'l');
  link.mtime_ns = -1'500'000'000;
  TarMember exact = File("dir/exact", 512);
  exact.mtime_ns = 1'700'000'000'123'456'789;
  TarMember owned = File(std::string(100, 'n'), 1);
  owned.uid = 4'000'000'000;
  owned.gid = 8'000'000 / 2;
  TarMember long_name = File("dir/" + std::string(250, 'x') + "/\xc3\xa4 =\n", 513);
  long_name.mtime_ns = int64_t{9'000'000'000} * 1'000'000'000;
  TarMember long_folder = folder;
  long_folder.name = std::string(100, 'f');
  return {{folder, ""},
          {link, ""},
          {exact, std::string(512, 'e')},
          {owned, "o"},
          {long_name, std::string(513, 'x')},
          {long_folder, ""},
          {File("empty", 0), ""}};
}

TEST_CASE("members come back as they were written") {
  const std::vector<Written> members = Difficult();
  const std::string archive = ArchiveOf(members);
  CHECK(archive.size() % 512 == 0);
  for (const size_t piece : {1, 511, 512, 4096}) {
    const Result<std::vector<Written>> read = ReadArchive(archive, piece);
    REQUIRE(Problem(read) == "");
    REQUIRE(read->size() == members.size());
    for (size_t i = 0; i < members.size(); ++i) {
      const TarMember& was = members[i].member;
      const TarMember& is = (*read)[i].member;
      CAPTURE(was.name);
      CHECK(is.kind == was.kind);
      CHECK(is.name == was.name);
      CHECK(is.link == was.link);
      CHECK(is.size == was.size);
      CHECK(is.mode == was.mode);
      CHECK(is.uid == was.uid);
      CHECK(is.gid == was.gid);
      CHECK(is.mtime_ns == was.mtime_ns);
      CHECK((*read)[i].bytes == members[i].bytes);
    }
  }
}

TEST_CASE("what is not read of a member is skipped") {
  const std::string archive =
      ArchiveOf({{File("a", 100'000), std::string(100'000, 'a')}, {File("b", 1), "b"}});
  TarReader reader(TakeFrom(archive));
  REQUIRE((*reader.Next())->name == "a");
  char some[3];
  CHECK(*reader.Read(some, sizeof some) == 3);
  REQUIRE((*reader.Next())->name == "b");
  REQUIRE(reader.Next());
  CHECK_FALSE(*reader.Next());
}

TEST_CASE("a size beyond the eleven octal digits travels in an extended header") {
  const uint64_t size = uint64_t{1} << 40;
  std::string archive;
  TarWriter writer(AppendTo(archive));
  REQUIRE(writer.Begin(File("huge", size)));
  TarReader reader(TakeFrom(archive));
  CHECK((*reader.Next())->size == size);
}

TEST_CASE("the writer refuses bytes that were not announced, and members that are not whole") {
  std::string archive;
  CHECK(Problem(WriteInto(archive, {{File("a", 2), "abc"}})) ==
        "member \"a\": more bytes than were announced");
  CHECK(Problem(WriteInto(archive, {{File("a", 4), "abc"}})) ==
        "member \"a\": 1 bytes are missing");
  CHECK(Problem(WriteInto(archive, {{File("a", 4), "abc"}, {File("b", 0), ""}})) ==
        "member \"a\": 1 bytes are missing");
  for (const char* name : {"", "/a", "../a", "a/../b", "a//b", "a/.", "a/"}) {
    CAPTURE(name);
    CHECK_FALSE(WriteInto(archive, {{File(name, 0), ""}}));
  }
}

TEST_CASE("an archive that is cut off anywhere is an error") {
  const std::string archive = ArchiveOf(Difficult());
  for (size_t size = 0; size < archive.size(); size += size % 512 < 2 ? 1 : 255) {
    CAPTURE(size);
    REQUIRE_FALSE(ReadArchive(archive.substr(0, size)));
  }
}

TEST_CASE("a header with a wrong byte is an error") {
  const std::string archive = ArchiveOf({{File("a", 3), "abc"}});
  for (size_t at = 0; at < 512; ++at) {
    std::string damaged = archive;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    CAPTURE(at);
    REQUIRE_FALSE(ReadArchive(damaged));
  }
}

TEST_CASE("names that lead elsewhere are refused, in headers and in extended headers") {
  const std::string archive = ArchiveOf({{File("a/bcd", 0), ""}});
  CHECK(ProblemOf(WithField(archive, 0, "/etc/")).starts_with("member \"/etc/\": "));
  CHECK(ProblemOf(WithField(archive, 0, "../bc")) ==
        "member \"../bc\": is no name that may stand in an archive");
  CHECK(ProblemOf(WithField(archive, 345, "..")) ==
        "member \"../a/bcd\": is no name that may stand in an archive");
  CHECK(ProblemOf(WithRecords("13 path=../a\n")) ==
        "member \"../a\": is no name that may stand in an archive");
  CHECK(ProblemOf(WithRecords(std::string("12 path=a\0b\n", 12))) ==
        "member \"a\\u0000b\": is no name that may stand in an archive");
  CHECK(ProblemOf(WithRecords("8 path=\n")) ==
        "member \"\": is no name that may stand in an archive");
}

TEST_CASE("what is neither file nor folder nor symbolic link is refused with its name") {
  const std::string archive = ArchiveOf({{File("a", 0), ""}});
  for (const char* type : {"1", "3", "4", "6", "7", "g", "L", "S", "K"}) {
    CAPTURE(type);
    CHECK(ProblemOf(WithField(archive, 156, type)) ==
          "member \"a\": is neither a file nor a folder nor a symbolic link");
  }
  CHECK(ProblemOf(WithField(archive, 257, "ustar  ")) ==
        "member \"a\": is not written in the ustar or pax format");
  CHECK(ProblemOf(WithField(archive, 156, "2")) == "member \"a\": is a link without a sane target");
  CHECK(ProblemOf(WithField(archive, 124, "\x80")) == "member \"a\": has a number that cannot be");
  CHECK(ProblemOf(WithField(archive, 136, "777777777777")) ==
        "member \"a\": has a number that cannot be");
  const std::string folder = WithField(WithField(archive, 156, "5"), 124, "00000000001");
  CHECK(ProblemOf(folder) == "member \"a\": has contents, and is no file");
}

TEST_CASE("extended headers that are damaged, hostile or too large are errors") {
  CHECK(ProblemOf(WithRecords("9 a=bcde\n")) == "");
  for (const char* records : {"9 a=bcd\n", "99 a=b\n", "0 a=b\n", "a=b\n", "5 ab\n", "1 ", "2 \n",
                              "18446744073709551616 a=b\n", "-1 a=b\n", "x", "12"}) {
    CAPTURE(records);
    CHECK(ProblemOf(WithRecords(records)) == "extended header: is damaged");
  }
  CHECK(ProblemOf(WithRecords("9 uid=-1\n")) == "extended header: uid is no number");
  CHECK(ProblemOf(WithRecords("18 uid=4294967296\n")) ==
        "member \"y\": has a number that cannot be");
  CHECK(ProblemOf(WithRecords("11 mtime=x\n")) == "extended header: mtime is no time");
  CHECK(ProblemOf(WithRecords("20 mtime=9999999999\n")) == "extended header: mtime is no time");
  CHECK(ProblemOf(WithRecords("28 size=9223372036854775808\n")) == "member \"y\": is too large");
  CHECK(ProblemOf(WithRecords("22 GNU.sparse.major=1\n")) == "sparse files are not read");
  CHECK(ProblemOf(WithRecords(std::string(70'000, 'x'))) ==
        "extended header: is too large, or stands there twice");
  const std::string twice = WithRecords("9 a=bcde\n");
  CHECK(ProblemOf(twice.substr(0, 1024) + twice) ==
        "extended header: is too large, or stands there twice");
}

TEST_CASE("an archive ends with two blocks of zeros") {
  const std::string archive = ArchiveOf({{File("a", 0), ""}});
  CHECK(ProblemOf(archive + "whatever") == "");
  CHECK(ProblemOf(archive.substr(0, archive.size() - 512)) == "the archive is cut off");
  std::string damaged = archive;
  damaged.back() = 'x';
  CHECK(ProblemOf(damaged) == "the archive is damaged at its end");
}

TEST_CASE("an error of source or sink ends it") {
  TarReader reader([](char*, size_t) -> Result<size_t> { return Error("the disk is on fire"); });
  CHECK(Problem(reader.Next()) == "the disk is on fire");
  TarWriter writer([](std::string_view) -> Result<void> { return Error("the disk is full"); });
  CHECK(Problem(writer.Begin(File("a", 0))) == "the disk is full");
}

bool HasTar() { return ::system("tar --version >/dev/null 2>&1") == 0; }

TEST_CASE("tar(1) extracts what is written here") {
  if (!HasTar()) {
    MESSAGE("skipped: there is no tar here");
    return;
  }
  std::vector<Written> members = Difficult();
  // Owners that no file system has, and times that few have, are not for extraction.
  for (Written& each : members) {
    each.member.uid = ::getuid();
    each.member.gid = ::getgid();
    if (each.member.mtime_ns < 0 || each.member.name.size() > 200) each.member.mtime_ns = 0;
  }
  test::TempFolder temp;
  const std::string archive = temp.Write("a.tar", ArchiveOf(members));
  std::filesystem::create_directory(temp.path() + "/out");
  const std::string command =
      "tar -C " + temp.path() + "/out -xpf " + archive + " 2>" + temp.path() + "/complaints";
  REQUIRE(::system(command.c_str()) == 0);
  CHECK(ReadAll(temp.path() + "/complaints") == "");
  for (const Written& each : members) {
    const std::string path = temp.path() + "/out/" + each.member.name;
    CAPTURE(path);
    struct stat info {};
    REQUIRE(::lstat(path.c_str(), &info) == 0);
    if (each.member.kind == TarMember::Kind::kLink) {
      CHECK(std::filesystem::read_symlink(path) == each.member.link);
      continue;
    }
    CHECK((info.st_mode & 07777) == each.member.mode);
    if (each.member.kind != TarMember::Kind::kFile) continue;
    CHECK(ReadAll(path) == each.bytes);
    CHECK(int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec ==
          each.member.mtime_ns);
  }
}

TEST_CASE("what tar(1) writes in the formats of the standard is read") {
  if (!HasTar()) {
    MESSAGE("skipped: there is no tar here");
    return;
  }
  test::TempFolder temp;
  const std::string long_name = std::string(90, 'd') + "/" + std::string(80, 'f');
  temp.Write("in/" + long_name, std::string(3000, 'x'));
  for (const char* format : {"ustar", "pax"}) {
    const std::string archive = temp.path() + "/a.tar";
    const std::string command = "cd " + temp.path() + "/in && tar --format=" + format + " -cf " +
                                archive + " " + std::string(90, 'd');
    REQUIRE(::system(command.c_str()) == 0);
    const Result<std::vector<Written>> read = ReadArchive(ReadAll(archive));
    REQUIRE(Problem(read) == "");
    REQUIRE(read->size() == 2);
    CHECK((*read)[0].member.kind == TarMember::Kind::kFolder);
    CHECK((*read)[1].member.name == long_name);
    CHECK((*read)[1].bytes == std::string(3000, 'x'));
  }
}

}  // namespace
}  // namespace modal::snapshot

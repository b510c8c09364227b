#include "snapshot/archive.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zstd.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "snapshot/checksum.h"
#include "snapshot/tar.h"
#include "tests/unit/snapshot/resealed.h"
#include "tests/unit/snapshot/store_fixture.h"

namespace modal::snapshot {
namespace {

using Json = nlohmann::json;

UniqueFd Memory(std::string_view bytes) {
  UniqueFd fd(::memfd_create("archive", MFD_CLOEXEC));
  REQUIRE(fd);
  REQUIRE(::write(fd.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  REQUIRE(::lseek(fd.get(), 0, SEEK_SET) == 0);
  return fd;
}

std::string Compressed(std::string_view bytes) {
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  const size_t size = ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), 1);
  REQUIRE_FALSE(ZSTD_isError(size));
  out.resize(size);
  return out;
}

// Empty: it cannot be.
std::string Decompressed(std::string_view bytes) {
  std::string out(size_t{1} << 20, '\0');
  const size_t size = ZSTD_decompress(out.data(), out.size(), bytes.data(), bytes.size());
  out.resize(ZSTD_isError(size) ? 0 : size);
  return out;
}

// A peer's archive, as wrong as a test wants it.
class Forgery {
 public:
  Forgery& Add(const std::string& name, const std::string& bytes) {
    TarMember member;
    member.name = name;
    member.size = bytes.size();
    REQUIRE(tar_.Begin(member));
    REQUIRE(tar_.Write(bytes));
    return *this;
  }
  Forgery& Add(const TarMember& member) {
    REQUIRE(tar_.Begin(member));
    return *this;
  }
  std::string Tar() {
    REQUIRE(tar_.Finish());
    return text_;
  }

 private:
  std::string text_;
  TarWriter tar_{[this](std::string_view bytes) -> Result<void> {
    text_ += bytes;
    return {};
  }};
};

std::string In(const std::string& name) { return kKey + "/" + name; }

std::string ChecksumOfText(const std::string& text) {
  Checksum checksum;
  checksum.Add(text);
  return checksum.Text();
}

std::string ManifestOf(const std::vector<std::pair<std::string, std::string>>& files) {
  Manifest manifest = SomeManifest();
  manifest.key = kKey;
  for (const auto& [name, bytes] : files) {
    manifest.files.push_back({name, bytes.size(), ChecksumOfText(bytes)});
  }
  return ToJson(manifest);
}

struct ArchiveFixture : StoreFixture {
  std::string Packed(int level = 3) {
    const UniqueFd fd = Memory("");
    REQUIRE(Problem(Pack(*store, kKey, fd.get(), level)) == "");
    std::string bytes(static_cast<size_t>(::lseek(fd.get(), 0, SEEK_END)), '\0');
    REQUIRE(::pread(fd.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
    return bytes;
  }
  // Into an empty store of its own; whatever goes wrong, nothing is left there.
  std::string UnpackProblem(const std::string& archive) {
    const std::string to = temp.path() + "/unpacked";
    const std::unique_ptr<Store> other = OpenStore(to);
    const Result<std::string> key = Unpack(*other, Memory(archive).get());
    if (key) {
      CHECK(*key == kKey);
      CHECK(Problem(other->Verify(kKey)) == "");
      CHECK(Problem(other->Delete(kKey)) == "");
      return "";
    }
    CHECK(NamesOf(to) == std::vector<std::string>{"README"});
    CHECK(NamesOf(temp.path()) == std::vector<std::string>{"snapshots", "unpacked"});
    CHECK(key.error().message().find('\n') == std::string::npos);
    CHECK(key.error().message().starts_with("unpack: "));
    return key.error().message().substr(8);
  }
  std::string ForgeryProblem(Forgery& forgery) { return UnpackProblem(Compressed(forgery.Tar())); }
};

TEST_CASE_FIXTURE(ArchiveFixture, "a snapshot that is packed and unpacked elsewhere is the same") {
  REQUIRE(Problem(Make(*store, kKey)) == "");
  for (const int level : {1, 3, 19}) {
    const std::unique_ptr<Store> other = OpenStore(temp.path() + "/elsewhere");
    const Result<std::string> key = Unpack(*other, Memory(Packed(level)).get());
    REQUIRE(Problem(key) == "");
    CHECK(*key == kKey);
    CHECK(Problem(other->Verify(kKey)) == "");
    CHECK(ReadAll(temp.path() + "/elsewhere/" + In("manifest.json")) ==
          ReadAll(PathOf("manifest.json")));
    for (const auto& [name, bytes] : SomeContents()) {
      CHECK(ReadAll(temp.path() + "/elsewhere/" + In(name)) == bytes);
    }
    CHECK(other->ReadVerdict(kKey)->standing == Standing::kUnproven);
    REQUIRE(other->Delete(kKey));
  }
}

TEST_CASE_FIXTURE(ArchiveFixture, "an archive comes through a pipe, piece by piece") {
  const std::string noise = [] {
    std::string bytes;
    uint32_t state = 1;
    for (int i = 0; i < 300'000; ++i)
      bytes += static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
    return bytes;
  }();
  REQUIRE(Problem(Make(*store, kKey, SomeManifest(), {{"images/pages-1.img", noise}})) == "");
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const Result<void> packed = Pack(*OpenStore(folder, Store::Use::kRead), kKey, writing.get(), 1);
    ::_exit(packed ? 0 : 1);
  }
  writing.Reset();
  const std::unique_ptr<Store> other = OpenStore(temp.path() + "/elsewhere");
  CHECK(Problem(Unpack(*other, reading.get())) == "");
  CHECK(ReadAll(temp.path() + "/elsewhere/" + In("images/pages-1.img")) == noise);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

TEST_CASE_FIXTURE(ArchiveFixture, "a snapshot of the far future is packed all the same") {
  Manifest manifest = SomeManifest();
  manifest.created_unix_ms = std::numeric_limits<int64_t>::max();
  REQUIRE(Problem(Make(*store, kKey, manifest)) == "");
  CHECK(UnpackProblem(Packed()) == "");
}

TEST_CASE_FIXTURE(ArchiveFixture, "a snapshot is verified as it is packed") {
  const UniqueFd fd = Memory("");
  CHECK(Problem(Pack(*store, kKey, fd.get(), 3)) == "there is no snapshot " + kKey);
  REQUIRE(Problem(Make(*store, kKey)) == "");
  CHECK(Problem(Pack(*store, kKey, fd.get(), 20)) ==
        "pack snapshot " + kKey + ": level 20: must be from 1 to 19");
  REQUIRE(Put(PathOf("images/core-1.img"), "registerz"));
  CHECK(Problem(Pack(*store, kKey, fd.get(), 3)) ==
        "pack snapshot " + kKey + ": images/core-1.img: is damaged: its checksum differs");
}

TEST_CASE_FIXTURE(ArchiveFixture, "a disk that is full is told by pack") {
  REQUIRE(Problem(Make(*store, kKey)) == "");
  const UniqueFd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  if (!full) return;
  CHECK(Problem(Pack(*store, kKey, full.get(), 3)) ==
        "pack snapshot " + kKey + ": write: No space left on device");
}

TEST_CASE_FIXTURE(ArchiveFixture, "a key that is there already is not unpacked") {
  REQUIRE(Problem(Make(*store, kKey)) == "");
  CHECK(Problem(Unpack(*store, Memory(Packed()).get())) ==
        "unpack: there is a snapshot " + kKey + " already, or it is being made right now");
}

TEST_CASE_FIXTURE(ArchiveFixture, "tar(1) lists and extracts an archive") {
  if (::system("tar --version >/dev/null 2>&1 && zstd --version >/dev/null 2>&1") != 0) {
    MESSAGE("skipped: there is no tar or no zstd here");
    return;
  }
  REQUIRE(Problem(Make(*store, kKey)) == "");
  const std::string archive = temp.Write("snapshot.tar.zst", Packed());
  const std::string list = temp.path() + "/list";
  REQUIRE(::system(("tar --zstd -tf " + archive + " >" + list + " 2>&1").c_str()) == 0);
  CHECK(ReadAll(list) == In("manifest.json") + "\n" + In("criu.kdat") + "\n" +
                             In("images/core-1.img") + "\n" + In("images/pages-1.img") + "\n");
  const std::string to = temp.path() + "/extracted";
  REQUIRE(::mkdir(to.c_str(), 0700) == 0);
  REQUIRE(::system(("tar --zstd -C " + to + " -xf " + archive).c_str()) == 0);
  // And what it extracts is a snapshot.
  CHECK(Problem(OpenStore(to)->Verify(kKey)) == "");
}

TEST_CASE_FIXTURE(ArchiveFixture,
                  "an archive that tar(1) packs of a snapshot is as good, if its order is right") {
  if (::system("tar --version >/dev/null 2>&1 && zstd --version >/dev/null 2>&1") != 0) {
    MESSAGE("skipped: there is no tar or no zstd here");
    return;
  }
  REQUIRE(Problem(Make(*store, kKey)) == "");
  const std::string archive = temp.path() + "/unpacked.tar.zst";
  const std::string command = "tar --format=pax --zstd -C " + folder + " -cf " + archive + " " +
                              In("manifest.json") + " " + In("criu.kdat") + " " +
                              In("images/core-1.img") + " " + In("images/pages-1.img");
  REQUIRE(::system(command.c_str()) == 0);
  CHECK(UnpackProblem(ReadAll(archive)) == "");
}

TEST_CASE_FIXTURE(ArchiveFixture,
                  "an archive that is cut off or damaged anywhere leaves nothing behind") {
  REQUIRE(Problem(Make(*store, kKey)) == "");
  const std::string archive = Packed();
  REQUIRE(archive.size() > 100);
  for (size_t size = 0; size < archive.size(); size += 7) {
    CAPTURE(size);
    REQUIRE(UnpackProblem(archive.substr(0, size)).ends_with("the archive is cut off"));
  }
  // A few bits of a frame mean nothing: then what comes out is the same.
  const std::string tar = Decompressed(archive);
  REQUIRE_FALSE(tar.empty());
  for (size_t at = 0; at < archive.size(); at += 5) {
    CAPTURE(at);
    std::string damaged = archive;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    const bool is_seen = !UnpackProblem(damaged).empty();
    REQUIRE((is_seen || Decompressed(damaged) == tar));
  }
  CHECK(UnpackProblem("PK\x03\x04 not an archive of ours")
            .starts_with("the archive is damaged, or not compressed with zstd: "));
  CHECK(UnpackProblem(archive + "more").starts_with("the archive is damaged, or not compressed"));
  CHECK(UnpackProblem(archive) == "");
}

TEST_CASE_FIXTURE(ArchiveFixture, "members that the manifest does not want are refused") {
  const std::string one = "one";
  const std::string two = "two";
  const std::string manifest = ManifestOf({{"images/1", one}, {"images/2", two}});
  Forgery forgery;
  std::string expected;
  SUBCASE("none at all") { expected = "the archive is empty"; }
  SUBCASE("no manifest first") {
    forgery.Add(In("images/1"), one).Add(In("manifest.json"), manifest);
    expected = "the archive holds no snapshot: it begins with \"" + In("images/1") + "\"";
  }
  SUBCASE("a manifest without a folder") {
    forgery.Add("manifest.json", manifest);
    expected = "the archive holds no snapshot: it begins with \"manifest.json\"";
  }
  SUBCASE("a manifest in another key's folder") {
    forgery.Add(kOtherKey + "/manifest.json", manifest);
    expected = "the manifest is that of snapshot " + kKey + ", not of " + kOtherKey;
  }
  SUBCASE("a damaged manifest") {
    forgery.Add(In("manifest.json"), "{");
    expected = "the manifest: is not valid JSON at byte 2";
  }
  SUBCASE("a giant manifest") {
    forgery.Add(In("manifest.json"), std::string(kLargestManifest + 1, ' '));
    expected = "the manifest is too large to be one";
  }
  SUBCASE("another order") {
    forgery.Add(In("manifest.json"), manifest).Add(In("images/2"), two).Add(In("images/1"), one);
    expected = "images/1: the archive has \"" + In("images/2") + "\" in its place";
  }
  SUBCASE("one too few") {
    forgery.Add(In("manifest.json"), manifest).Add(In("images/1"), one);
    expected = "images/2: the archive ends before it";
  }
  SUBCASE("one too many") {
    forgery.Add(In("manifest.json"), manifest).Add(In("images/1"), one).Add(In("images/2"), two);
    forgery.Add(In("images/\x1b[1m3"), "x");
    expected = "the archive has \"" + In("images/\\u001b[1m3") + "\", which is not in its manifest";
  }
  SUBCASE("one twice") {
    forgery.Add(In("manifest.json"), manifest).Add(In("images/1"), one).Add(In("images/1"), one);
    expected = "images/2: the archive has \"" + In("images/1") + "\" in its place";
  }
  SUBCASE("a wrong size") {
    forgery.Add(In("manifest.json"), manifest).Add(In("images/1"), "four");
    expected = "images/1: has 4 bytes, and the manifest says 3";
  }
  SUBCASE("other bytes") {
    forgery.Add(In("manifest.json"), manifest).Add(In("images/1"), "eno");
    expected = "images/1: is damaged: its checksum differs";
  }
  SUBCASE("a link in a file's place") {
    TarMember link;
    link.kind = TarMember::Kind::kLink;
    link.name = In("images/1");
    link.link = "/etc/passwd";
    forgery.Add(In("manifest.json"), manifest).Add(link);
    expected = "images/1: is no regular file";
  }
  SUBCASE("a folder before its files") {
    TarMember images;
    images.kind = TarMember::Kind::kFolder;
    images.name = In("images");
    forgery.Add(In("manifest.json"), manifest).Add(images);
    expected = "images/1: the archive has \"" + In("images") + "\" in its place";
  }
  CHECK(ForgeryProblem(forgery) == expected);
}

TEST_CASE_FIXTURE(ArchiveFixture, "files and folders of one name are an error, not a mix") {
  const std::string manifest = ManifestOf({{"a", "file"}, {"a/b", "within"}});
  Forgery forgery;
  forgery.Add(In("manifest.json"), manifest).Add(In("a"), "file").Add(In("a/b"), "within");
  CHECK(ForgeryProblem(forgery) == "a/b: a: Not a directory");
}

TEST_CASE_FIXTURE(
    ArchiveFixture,
    "a manifest that wants more than there is room for is refused before anything is written") {
  Json json = Json::parse(ManifestOf({{"images/1", "one"}}));
  json["files"][0]["size"] = int64_t{1} << 60;
  Forgery forgery;
  forgery.Add(In("manifest.json"), Resealed(json));
  CHECK(ForgeryProblem(forgery).starts_with(
      "it needs 1152921504606846976 bytes, and the disk has room for "));
}

TEST_CASE_FIXTURE(
    ArchiveFixture,
    "an archive that goes on after its end is refused, unless it is with a few zeros") {
  const std::string manifest = ManifestOf({});
  const auto tar = [&] { return Forgery().Add(In("manifest.json"), manifest).Tar(); };
  CHECK(UnpackProblem(Compressed(tar() + std::string(20 * 512, '\0'))) == "");
  CHECK(UnpackProblem(Compressed(tar() + std::string(5, 'x'))) ==
        "the archive goes on after its end");
  CHECK(UnpackProblem(Compressed(tar() + std::string(3 << 20, '\0'))) ==
        "the archive goes on after its end");
  CHECK(UnpackProblem(Compressed(tar()) + Compressed(std::string(600, '\0'))) == "");
}

TEST_CASE("a checksum is the same however the bytes come") {
  const std::string bytes(1'000'000, 'x');
  Checksum pieces;
  for (size_t at = 0; at < bytes.size(); at += 333) {
    pieces.Add(std::string_view(bytes).substr(at, 333));
  }
  const Result<FileChecksum> whole = ChecksumOf(Memory(bytes).get());
  REQUIRE(whole);
  CHECK(whole->size == bytes.size());
  CHECK(whole->text == pieces.Text());
}

}  // namespace
}  // namespace modal::snapshot

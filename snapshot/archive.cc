#include "snapshot/archive.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "agent/base/strings.h"
#include "snapshot/checksum.h"
#include "snapshot/folder.h"
#include "snapshot/snapshot_files.h"
#include "snapshot/tar.h"
#include "snapshot/zstd_stream.h"

namespace modal::snapshot {
namespace {

constexpr int kBestLevel = 19;
constexpr size_t kPiece = 256 * 1024;
constexpr size_t kMostAfterEnd = 1 << 20;  // tar(1) fills up its last record
constexpr std::string_view kManifestSuffix = "/manifest.json";

Result<UniqueFd> OpenPath(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return Error::FromErrno(path, errno);
  return fd;
}

// --- packing -------------------------------------------------------------------------------------

// One process's owner and modes mean nothing on another machine, so they are always the same.
TarMember FileMember(const Manifest& manifest, std::string_view name, uint64_t size) {
  TarMember member;
  member.name = Concat(manifest.key, "/", name);
  member.size = size;
  member.mode = 0600;
  // Whole seconds, and none that nanoseconds have no number for: then it needs no extended header.
  constexpr int64_t kMostSeconds = 8'000'000'000;
  member.mtime_ns = std::min(manifest.created_unix_ms / 1000, kMostSeconds) * 1'000'000'000;
  return member;
}

Result<void> PackFile(TarWriter& tar, SnapshotFiles& files, const Manifest& manifest,
                      const ImageFile& file, std::vector<char>& piece) {
  const Result<UniqueFd> opened = files.Open(file.name);
  if (!opened) return opened.error();
  if (Result<void> begun = tar.Begin(FileMember(manifest, file.name, file.size)); !begun) {
    return begun;
  }
  Checksum checksum;
  uint64_t left = file.size;
  while (left > 0) {
    const size_t wanted = static_cast<size_t>(std::min<uint64_t>(left, piece.size()));
    const Result<size_t> got = ReadFull(opened->get(), piece.data(), wanted);
    if (!got) return got.error();
    if (*got < wanted) return Error("is damaged: it has become shorter");
    checksum.Add({piece.data(), wanted});
    if (Result<void> written = tar.Write({piece.data(), wanted}); !written) return written;
    left -= wanted;
  }
  if (checksum.Text() != file.checksum) return Error("is damaged: its checksum differs");
  return {};
}

Result<void> PackAll(const Store::Found& found, int fd, int level) {
  const Result<UniqueFd> folder = OpenPath(found.path);
  if (!folder) return folder.error();
  ZstdWriter zstd(fd, level);
  TarWriter tar([&](std::string_view bytes) { return zstd.Write(bytes); });
  const std::string text = ToJson(found.manifest);
  Result<void> done = tar.Begin(FileMember(found.manifest, kManifestSuffix.substr(1), text.size()));
  if (done) done = tar.Write(text);
  if (!done) return done;
  SnapshotFiles files(folder->get());
  std::vector<char> piece(kPiece);
  for (const ImageFile& file : found.manifest.files) {
    done = PackFile(tar, files, found.manifest, file, piece);
    if (!done) return std::move(done.error()).While(file.name);
  }
  done = tar.Finish();
  if (done) done = zstd.Finish();
  return done;
}

// --- unpacking -----------------------------------------------------------------------------------

Result<std::string> ReadMember(TarReader& tar, const TarMember& member) {
  std::string text(member.size, '\0');
  size_t filled = 0;
  while (filled < text.size()) {
    const Result<size_t> got = tar.Read(text.data() + filled, text.size() - filled);
    if (!got) return got.error();
    filled += *got;
  }
  return text;
}

Result<Manifest> UnpackManifest(TarReader& tar) {
  const Result<std::optional<TarMember>> first = tar.Next();
  if (!first) return first.error();
  if (!*first) return Error("the archive is empty");
  const TarMember& member = **first;
  const size_t slash = std::min(member.name.find('/'), member.name.size());
  const std::string key = member.name.substr(0, slash);
  if (member.kind != TarMember::Kind::kFile || !IsKey(key) ||
      member.name.substr(slash) != kManifestSuffix) {
    return Error(Concat("the archive holds no snapshot: it begins with ", QuotedName(member.name)));
  }
  if (member.size > kLargestManifest) return Error("the manifest is too large to be one");
  const Result<std::string> text = ReadMember(tar, member);
  if (!text) return text.error();
  Result<Manifest> manifest = ParseManifest(*text);
  if (!manifest) return std::move(manifest.error()).While("the manifest");
  if (manifest->key != key) {
    return Error(Concat("the manifest is that of snapshot ", manifest->key, ", not of ", key));
  }
  return manifest;
}

Result<void> CheckRoom(const std::string& path, uint64_t bytes) {
  struct statvfs info {};
  if (::statvfs(path.c_str(), &info) != 0 || info.f_blocks == 0) return {};  // nobody knows
  const uint64_t room = uint64_t{info.f_bavail} * info.f_frsize;
  if (bytes <= room) return {};
  return Error(Concat("it needs ", bytes, " bytes, and the disk has room for ", room));
}

Result<void> UnpackFile(TarReader& tar, SnapshotFiles& files, const std::string& key,
                        const ImageFile& file, std::vector<char>& piece) {
  const Result<std::optional<TarMember>> next = tar.Next();
  if (!next) return next.error();
  if (!*next) return Error("the archive ends before it");
  const TarMember& member = **next;
  if (member.name != Concat(key, "/", file.name)) {
    return Error(Concat("the archive has ", QuotedName(member.name), " in its place"));
  }
  if (member.kind != TarMember::Kind::kFile) return Error("is no regular file");
  if (member.size != file.size) {
    return Error(Concat("has ", member.size, " bytes, and the manifest says ", file.size));
  }
  const Result<UniqueFd> to = files.Create(file.name);
  if (!to) return to.error();
  Checksum checksum;
  for (;;) {
    const Result<size_t> got = tar.Read(piece.data(), piece.size());
    if (!got) return got.error();
    if (*got == 0) break;
    checksum.Add({piece.data(), *got});
    if (Result<void> written = WriteAll(to->get(), {piece.data(), *got}); !written) return written;
  }
  if (checksum.Text() != file.checksum) return Error("is damaged: its checksum differs");
  return {};
}

// Nothing but the zeros that fill a tar's last record.
Result<void> CheckEnd(TarReader& tar, ZstdReader& zstd, std::vector<char>& piece) {
  const Result<std::optional<TarMember>> next = tar.Next();
  if (!next) return next.error();
  if (*next) {
    return Error(
        Concat("the archive has ", QuotedName((*next)->name), ", which is not in its manifest"));
  }
  size_t after = 0;
  for (;;) {
    const Result<size_t> got = zstd.Read(piece.data(), piece.size());
    if (!got) return got.error();
    after += *got;
    const auto is_zero = [](char c) { return c == '\0'; };
    if (after > kMostAfterEnd ||
        !std::all_of(piece.begin(), piece.begin() + static_cast<ptrdiff_t>(*got), is_zero)) {
      return Error("the archive goes on after its end");
    }
    if (*got < piece.size()) return {};
  }
}

Result<std::string> UnpackAll(Store& store, int fd) {
  ZstdReader zstd(fd);
  TarReader tar([&](char* to, size_t size) { return zstd.Read(to, size); });
  Result<Manifest> manifest = UnpackManifest(tar);
  if (!manifest) return std::move(manifest.error());
  const std::string key = manifest->key;
  Result<std::unique_ptr<Staging>> staging = store.Stage(key);
  if (!staging) return std::move(staging.error());
  if (!*staging) {
    return Error(Concat("there is a snapshot ", key, " already, or it is being made right now"));
  }
  const std::string path = (*staging)->path();
  if (Result<void> room = CheckRoom(path, manifest->TotalBytes()); !room) {
    return std::move(room.error());
  }
  const Result<UniqueFd> folder = OpenPath(path);
  if (!folder) return folder.error();
  SnapshotFiles files(folder->get());
  std::vector<char> piece(kPiece);
  for (const ImageFile& file : manifest->files) {
    Result<void> done = UnpackFile(tar, files, key, file, piece);
    if (!done) return std::move(done.error()).While(file.name);
  }
  if (Result<void> end = CheckEnd(tar, zstd, piece); !end) return std::move(end.error());
  Result<void> published = store.Publish(*std::move(staging), *std::move(manifest));
  if (!published) return std::move(published.error());
  return key;
}

}  // namespace

Result<void> Pack(Store& store, const std::string& key, int fd, int level) {
  const std::string context = "pack snapshot " + key;
  if (level < 1 || level > kBestLevel) {
    return Error(Concat("level ", level, ": must be from 1 to ", kBestLevel)).While(context);
  }
  const Result<std::optional<Store::Found>> found = store.Find(key);
  if (!found) return Error(found.error()).While("pack");
  if (!*found) return Error("there is no snapshot " + key);
  Result<void> packed = PackAll(**found, fd, level);
  if (!packed) return std::move(packed.error()).While(context);
  return {};
}

Result<std::string> Unpack(Store& store, int fd) {
  Result<std::string> key = UnpackAll(store, fd);
  if (!key) return std::move(key.error()).While("unpack");
  return key;
}

}  // namespace modal::snapshot

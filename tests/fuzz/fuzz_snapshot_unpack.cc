// Unpacking what a peer has sent into a folder of its own: it ends in a snapshot that verifies, or
// in an error of one line and an empty folder.
//
// The first byte says what follows: a tar, of which a frame is made here; a frame; or members
// (name, NUL, bytes, NUL, and so on), of which a tar is made. The first of these gets the checksum
// that a manifest needs to be looked at.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "agent/base/check.h"
#include "snapshot/archive.h"
#include "snapshot/store.h"
#include "snapshot/tar.h"
#include "tests/unit/snapshot/resealed.h"

using namespace modal;
using namespace modal::snapshot;

namespace {

// For all inputs of this process; removed with it.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "unpack-XXXXXX").string();
    MODAL_CHECK(::mkdtemp(name.data()));
    path_ = name;
    Result<std::unique_ptr<Store>> store = Store::Open(path_ + "/within", Store::Use::kWrite);
    MODAL_CHECK(store.ok());
    store_ = *std::move(store);
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  Store& store() { return *store_; }
  size_t Names() const {
    const auto count = [](const std::string& path) {
      return std::distance(std::filesystem::directory_iterator(path), {});
    };
    MODAL_CHECK(count(path_) == 1);
    return static_cast<size_t>(count(path_ + "/within"));
  }

 private:
  std::string path_;
  std::unique_ptr<Store> store_;
};

std::string Compressed(std::string_view bytes) {
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  const size_t size = ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), -5);
  MODAL_CHECK(!ZSTD_isError(size));
  out.resize(size);
  return out;
}

std::string_view TakeText(std::string_view& left) {
  const size_t end = std::min(left.find('\0'), left.size());
  const std::string_view text = left.substr(0, end);
  left.remove_prefix(std::min(end + 1, left.size()));
  return text;
}

std::string TarOf(std::string_view members) {
  std::string archive;
  TarWriter tar([&](std::string_view bytes) -> Result<void> {
    archive += bytes;
    return {};
  });
  for (bool is_first = true; !members.empty(); is_first = false) {
    TarMember member;
    member.name = TakeText(members);
    const std::string_view text = TakeText(members);
    const std::string bytes = is_first ? SealedText(text) : std::string(text);
    member.size = bytes.size();
    if (!tar.Begin(member) || !tar.Write(bytes)) break;  // such a name cannot be written
  }
  (void)tar.Finish();
  return archive;
}

std::string ArchiveOf(uint8_t kind, std::string_view text) {
  switch (kind % 3) {
    case 0:
      return Compressed(text);
    case 1:
      return std::string(text);
    default:
      return Compressed(TarOf(text));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Folder folder;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string archive = ArchiveOf(data[0], text);
  const UniqueFd fd(::memfd_create("archive", MFD_CLOEXEC));
  MODAL_CHECK(::write(fd.get(), archive.data(), archive.size()) ==
              static_cast<ssize_t>(archive.size()));
  MODAL_CHECK(::lseek(fd.get(), 0, SEEK_SET) == 0);
  const Result<std::string> key = Unpack(folder.store(), fd.get());
  if (key) {
    MODAL_CHECK(folder.store().Verify(*key).ok());
    MODAL_CHECK(folder.store().Delete(*key).ok());
  } else {
    MODAL_CHECK(key.error().message().find('\n') == std::string::npos);
  }
  MODAL_CHECK(folder.Names() == 1);  // README
  return 0;
}

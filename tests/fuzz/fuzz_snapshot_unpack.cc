// Unpacking what a peer has sent, as tar in a zstd frame that is made here, into a folder of its
// own: it ends in a snapshot that verifies, or in an error of one line and an empty folder.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "agent/base/check.h"
#include "snapshot/archive.h"
#include "snapshot/store.h"

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

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Folder folder;
  if (size == 0) return 0;
  // Even: a tar that is compressed here; odd: a frame as it is.
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string archive = data[0] % 2 == 0 ? Compressed(text) : std::string(text);
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

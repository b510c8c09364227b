#include "snapshot/image_check.h"

#include <fcntl.h>

#include <cerrno>
#include <string_view>
#include <utility>

#include "agent/base/strings.h"
#include "snapshot/checksum.h"
#include "snapshot/folder.h"
#include "snapshot/snapshot_files.h"

namespace modal::snapshot {

ImageCheck::ImageCheck(std::string folder, const std::vector<ImageFile>& files, bool with_memory)
    : folder_(std::move(folder)) {
  for (const ImageFile& file : files) {
    if (!with_memory && IsMemory(file.name)) continue;
    (IsMemory(file.name) ? memory_ : others_).files.push_back(file);
  }
  Start(others_);
}

ImageCheck::~ImageCheck() {
  is_over_ = true;
  (void)Await(others_);
  (void)Await(memory_);
}

Result<void> ImageCheck::AwaitOthers() { return Await(others_); }

void ImageCheck::StartMemory() {
  if (!std::exchange(has_started_memory_, true)) Start(memory_);
}

Result<void> ImageCheck::AwaitMemory() {
  StartMemory();
  return Await(memory_);
}

bool ImageCheck::IsMemory(const std::string& name) {
  constexpr std::string_view kPages = "images/pages-";
  return std::string_view(name).substr(0, kPages.size()) == kPages;
}

void ImageCheck::Start(Reader& reader) {
  reader.thread = std::thread([this, &reader] { reader.found = Compare(reader.files); });
}

Result<void> ImageCheck::Compare(const std::vector<ImageFile>& files) const {
  const UniqueFd folder(::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return Error::FromErrno(folder_, errno);
  SnapshotFiles opened(folder.get());
  for (const ImageFile& file : files) {
    if (is_over_) return Error("not compared to its end");
    const Result<UniqueFd> image = opened.Open(file.name);
    if (!image) return Error(image.error()).While(file.name);
    const Result<FileChecksum> seen = ChecksumOf(image->get(), &is_over_);
    if (!seen) return Error(seen.error()).While(file.name);
    if (seen->size == file.size && seen->text == file.checksum) continue;
    return Error(file.name + ": is damaged, its checksum differs");
  }
  return {};
}

Result<void> ImageCheck::Await(Reader& reader) {
  if (reader.thread.joinable()) reader.thread.join();
  return reader.found;
}

}  // namespace modal::snapshot

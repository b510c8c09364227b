#include "snapshot/page_sums.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>
#include <system_error>

#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"
#include "snapshot/folder.h"

namespace modal::snapshot {
namespace {

constexpr size_t kLargestImage = size_t{64} << 20;
constexpr std::string_view kSuffix = ".img";
constexpr std::string_view kPages = "pages-";
constexpr std::string_view kPageMap = "pagemap-";

std::string SumsName(uint32_t id) { return Concat("sums-", id, kSuffix); }

// "pages-7.img": 7.
std::optional<uint32_t> IdOf(std::string_view name) {
  if (!name.starts_with(kPages) || !name.ends_with(kSuffix)) return std::nullopt;
  name.remove_prefix(kPages.size());
  name.remove_suffix(kSuffix.size());
  uint32_t id = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), id);
  if (error != std::errc() || end != name.data() + name.size()) return std::nullopt;
  return id;
}

Result<std::vector<std::string>> NamesIn(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  if (error) return Error(Concat(folder, ": ", error.message()));
  return names;
}

Result<UniqueFd> OpenImage(int images, const std::string& name) {
  UniqueFd file(::openat(images, name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat facts {};
  if (!file || ::fstat(file.get(), &facts) != 0) return Error::FromErrno(name, errno);
  if (!S_ISREG(facts.st_mode)) return Error(name + ": no file");
  return file;
}

Result<void> WriteSums(int images, uint32_t id) {
  const Result<UniqueFd> pages = OpenImage(images, PagesName(id));
  if (!pages) return pages.error();
  std::string block(kSumBlock, '\0');
  std::string sums;
  while (true) {
    const Result<size_t> got = ReadFull(pages->get(), block.data(), block.size());
    if (!got) return Error(got.error()).While(PagesName(id));
    if (*got == 0) break;
    const uint64_t sum = SumOf(std::string_view(block).substr(0, *got));
    sums.append(reinterpret_cast<const char*>(&sum), sizeof sum);
  }
  const std::string name = SumsName(id);
  const UniqueFd file(
      ::openat(images, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) return Error::FromErrno(name, errno);
  return WriteAll(file.get(), sums);
}

Result<void> CompareBlocks(int images, uint32_t id, const std::vector<FileRange>& ranges,
                           uint64_t file_bytes) {
  const Result<std::vector<uint64_t>> sums = ReadPageSums(images, id, file_bytes);
  if (!sums) return sums.error();
  const Result<UniqueFd> pages = OpenImage(images, PagesName(id));
  if (!pages) return pages.error();
  std::set<uint64_t> blocks;
  for (const FileRange& range : ranges) {
    for (uint64_t at = range.start / kSumBlock; at * kSumBlock < range.end; ++at) blocks.insert(at);
  }
  std::string block(kSumBlock, '\0');
  for (const uint64_t number : blocks) {
    const uint64_t start = number * kSumBlock;
    const size_t size = std::min(kSumBlock, file_bytes - start);
    const ssize_t got = ::pread(pages->get(), block.data(), size, static_cast<off_t>(start));
    if (got < 0) return Error::FromErrno(PagesName(id), errno);
    const bool is_whole = static_cast<size_t>(got) == size &&
                          SumOf(std::string_view(block).substr(0, size)) == (*sums)[number];
    if (!is_whole) return Error(PagesName(id) + ": is damaged, its checksum differs");
  }
  return {};
}

}  // namespace

std::string PagesName(uint32_t id) { return Concat(kPages, id, kSuffix); }

uint64_t SumOf(std::string_view block) { return XXH3_64bits(block.data(), block.size()); }

Result<void> WritePageSums(const std::string& images) {
  const UniqueFd folder(::open(images.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return Error::FromErrno(images, errno);
  const Result<std::vector<std::string>> names = NamesIn(images);
  if (!names) return names.error();
  for (const std::string& name : *names) {
    const std::optional<uint32_t> id = IdOf(name);
    if (!id) continue;
    if (Result<void> written = WriteSums(folder.get(), *id); !written) return written;
  }
  return {};
}

Result<std::string> ReadImage(int images, const std::string& name) {
  const Result<UniqueFd> file = OpenImage(images, name);
  if (!file) return file.error();
  struct stat facts {};
  if (::fstat(file->get(), &facts) != 0) return Error::FromErrno(name, errno);
  if (static_cast<uint64_t>(facts.st_size) > kLargestImage) return Error(name + ": too large");
  std::string text(static_cast<size_t>(facts.st_size), '\0');
  const Result<size_t> got = ReadFull(file->get(), text.data(), text.size());
  if (!got) return Error(got.error()).While(name);
  if (*got != text.size()) return Error(name + ": shorter than it was");
  return text;
}

Result<std::vector<uint64_t>> ReadPageSums(int images, uint32_t id, uint64_t bytes) {
  const std::string name = SumsName(id);
  const Result<std::string> text = ReadImage(images, name);
  if (!text) return text.error();
  std::vector<uint64_t> sums((bytes + kSumBlock - 1) / kSumBlock);
  if (text->size() != sums.size() * sizeof(uint64_t)) {
    return Error(name + ": not of as many blocks as there are");
  }
  std::memcpy(sums.data(), text->data(), text->size());
  return sums;
}

Result<void> CheckEagerPages(const std::string& images, uint64_t page_size) {
  const UniqueFd folder(::open(images.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return Error::FromErrno(images, errno);
  const Result<std::vector<std::string>> names = NamesIn(images);
  if (!names) return names.error();
  for (const std::string& name : *names) {
    if (!name.starts_with(kPageMap)) continue;
    const Result<std::string> image = ReadImage(folder.get(), name);
    if (!image) return image.error();
    const Result<PageMap> map = ParsePageMap(*image, page_size);
    if (!map) return Error(map.error()).While(name);
    if (map->eager.empty()) continue;
    Result<void> compared = CompareBlocks(folder.get(), map->pages_id, map->eager, map->file_bytes);
    if (!compared) return compared;
  }
  return {};
}

}  // namespace modal::snapshot

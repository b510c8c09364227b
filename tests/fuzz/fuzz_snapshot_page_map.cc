// CRIU's images of what a process's memory was, by whoever could write to the folder: runs of pages
// that follow each other, within memory and within the file, or an error of one line.
#include <string>
#include <string_view>

#include "agent/base/check.h"
#include "snapshot/missing_memory.h"
#include "snapshot/page_map.h"

using namespace modal;
using namespace modal::snapshot;

namespace {

constexpr uint64_t kPage = 4096;

void CheckError(const Error& error) {
  MODAL_CHECK(!error.message().empty());
  MODAL_CHECK(error.message().find('\n') == std::string::npos);
}

void CheckMap(std::string_view image) {
  const Result<PageMap> map = ParsePageMap(image, kPage);
  if (!map) return CheckError(map.error());
  MissingMemory missing;
  uint64_t end = 0;
  uint64_t bytes = 0;
  for (const PageRun& run : map->lazy) {
    MODAL_CHECK(run.memory.start >= end && run.memory.end > run.memory.start);
    MODAL_CHECK(run.memory.start % kPage == 0 && run.memory.end % kPage == 0);
    end = run.memory.end;
    const uint64_t size = run.memory.end - run.memory.start;
    MODAL_CHECK(run.offset % kPage == 0 && run.offset + size <= map->file_bytes);
    bytes += size;
    missing.Add(run);
  }
  MODAL_CHECK(missing.bytes() == bytes);
  for (const FileRange& range : map->eager) {
    MODAL_CHECK(range.start < range.end && range.end <= map->file_bytes);
    bytes += range.end - range.start;
  }
  MODAL_CHECK(bytes == map->file_bytes);
}

void CheckMappings(std::string_view image) {
  const Result<std::vector<MemoryRange>> ranges = ParseNotInherited(image);
  if (!ranges) return CheckError(ranges.error());
  for (const MemoryRange& range : *ranges) MODAL_CHECK(range.start < range.end);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view image(reinterpret_cast<const char*>(data), size);
  CheckMap(image);
  CheckMappings(image);
  return 0;
}

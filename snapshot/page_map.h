// What of a dumped process's memory may come later, by CRIU's images of it: pagemap-PID.img tells
// which pages lie where in pages-N.img, mm-PID.img what the memory was mapped for. Pure.
//
// The images come from a folder that others can write; whatever is damaged is an Error.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace modal::snapshot {

struct MemoryRange {
  uint64_t start = 0;
  uint64_t end = 0;
};

// Pages that follow each other in memory and in the file.
struct PageRun {
  MemoryRange memory;
  uint64_t offset = 0;  // in the file
};

struct FileRange {
  uint64_t start = 0;
  uint64_t end = 0;
};

struct PageMap {
  uint32_t pages_id = 0;         // of pages-N.img
  std::vector<PageRun> lazy;     // in the order of their addresses, none overlaps another
  std::vector<FileRange> eager;  // what CRIU reads itself, whatever comes lazily
  uint64_t file_bytes = 0;       // that pages-N.img must have
};

Result<PageMap> ParsePageMap(std::string_view image, uint64_t page_size);

// What a child does not inherit as it is (madvise(2): MADV_DONTFORK, MADV_WIPEONFORK).
Result<std::vector<MemoryRange>> ParseNotInherited(std::string_view image);

}  // namespace modal::snapshot

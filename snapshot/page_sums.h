// Checksums of the blocks of pages-N.img, in sums-N.img beside it: who takes single pages out of it
// can thus tell that they are what was dumped, without reading all of it first.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "snapshot/page_map.h"

namespace modal::snapshot {

inline constexpr uint64_t kSumBlock = uint64_t{64} << 10;  // the last one may be shorter

std::string PagesName(uint32_t id);
uint64_t SumOf(std::string_view block);

// Writes those of every pages-N.img in the folder.
Result<void> WritePageSums(const std::string& images);
// For a file of so many bytes; `images`: the folder.
Result<std::vector<uint64_t>> ReadPageSums(int images, uint32_t id, uint64_t bytes);
// A whole image, which is small beside the pages.
Result<std::string> ReadImage(int images, const std::string& name);

// Compares the blocks of what CRIU reads itself when it restores with lazy pages.
Result<void> CheckEagerPages(const std::string& images, uint64_t page_size);

}  // namespace modal::snapshot

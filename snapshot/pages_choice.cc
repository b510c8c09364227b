#include "snapshot/pages_choice.h"

#include <algorithm>

namespace modal::snapshot {
namespace {

bool IsMemory(const ImageFile& file) {
  return file.name.starts_with("images/pages-") && file.name.ends_with(".img");
}

}  // namespace

uint64_t MemoryBytes(const Manifest& manifest) {
  uint64_t bytes = 0;
  for (const ImageFile& file : manifest.files) {
    if (IsMemory(file)) bytes += file.size;
  }
  return bytes;
}

bool WantsLazyPages(Pages pages, const Manifest& manifest, const Verdict& verdict) {
  if (pages != Pages::kAuto) return pages == Pages::kLazy;
  uint64_t largest = 0;
  for (const ImageFile& file : manifest.files) {
    if (IsMemory(file)) largest = std::max(largest, file.size);
  }
  return largest >= kLazyFrom && largest > MemoryBytes(manifest) / 2 && verdict.failures == 0;
}

}  // namespace modal::snapshot

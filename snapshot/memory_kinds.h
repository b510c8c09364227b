// What the resident memory of a process consists of, as /proc/PID/smaps tells. Pure.
#pragma once

#include <cstdint>
#include <string_view>

namespace modal::snapshot {

// Bytes. All but `file` travel in the images.
struct MemoryKinds {
  uint64_t heap = 0;          // brk(2)
  uint64_t stack = 0;         // of the first thread; those of others are anonymous
  uint64_t anonymous = 0;     // mmap(2) without a file
  uint64_t file_private = 0;  // pages of files that were written to, for this process alone
  uint64_t shared = 0;        // with others: memory that no file of a disk stands behind
  uint64_t file = 0;          // as it stands in files: is read again when it is needed

  MemoryKinds& operator+=(const MemoryKinds& other);
};

// Lines that are none of smaps are passed over.
MemoryKinds ParseSmaps(std::string_view text);

}  // namespace modal::snapshot

// Checksums of image files: XXH3 with 128 bits, against damage and not against forgery; it goes at
// the speed of memory.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace modal::snapshot {

class Checksum {
 public:
  Checksum();
  ~Checksum();

  void Add(std::string_view bytes);
  std::string Text() const;  // of all bytes so far: 32 hex digits

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct FileChecksum {
  uint64_t size = 0;
  std::string text;
};

// Of a file from its current place to its end. Once `is_over` is true it ends with an Error.
Result<FileChecksum> ChecksumOf(int fd, const std::atomic<bool>* is_over = nullptr);

}  // namespace modal::snapshot

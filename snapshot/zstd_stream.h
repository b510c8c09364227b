// A zstd frame written to, or zstd frames read from, a descriptor. Both block.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "agent/base/result.h"

namespace modal::snapshot {

class ZstdWriter {
 public:
  ZstdWriter(int fd, int level);
  ~ZstdWriter();

  Result<void> Write(std::string_view bytes);
  Result<void> Finish();  // without it the frame is cut off

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class ZstdReader {
 public:
  explicit ZstdReader(int fd);
  ~ZstdReader();

  // Fills `to` wholly or up to the end. An Error: it is no zstd, damaged, cut off, or wants more
  // than 128 MiB of memory.
  Result<size_t> Read(char* to, size_t size);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace modal::snapshot

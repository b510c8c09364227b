// Which memory of a restored process has still to come, and where in the file of its pages it is.
// Follows what the process does with its address space meanwhile. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "snapshot/page_map.h"

namespace modal::snapshot {

class MissingMemory {
 public:
  // Overlaps nothing that is there.
  void Add(const PageRun& run);
  // It has come, or will not be asked for again.
  void Remove(MemoryRange range);
  // It was moved to another address (mremap(2)); whatever had stood there is gone.
  void Move(MemoryRange from, uint64_t to);

  // What is missing from this address on, if that is.
  std::optional<PageRun> At(uint64_t address) const;
  // The first that is missing at this address or after it, or else the first at all.
  std::optional<PageRun> NextFrom(uint64_t address) const;
  // Where the first that is missing after this address begins; the highest number: there is none.
  uint64_t EndOfHole(uint64_t address) const;

  bool empty() const { return pieces_.empty(); }
  uint64_t bytes() const;

 private:
  struct Piece {
    uint64_t end;
    uint64_t offset;
  };
  using Pieces = std::map<uint64_t, Piece>;  // by start

  Pieces::const_iterator Find(uint64_t address) const;
  void SplitAt(uint64_t address);

  Pieces pieces_;
};

}  // namespace modal::snapshot

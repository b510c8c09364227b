#include "snapshot/missing_memory.h"

#include <limits>
#include <utility>
#include <vector>

namespace modal::snapshot {

void MissingMemory::Add(const PageRun& run) {
  pieces_[run.memory.start] = {run.memory.end, run.offset};
}

// The piece that holds it, or end().
MissingMemory::Pieces::const_iterator MissingMemory::Find(uint64_t address) const {
  const auto after = pieces_.upper_bound(address);
  if (after == pieces_.begin()) return pieces_.end();
  const auto piece = std::prev(after);
  return address < piece->second.end ? piece : pieces_.end();
}

void MissingMemory::SplitAt(uint64_t address) {
  const auto found = Find(address);
  if (found == pieces_.end() || found->first == address) return;
  const uint64_t start = found->first;
  const Piece whole = found->second;
  pieces_[start].end = address;
  pieces_[address] = {whole.end, whole.offset + (address - start)};
}

void MissingMemory::Remove(MemoryRange range) {
  if (range.start >= range.end) return;
  SplitAt(range.start);
  SplitAt(range.end);
  pieces_.erase(pieces_.lower_bound(range.start), pieces_.lower_bound(range.end));
}

void MissingMemory::Move(MemoryRange from, uint64_t to) {
  if (from.start >= from.end) return;
  SplitAt(from.start);
  SplitAt(from.end);
  std::vector<PageRun> moved;
  const auto first = pieces_.lower_bound(from.start);
  const auto last = pieces_.lower_bound(from.end);
  for (auto piece = first; piece != last; ++piece) {
    const uint64_t start = piece->first - from.start + to;
    moved.push_back({{start, start + (piece->second.end - piece->first)}, piece->second.offset});
  }
  pieces_.erase(first, last);
  Remove({to, to + (from.end - from.start)});
  for (const PageRun& run : moved) Add(run);
}

std::optional<PageRun> MissingMemory::At(uint64_t address) const {
  const auto piece = Find(address);
  if (piece == pieces_.end()) return std::nullopt;
  return PageRun{{address, piece->second.end}, piece->second.offset + (address - piece->first)};
}

std::optional<PageRun> MissingMemory::NextFrom(uint64_t address) const {
  if (std::optional<PageRun> here = At(address)) return here;
  if (pieces_.empty()) return std::nullopt;
  auto next = pieces_.lower_bound(address);
  if (next == pieces_.end()) next = pieces_.begin();
  return PageRun{{next->first, next->second.end}, next->second.offset};
}

uint64_t MissingMemory::EndOfHole(uint64_t address) const {
  const auto next = pieces_.upper_bound(address);
  return next == pieces_.end() ? std::numeric_limits<uint64_t>::max() : next->first;
}

uint64_t MissingMemory::bytes() const {
  uint64_t bytes = 0;
  for (const auto& [start, piece] : pieces_) bytes += piece.end - start;
  return bytes;
}

}  // namespace modal::snapshot

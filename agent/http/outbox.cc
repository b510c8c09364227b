#include "agent/http/outbox.h"

#include <algorithm>
#include <array>
#include <utility>

namespace modal::http {
namespace {

// Enough for what is busy at the same time, little enough to hold forever.
constexpr size_t kSpare = 16;
constexpr size_t kSpareSize = size_t{16} * 1024;
// Pieces from this size on are not copied if the stream takes them.
constexpr size_t kDirect = size_t{4} * 1024;
// What was taken is moved out of the way when it is this much.
constexpr size_t kSlack = size_t{64} * 1024;

}  // namespace

std::string BufferStock::Take() {
  if (spare_.empty()) {
    std::string fresh;
    fresh.reserve(kNewSize);
    return fresh;
  }
  std::string buffer = std::move(spare_.back());
  spare_.pop_back();
  return buffer;
}

void BufferStock::GiveBack(std::string buffer) {
  if (buffer.capacity() < kNewSize || buffer.capacity() > kSpareSize) return;
  if (spare_.size() == kSpare) return;
  buffer.clear();
  spare_.push_back(std::move(buffer));
}

std::string& Outbox::text() {
  if (text_.capacity() < BufferStock::kNewSize) text_ = stock_.Take();
  return text_;
}

void Outbox::Count(size_t size) {
  sent_ += size;
  progress_ = progress_ || size > 0;
}

bool Outbox::Put(event::Stream& stream, std::string_view before, std::string_view data,
                 std::string_view after) {
  if (data.size() < kDirect || full_) {
    text().append(before).append(data).append(after);
    return true;
  }
  std::array pieces{std::string_view(text_).substr(taken_), before, data, after};
  const event::IoResult result = stream.Write(pieces);
  if (result.kind == event::IoResult::Kind::kError) {
    error_ = result.error;
    return false;
  }
  Count(result.size);
  size_t left = result.size;
  for (std::string_view& piece : pieces) {
    const size_t gone = std::min(left, piece.size());
    piece.remove_prefix(gone);
    left -= gone;
  }
  full_ = std::any_of(pieces.begin(), pieces.end(),
                      [](std::string_view piece) { return !piece.empty(); });
  taken_ = text_.size() - pieces[0].size();
  if (empty()) Empty();
  if (full_) text().append(pieces[1]).append(pieces[2]).append(pieces[3]);
  return true;
}

bool Outbox::Flush(event::Stream& stream) {
  if (!empty() && !full_) {
    const event::IoResult result = stream.Write(std::string_view(text_).substr(taken_));
    if (result.kind == event::IoResult::Kind::kError) {
      error_ = result.error;
      return false;
    }
    Count(result.size);
    taken_ += result.size;
    full_ = !empty();
  }
  if (empty()) {
    Empty();
  } else if (taken_ > kSlack) {
    text_.erase(0, taken_);
    taken_ = 0;
  }
  return true;
}

std::string Outbox::TakeAll() {
  std::string rest = text_.substr(taken_);
  Empty();
  full_ = false;
  return rest;
}

void Outbox::Empty() {
  taken_ = 0;
  if (text_.capacity() >= BufferStock::kNewSize) stock_.GiveBack(std::exchange(text_, {}));
}

}  // namespace modal::http

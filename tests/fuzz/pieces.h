// Cuts a fuzzer's input: the first bytes say how, the rest is the text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace modal::test {

class Pieces {
 public:
  Pieces(const uint8_t* data, size_t size) {
    if (size >= 1) how_ = data[0];
    if (size > 1) text_.assign(reinterpret_cast<const char*>(data) + 1, size - 1);
  }

  const std::string& text() const { return text_; }
  // The size of the next piece, one of a few sequences that repeat.
  size_t Next() {
    state_ = state_ * 1664525 + 1013904223 + how_;
    return 1 + (state_ >> 24) % (1u << (how_ % 10));
  }
  uint8_t how() const { return how_; }

 private:
  uint8_t how_ = 0;
  uint32_t state_ = 1;
  std::string text_;
};

}  // namespace modal::test

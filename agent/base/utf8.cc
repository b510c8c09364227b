#include "agent/base/utf8.h"

namespace modal {
namespace {

// How many bytes at the front of `text` are one valid character; 0 if none.
size_t Utf8Length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  // Overlong forms, surrogates, and what lies beyond U+10FFFF.
  if (first == 0xe0 && byte(1) < 0xa0) return 0;
  if (first == 0xed && byte(1) > 0x9f) return 0;
  if (first == 0xf0 && byte(1) < 0x90) return 0;
  if (first == 0xf4 && byte(1) > 0x8f) return 0;
  return length;
}

}  // namespace

Utf8Character FirstCharacter(std::string_view text) {
  const size_t length = Utf8Length(text);
  if (length == 0) return {1, false, false};
  const auto first = static_cast<unsigned char>(text[0]);
  const bool is_c0 = first < 0x20 || first == 0x7f;
  const bool is_c1 = first == 0xc2 && static_cast<unsigned char>(text[1]) < 0xa0;
  return {length, true, is_c0 || is_c1};
}

}  // namespace modal

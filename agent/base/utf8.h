// Text that may be anything, looked at one character of UTF-8 (RFC 3629) at a time. Pure.
#pragma once

#include <cstddef>
#include <string_view>

namespace modal {

// What stands for a byte that is not UTF-8.
inline constexpr std::string_view kReplacementCharacter = "\xef\xbf\xbd";  // U+FFFD

struct Utf8Character {
  size_t length;  // in bytes, at least 1
  bool valid;     // false: a single byte that belongs to no character
  // U+0000 to U+001F and U+007F to U+009F: what a terminal may obey instead of showing it.
  bool control;
};

// The first character of `text`, which is not empty.
Utf8Character FirstCharacter(std::string_view text);

}  // namespace modal

// Sizes, times and other people's texts as they stand on a terminal. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace modal {

// "512 B", "12.4 KiB", "3.0 GiB".
std::string ReadableSize(uint64_t bytes);

// "340 ms", "12.3 s", "5 m 10 s", "3 h 2 m", "2 d 3 h".
std::string ReadableTime(int64_t ms);

// "2026-11-21 19:40:05 UTC"; "-" for what no calendar has.
std::string ReadableMoment(int64_t unix_ms);

// One line that a terminal only shows: control characters are written as "\n", "\x1b", and what is
// no UTF-8 as U+FFFD.
std::string Printable(std::string_view text);

}  // namespace modal

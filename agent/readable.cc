#include "agent/readable.h"

#include <time.h>

#include <array>

#include "agent/base/strings.h"
#include "agent/base/utf8.h"

namespace modal {

std::string ReadableSize(uint64_t bytes) {
  constexpr std::array<std::string_view, 6> kUnits{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return Concat(bytes, " B");
  size_t unit = 0;
  uint64_t whole = bytes;
  uint64_t rest = 0;  // of 1024
  for (; whole >= 1024; ++unit) {
    rest = whole % 1024;
    whole /= 1024;
  }
  return Concat(whole, ".", rest * 10 / 1024, " ", kUnits[unit - 1]);
}

std::string ReadableTime(int64_t ms) {
  if (ms < 10'000) return Concat(ms, " ms");
  if (ms < 60'000) return Concat(ms / 1000, ".", ms % 1000 / 100, " s");
  const int64_t minutes = ms / 60'000;
  const int64_t hours = minutes / 60;
  if (hours < 1) return Concat(minutes, " m ", ms / 1000 % 60, " s");
  if (hours < 48) return Concat(hours, " h ", minutes % 60, " m");
  return Concat(hours / 24, " d ", hours % 24, " h");
}

std::string ReadableMoment(int64_t unix_ms) {
  const time_t seconds = unix_ms / 1000;
  tm moment{};
  std::array<char, 64> text;
  if (unix_ms < 0 || ::gmtime_r(&seconds, &moment) == nullptr) return "-";
  const size_t size = ::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S UTC", &moment);
  return size == 0 ? "-" : std::string(text.data(), size);
}

std::string Printable(std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string line;
  while (!text.empty()) {
    const Utf8Character character = FirstCharacter(text);
    const std::string_view bytes = text.substr(0, character.length);
    if (!character.valid) {
      line += kReplacementCharacter;
    } else if (!character.control) {
      line += bytes;
    } else if (bytes == "\n") {
      line += "\\n";
    } else if (bytes == "\t") {
      line += "\\t";
    } else {
      for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        line += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
      }
    }
    text.remove_prefix(character.length);
  }
  return line;
}

}  // namespace modal

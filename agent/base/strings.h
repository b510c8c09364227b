// Small helpers for text: joining, splitting, numbers, and "did you mean".
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace modal {

// Concat("port ", 8000, " is taken"): strings and integers, joined.
namespace strings_internal {
inline void Append(std::string& out, std::string_view piece) { out += piece; }
inline void Append(std::string& out, const char* piece) { out += piece; }
inline void Append(std::string& out, char piece) { out += piece; }
template <class Integer>
requires std::is_integral_v<Integer>
void Append(std::string& out, Integer piece) { out += std::to_string(piece); }
}  // namespace strings_internal

template <class... Pieces>
std::string Concat(const Pieces&... pieces) {
  std::string out;
  (strings_internal::Append(out, pieces), ...);
  return out;
}

std::string Join(std::span<const std::string> pieces, std::string_view separator);
// Split("a,,b", ',') is {"a", "", "b"}; Split("", ',') is {""}.
std::vector<std::string> Split(std::string_view text, char separator);
// Without spaces, tabs, CR and LF at both ends.
std::string_view Trim(std::string_view text);
// Of ASCII letters only.
std::string LowerCase(std::string_view text);
// The whole of `text` as a decimal number without sign; nothing if it is not one or does not fit.
std::optional<uint64_t> ParseUnsigned(std::string_view text);
// The candidate with the smallest edit distance, if it is near enough to be what was meant.
std::optional<std::string> Nearest(std::string_view word, std::span<const std::string> candidates);
// A command line for people: words with anything unusual in them are quoted as a shell would.
std::string ShellJoin(std::span<const std::string> words);

}  // namespace modal

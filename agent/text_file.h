// Small text files as a whole: configuration, environment, profiles.
//
// Refused, each with its own sentence: what is no regular file (a folder, a pipe, a device), more
// than kLargestTextFile bytes, and bytes that no text holds (then with the line: file:line).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace modal {

inline constexpr size_t kLargestTextFile = size_t{1024} * 1024;

// The content of `path`. Errors start with the path; code() is the errno (ENOENT, EACCES ...).
Result<std::string> ReadTextFile(const std::string& path);

// The same checks on bytes that are in memory already; `name` stands in the error.
Result<void> CheckIsText(std::string_view bytes, const std::string& name);

// Goes through the lines of a text, without their line ends (LF or CR LF) and without a byte order
// mark at the beginning.
class LineReader {
 public:
  explicit LineReader(std::string_view text);
  // The next line, or nothing at the end. number() is its number, from 1.
  std::optional<std::string_view> Next();
  int number() const { return number_; }

 private:
  std::string_view rest_;
  int number_ = 0;
};

}  // namespace modal

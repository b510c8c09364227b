#include "agent/text_columns.h"

#include <algorithm>

#include "agent/base/strings.h"
#include "agent/base/utf8.h"

namespace modal {
namespace {

size_t CountCharacters(std::string_view text) {
  size_t count = 0;
  for (; !text.empty(); ++count) text.remove_prefix(FirstCharacter(text).length);
  return count;
}

std::string_view FirstCharacters(std::string_view text, size_t count) {
  size_t size = 0;
  for (; count > 0 && size < text.size(); --count) size += FirstCharacter(text.substr(size)).length;
  return text.substr(0, size);
}

}  // namespace

void AppendInColumn(std::string& out, size_t used, size_t column, std::string_view text) {
  size_t at = used;
  if (at + 2 > column) {
    out += '\n';
    at = 0;
  }
  out.append(column - at, ' ');
  at = column;
  for (const std::string& word : Split(text, ' ')) {
    if (at > column && at + 1 + word.size() > kTerminalWidth) {
      out += '\n';
      out.append(column, ' ');
      at = column;
    } else if (at > column) {
      out += ' ';
      ++at;
    }
    out += word;
    at += word.size();
  }
  out += '\n';
}

std::string AlignColumns(const std::vector<std::vector<std::string>>& rows) {
  constexpr size_t kGap = 2;
  std::vector<size_t> widths;
  for (const std::vector<std::string>& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], CountCharacters(row[i]));
    }
  }
  std::string out;
  for (const std::vector<std::string>& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      if (i + 1 < row.size()) line.append(widths[i] - CountCharacters(row[i]) + kGap, ' ');
    }
    if (CountCharacters(line) > kTerminalWidth) {
      line = Concat(FirstCharacters(line, kTerminalWidth - 1), "…");
    }
    out += line;
    out += '\n';
  }
  return out;
}

}  // namespace modal

// Lays text out in columns for a terminal of 80 columns. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace modal {

inline constexpr size_t kTerminalWidth = 80;

// Appends `text`, broken between words, from column `column` on, and a newline. The current line is
// `used` wide already; if that leaves no gap of two before the column, the text begins on the next.
void AppendInColumn(std::string& out, size_t used, size_t column, std::string_view text);

// Rows of cells as lines, each column as wide as its widest cell, two blanks between columns. A
// line that is wider than the terminal ends in "…". Cells are UTF-8, one column a character.
std::string AlignColumns(const std::vector<std::vector<std::string>>& rows);

}  // namespace modal

#include "agent/text_columns.h"

#include "agent/base/strings.h"

namespace modal {

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

}  // namespace modal

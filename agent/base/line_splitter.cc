#include "agent/base/line_splitter.h"

#include <algorithm>

namespace modal {

void LineSplitter::Feed(std::string_view bytes) {
  while (!bytes.empty()) {
    const size_t line = std::min(bytes.find('\n'), bytes.size());
    const size_t taken = std::min(line, longest_ - partial_.size());
    partial_ += bytes.substr(0, taken);
    bytes.remove_prefix(taken);
    if (bytes.empty()) return;
    if (bytes.front() == '\n') {
      bytes.remove_prefix(1);
      if (partial_.ends_with('\r')) partial_.pop_back();
    }
    Emit();
  }
}

void LineSplitter::Finish() {
  if (!partial_.empty()) Emit();
}

void LineSplitter::Emit() {
  std::string line;
  line.swap(partial_);
  on_line_(line);
}

}  // namespace modal

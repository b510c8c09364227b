#include "agent/base/check.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace modal {

void CheckFailed(const char* condition, const char* file, int line) {
  char text[512];
  int size = std::snprintf(text, sizeof text, "modal-agent: bug: %s does not hold (%s:%d)\n",
                           condition, file, line);
  if (size > static_cast<int>(sizeof text)) size = sizeof text;
  [[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, text, static_cast<size_t>(size));
  std::abort();
}

}  // namespace modal

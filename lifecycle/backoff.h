// Delays between restarts: each twice the one before, up to a limit; back to the first after
// something has worked for long enough. Pure.
#pragma once

#include <algorithm>
#include <optional>

#include "agent/base/clock.h"

namespace modal::lifecycle {

class Backoff {
 public:
  Backoff(Milliseconds first, Milliseconds longest) : first_(first), longest_(longest) {}

  Milliseconds Next() {
    const Milliseconds delay = next_.value_or(first_);
    next_ = std::min(delay * 2, longest_);
    return delay;
  }
  void Reset() { next_.reset(); }

 private:
  Milliseconds first_;
  Milliseconds longest_;
  std::optional<Milliseconds> next_;
};

}  // namespace modal::lifecycle

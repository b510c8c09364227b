// Runs an event loop until something has come true.
#pragma once

#include <poll.h>
#include <uv.h>

#include <algorithm>
#include <chrono>
#include <functional>

#include "agent/event/loop.h"

namespace modal::test {

// Turns the loop, waiting for its events in between, until `done()`; false if that does not come
// true within half a minute.
inline bool RunUntil(event::Loop& loop, const std::function<bool()>& done) {
  using std::chrono::steady_clock;
  const auto end = steady_clock::now() + std::chrono::seconds(30);
  while (!done()) {
    if (steady_clock::now() > end) return false;
    const int next_timer = uv_backend_timeout(loop.uv());
    pollfd events{uv_backend_fd(loop.uv()), POLLIN, 0};
    ::poll(&events, 1, next_timer < 0 ? 1000 : std::min(next_timer, 1000));
    loop.RunOnce();
  }
  return true;
}

}  // namespace modal::test

// Wakes a loop from another thread.
//
// Wake() may be called from any thread, as long as the Waker lives; `on_wake` runs on the loop,
// once for one or more calls. It keeps no loop alive.
#pragma once

#include <functional>
#include <memory>

#include "agent/event/loop.h"

namespace modal::event {

class Waker {
 public:
  Waker(Loop& loop, std::function<void()> on_wake);
  ~Waker();

  void Wake();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace modal::event

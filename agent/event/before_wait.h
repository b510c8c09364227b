// Runs a function once in every turn of the loop, after all that was ready has been handled and
// before the loop waits. It wakes nobody and keeps no loop alive; for work that can be done once
// for many events. It may destroy the BeforeWait.
#pragma once

#include <functional>
#include <memory>

#include "agent/event/loop.h"

namespace modal::event {

class BeforeWait {
 public:
  BeforeWait(Loop& loop, std::function<void()> run);
  ~BeforeWait();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace modal::event

// Has things done on a loop, from any thread: in the order in which they were posted, each once.
//
// What is still to be done when the TaskQueue is destroyed is dropped. Keeps no loop alive.
#pragma once

#include <functional>
#include <mutex>
#include <vector>

#include "agent/event/loop.h"
#include "agent/event/waker.h"

namespace modal::event {

class TaskQueue {
 public:
  explicit TaskQueue(Loop& loop) : waker_(loop, [this] { Run(); }) {}

  // From any thread.
  void Post(std::function<void()> task);

 private:
  void Run();

  std::mutex mutex_;
  std::vector<std::function<void()>> tasks_;
  Waker waker_;
};

}  // namespace modal::event

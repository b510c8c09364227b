// Watches one descriptor (which it does not own, and which outlives it) for readiness.
//
// `on_ready` runs on the loop each time the descriptor is ready for something that is being waited
// for; level-triggered. It may destroy the Poller. Errors and hang-ups are reported as readable and
// writable: the read or write that follows says what it was. Regular files cannot be watched
// (epoll_ctl(2): EPERM); Watch() then returns an error.
#pragma once

#include <functional>
#include <memory>

#include "agent/base/result.h"
#include "agent/event/loop.h"

namespace modal::event {

class Poller {
 public:
  struct Ready {
    bool readable;
    bool writable;
  };

  static Result<std::unique_ptr<Poller>> Watch(Loop& loop, int fd,
                                               std::function<void(Ready)> on_ready);
  ~Poller();

  // What to wait for from now on; nothing at all is fine and costs nothing.
  void WaitFor(bool readable, bool writable);

 private:
  struct Impl;
  explicit Poller(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace modal::event

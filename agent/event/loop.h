// The event loop: one libuv loop, one thread. The rest of agent/event hangs its handles here; all
// of uv.h stays inside this folder.
//
// Everything on the loop is destroyed before the Loop. The destructor runs the close callbacks of
// handles that were closed last, so nothing leaks.
#pragma once

#include <memory>

#include "agent/base/result.h"

typedef struct uv_loop_s uv_loop_t;

namespace modal::event {

class Loop {
 public:
  // For those who can do without an error. Create() says why there is no loop: the limit of
  // descriptors, which libuv itself would meet with abort().
  Loop();
  static Result<std::unique_ptr<Loop>> Create();
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Until Stop() is called, or nothing is left to wait for.
  void Run();
  void Stop();
  // Takes what is ready now and returns.
  void RunOnce();

  uv_loop_t* uv() { return loop_; }

 private:
  uv_loop_t* loop_;
};

}  // namespace modal::event

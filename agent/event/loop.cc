#include "agent/event/loop.h"

#include <uv.h>

#include "agent/base/check.h"

namespace modal::event {

Loop::Loop() : loop_(new uv_loop_t) { MODAL_CHECK(uv_loop_init(loop_) == 0); }

Loop::~Loop() {
  while (uv_run(loop_, UV_RUN_NOWAIT) != 0) {
  }
  MODAL_CHECK(uv_loop_close(loop_) == 0);
  delete loop_;
}

void Loop::Run() { uv_run(loop_, UV_RUN_DEFAULT); }

void Loop::Stop() { uv_stop(loop_); }

void Loop::RunOnce() { uv_run(loop_, UV_RUN_NOWAIT); }

}  // namespace modal::event

#include "agent/event/loop.h"

#include <sys/epoll.h>
#include <uv.h>

#include <cerrno>
#include <vector>

#include "agent/base/check.h"
#include "agent/base/unique_fd.h"

namespace modal::event {

Loop::Loop() : loop_(new uv_loop_t) { MODAL_CHECK(uv_loop_init(loop_) == 0); }

Result<std::unique_ptr<Loop>> Loop::Create() {
  // epoll, an eventfd and two signal pipes, and as many again for what will hang on the loop.
  constexpr size_t kNeeded = 12;
  std::vector<UniqueFd> free;
  while (free.size() < kNeeded) {
    UniqueFd fd(::epoll_create1(EPOLL_CLOEXEC));
    if (!fd) {
      return Error::FromErrno("event loop", errno)
          .While("cannot run with so few file descriptors (ulimit -n); allow 32 or more");
    }
    free.push_back(std::move(fd));
  }
  free.clear();
  return std::make_unique<Loop>();
}

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

#include "agent/event/uv_clock.h"

#include <algorithm>

#include "agent/event/handle.h"

namespace modal::event {
namespace {

class UvTimer : public Timer {
 public:
  UvTimer(uv_loop_t* loop, Milliseconds delay, std::function<void()> expired)
      : handle_(new uv_timer_t), expired_(std::move(expired)) {
    uv_timer_init(loop, handle_.get());
    handle_->data = this;
    // The loop's idea of now is the time of its last wake-up; the delay counts from here.
    uv_update_time(loop);
    uv_timer_start(handle_.get(), OnTimer,
                   static_cast<uint64_t>(std::max<int64_t>(0, delay.count())), 0);
  }

 private:
  static void OnTimer(uv_timer_t* handle) {
    // The callback may destroy this timer, and with it the function that is running.
    const std::function<void()> expired = std::move(static_cast<UvTimer*>(handle->data)->expired_);
    expired();
  }

  HandlePtr<uv_timer_t> handle_;
  std::function<void()> expired_;
};

}  // namespace

std::unique_ptr<Timer> UvClock::After(Milliseconds delay, std::function<void()> expired) {
  return std::make_unique<UvTimer>(loop_.uv(), delay, std::move(expired));
}

}  // namespace modal::event

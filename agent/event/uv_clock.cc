#include "agent/event/uv_clock.h"

#include <map>
#include <utility>

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
    uv_timer_start(handle_.get(), OnTimer, static_cast<uint64_t>(delay.count()), 0);
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

// What has no delay. libuv would run a timer of 0 ms that a timer sets in the same turn again, and
// so on, and nothing else would ever get its turn.
class UvClock::NextTurn {
 public:
  explicit NextTurn(uv_loop_t* loop) : handle_(new uv_idle_t) {
    uv_idle_init(loop, handle_.get());
    handle_->data = this;
  }

  std::unique_ptr<Timer> Add(std::function<void()> expired) {
    waiting_.emplace(++last_id_, std::move(expired));
    uv_idle_start(handle_.get(),
                  [](uv_idle_t* handle) { static_cast<NextTurn*>(handle->data)->Run(); });
    return std::make_unique<Place>(*this, last_id_);
  }

 private:
  class Place : public Timer {
   public:
    Place(NextTurn& turn, uint64_t id) : turn_(turn), id_(id) {}
    ~Place() override { turn_.Remove(id_); }

   private:
    NextTurn& turn_;
    uint64_t id_;
  };

  void Run() {
    const uint64_t last = last_id_;
    while (!waiting_.empty() && waiting_.begin()->first <= last) {
      // The callback may destroy its timer, and with it the function that is running.
      const auto expired = waiting_.extract(waiting_.begin());
      expired.mapped()();
    }
    StopIfIdle();
  }
  void Remove(uint64_t id) {
    waiting_.erase(id);
    StopIfIdle();
  }
  void StopIfIdle() {
    if (waiting_.empty()) uv_idle_stop(handle_.get());
  }

  HandlePtr<uv_idle_t> handle_;
  uint64_t last_id_ = 0;
  std::map<uint64_t, std::function<void()>> waiting_;
};

UvClock::UvClock(Loop& loop) : loop_(loop), next_turn_(std::make_unique<NextTurn>(loop.uv())) {}

UvClock::~UvClock() = default;

std::unique_ptr<Timer> UvClock::After(Milliseconds delay, std::function<void()> expired) {
  if (delay.count() <= 0) return next_turn_->Add(std::move(expired));
  return std::make_unique<UvTimer>(loop_.uv(), delay, std::move(expired));
}

}  // namespace modal::event

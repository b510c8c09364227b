// A Clock that stands still until Advance() moves it. Timers fire inside Advance(), in the order of
// their times, each seeing Now() at its own time; a timer set by a callback fires too if it is due.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <utility>

#include "agent/base/clock.h"

namespace modal::test {

class FakeClock : public Clock {
 public:
  TimePoint Now() const override { return now_; }

  std::unique_ptr<Timer> After(Milliseconds delay, std::function<void()> expired) override {
    const uint64_t id = ++last_id_;
    pending_.push_back({now_ + delay, id, std::move(expired)});
    return std::make_unique<Handle>(*this, id);
  }

  void Advance(Milliseconds by) {
    const TimePoint end = now_ + by;
    for (;;) {
      auto next = std::min_element(pending_.begin(), pending_.end(), Earlier);
      if (next == pending_.end() || next->due > end) break;
      now_ = std::max(now_, next->due);
      const std::function<void()> expired = std::move(next->expired);
      pending_.erase(next);
      expired();
    }
    now_ = end;
  }
  // Runs what is due now (zero delays).
  void Turn() { Advance(Milliseconds(0)); }
  size_t pending() const { return pending_.size(); }

 private:
  struct Pending {
    TimePoint due;
    uint64_t id;
    std::function<void()> expired;
  };
  static bool Earlier(const Pending& a, const Pending& b) {
    return std::pair(a.due, a.id) < std::pair(b.due, b.id);
  }

  class Handle : public Timer {
   public:
    Handle(FakeClock& clock, uint64_t id) : clock_(clock), id_(id) {}
    ~Handle() override {
      clock_.pending_.remove_if([this](const Pending& pending) { return pending.id == id_; });
    }

   private:
    FakeClock& clock_;
    uint64_t id_;
  };

  TimePoint now_{};
  uint64_t last_id_ = 0;
  std::list<Pending> pending_;
};

}  // namespace modal::test

// --max-concurrency: so many requests may be with the server at a time, so many more may wait for a
// place, and the rest are refused. Places are shared by all threads, without locks.
//
//   Places      the count, one for all threads
//   Admission   one thread's door to it, with the queue of those who wait on this thread
//   Waiter      one who waits; a member of whatever it is that waits
//
// A thread does this:
//
//   switch (admission.Arrive(waiter, now)) {
//     kEntered: ... and later Leave(), exactly once
//     kWaiting: ... until NextTurn() hands it out, or Abandon() (its time is up, its client left)
//     kFull:    503
//   }
//
// and after each Leave() and Abandon(), and whenever another thread has woken it, gives away what
// is free:
//
//   while (true) {
//     Turn turn = admission.NextTurn();
//     if (turn.entered) { ... the first of the queue has a place now; continue; }
//     if (turn.wake) ... make that thread come here too (uv_async_send, eventfd)
//     break;
//   }
//
// Who waits is served in the order of arrival, over all threads (to kPatience, see there), and
// nobody who comes later gets in before. No place stays free while somebody waits: both numbers are
// in one atomic word; that a place is free and somebody waits begins only with a Leave() or an
// Abandon() [or SetLimits()]; its thread goes through NextTurn(), and NextTurn() ends only when the
// word says that this is over, or has made a thread with a waiter come to do the same.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

#include "agent/base/clock.h"

namespace modal::policy {

// A thread that has a waiter of its own wakes another one only for a waiter that came earlier by
// more than this: a place changes threads now and then, not each time.
inline constexpr std::chrono::nanoseconds kPatience = std::chrono::milliseconds(1);

class Places {
 public:
  // `max_concurrency` 0: without limit, but counted. `threads`: how many Admissions there can be.
  Places(uint32_t max_concurrency, uint32_t queue, uint32_t threads);

  // After this every thread has to go through NextTurn(), as if woken.
  void SetLimits(uint32_t max_concurrency, uint32_t queue);

  uint32_t in_flight() const;
  uint32_t waiting() const;

 private:
  friend class Admission;

  // When the first of a thread's queue came, in nanoseconds; 0: nobody waits there. Written by its
  // thread alone: before its waiter is counted in `word_`, and after it no longer is.
  struct alignas(64) Front {
    std::atomic<int64_t> since{0};
  };

  // The thread whose first has waited longest (`thread` itself unless another's has for longer by
  // kPatience); nothing if nobody seems to wait.
  std::optional<uint32_t> LongestWaiting(uint32_t thread) const;

  // In flight in the lower half, waiting in the upper.
  alignas(64) std::atomic<uint64_t> word_{0};
  alignas(64) std::atomic<uint64_t> limits_;  // max_concurrency and queue, likewise
  uint32_t threads_;
  std::unique_ptr<Front[]> fronts_;
};

class Waiter {
 public:
  // `its_owner`: whatever it is that waits, for whoever gets to see only the Waiter.
  explicit Waiter(void* its_owner = nullptr) : owner(its_owner) {}
  ~Waiter();  // does not wait any more
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;

  bool waits() const { return waits_; }
  Clock::TimePoint since() const { return since_; }

  void* const owner;

 private:
  friend class Admission;

  Waiter* next_ = nullptr;
  Waiter* previous_ = nullptr;
  Clock::TimePoint since_;
  bool waits_ = false;
};

// Belongs to one thread, as do its waiters.
class Admission {
 public:
  enum class Entry { kEntered, kWaiting, kFull };
  struct Turn {
    Waiter* entered = nullptr;     // has a place now, and waits no more
    std::optional<uint32_t> wake;  // the number of another thread
  };

  // `thread`: its number, below the Places' `threads`. The Places must outlive this.
  Admission(Places& places, uint32_t thread);
  ~Admission();  // nobody waits any more

  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;

  Entry Arrive(Waiter& waiter, Clock::TimePoint now);
  void Leave();
  // Nothing happens if it does not wait.
  void Abandon(Waiter& waiter);
  [[nodiscard]] Turn NextTurn();

  // Who has waited longest here, or null: its deadline is the next one.
  Waiter* first() const { return first_; }

 private:
  void Append(Waiter& waiter, Clock::TimePoint now);
  void Remove(Waiter& waiter);
  void TellFront();

  Places& places_;
  const uint32_t thread_;
  Waiter* first_ = nullptr;
  Waiter* last_ = nullptr;
};

}  // namespace modal::policy

#include "agent/policy/admission.h"

#include <algorithm>
#include <limits>

#include "agent/base/check.h"

namespace modal::policy {
namespace {

constexpr uint32_t kUnlimited = std::numeric_limits<uint32_t>::max();
constexpr uint64_t kOneInFlight = 1;
constexpr uint64_t kOneWaiting = uint64_t{1} << 32;

uint64_t Pack(uint32_t low, uint32_t high) { return uint64_t{high} << 32 | low; }
uint32_t Low(uint64_t word) { return static_cast<uint32_t>(word); }
uint32_t High(uint64_t word) { return static_cast<uint32_t>(word >> 32); }

uint64_t PackLimits(uint32_t max_concurrency, uint32_t queue) {
  return Pack(max_concurrency == 0 ? kUnlimited : max_concurrency, queue);
}

// All of them need a place.
uint64_t Total(uint64_t word) { return uint64_t{Low(word)} + High(word); }

}  // namespace

Places::Places(uint32_t max_concurrency, uint32_t queue, uint32_t threads)
    : limits_(PackLimits(max_concurrency, queue)),
      threads_(threads),
      fronts_(std::make_unique<Front[]>(threads)) {}

void Places::SetLimits(uint32_t max_concurrency, uint32_t queue) {
  limits_.store(PackLimits(max_concurrency, queue), std::memory_order_release);
}

uint32_t Places::in_flight() const { return Low(word_.load(std::memory_order_relaxed)); }
uint32_t Places::waiting() const { return High(word_.load(std::memory_order_relaxed)); }

std::optional<uint32_t> Places::LongestWaiting(uint32_t thread) const {
  std::optional<uint32_t> longest;
  int64_t best = std::numeric_limits<int64_t>::max();
  if (const int64_t own = fronts_[thread].since.load(std::memory_order_relaxed); own != 0) {
    longest = thread;
    best = own - kPatience.count();
  }
  for (uint32_t other = 0; other < threads_; ++other) {
    const int64_t since = fronts_[other].since.load(std::memory_order_acquire);
    if (other == thread || since == 0 || since >= best) continue;
    longest = other;
    best = since;
  }
  return longest;
}

Waiter::~Waiter() { MODAL_CHECK(!waits_); }

Admission::Admission(Places& places, uint32_t thread) : places_(places), thread_(thread) {
  MODAL_CHECK(thread < places.threads_);
}

Admission::~Admission() { MODAL_CHECK(!first_); }

Admission::Entry Admission::Arrive(Waiter& waiter, Clock::TimePoint now) {
  MODAL_CHECK(!waiter.waits_);
  const uint64_t limits = places_.limits_.load(std::memory_order_acquire);
  if (Low(limits) == kUnlimited && !first_) {
    places_.word_.fetch_add(kOneInFlight, std::memory_order_acq_rel);
    return Entry::kEntered;
  }
  const uint64_t most = uint64_t{Low(limits)} + High(limits);
  uint64_t word = places_.word_.load(std::memory_order_acquire);
  while (true) {
    // Free places are for those who wait already.
    const bool enters = Total(word) < Low(limits);
    if (!enters && Total(word) >= most) {
      if (waiter.waits_) Remove(waiter);
      return Entry::kFull;
    }
    // Shown in front first, counted then: whoever sees the count finds the waiter.
    if (!enters && !waiter.waits_) Append(waiter, now);
    if (places_.word_.compare_exchange_weak(word, word + (enters ? kOneInFlight : kOneWaiting),
                                            std::memory_order_acq_rel, std::memory_order_acquire)) {
      if (!enters) return Entry::kWaiting;
      if (waiter.waits_) Remove(waiter);
      return Entry::kEntered;
    }
  }
}

void Admission::Leave() {
  const uint64_t before = places_.word_.fetch_sub(kOneInFlight, std::memory_order_acq_rel);
  MODAL_CHECK(Low(before) > 0);
}

void Admission::Abandon(Waiter& waiter) {
  if (!waiter.waits_) return;
  // Counted off first, and hidden then.
  places_.word_.fetch_sub(kOneWaiting, std::memory_order_acq_rel);
  Remove(waiter);
}

Admission::Turn Admission::NextTurn() {
  uint64_t word = places_.word_.load(std::memory_order_acquire);
  while (High(word) > 0) {
    const uint64_t limits = places_.limits_.load(std::memory_order_acquire);
    if (Low(word) >= Low(limits)) break;
    const std::optional<uint32_t> longest = places_.LongestWaiting(thread_);
    if (longest && *longest != thread_) return {nullptr, longest};
    if (!longest) {
      // Whoever was counted has gone while we looked: look again.
      word = places_.word_.load(std::memory_order_acquire);
      continue;
    }
    if (places_.word_.compare_exchange_weak(word, word - kOneWaiting + kOneInFlight,
                                            std::memory_order_acq_rel, std::memory_order_acquire)) {
      Waiter* const entered = first_;
      Remove(*entered);
      return {entered, std::nullopt};
    }
  }
  return {};
}

void Admission::Append(Waiter& waiter, Clock::TimePoint now) {
  waiter.waits_ = true;
  waiter.since_ = now;
  waiter.next_ = nullptr;
  waiter.previous_ = last_;
  (last_ ? last_->next_ : first_) = &waiter;
  last_ = &waiter;
  if (first_ == &waiter) TellFront();
}

void Admission::Remove(Waiter& waiter) {
  const bool was_first = first_ == &waiter;
  (waiter.previous_ ? waiter.previous_->next_ : first_) = waiter.next_;
  (waiter.next_ ? waiter.next_->previous_ : last_) = waiter.previous_;
  waiter.next_ = waiter.previous_ = nullptr;
  waiter.waits_ = false;
  if (was_first) TellFront();
}

void Admission::TellFront() {
  int64_t since = 0;
  if (first_) {
    since = std::chrono::duration_cast<std::chrono::nanoseconds>(first_->since_.time_since_epoch())
                .count();
    since = std::max<int64_t>(since, 1);  // 0 says that nobody waits
  }
  places_.fronts_[thread_].since.store(since, std::memory_order_release);
}

}  // namespace modal::policy

#include "agent/http/deadlines.h"

namespace modal::http {

Deadlines::Deadlines(Clock& clock, const std::vector<Milliseconds>& durations) : clock_(clock) {
  for (const Milliseconds duration : durations) lists_.push_back({duration});
}

void Deadlines::Set(Entry& entry, size_t kind) {
  Unlink(entry);
  List& list = lists_[kind];
  entry.kind_ = kind;
  entry.since_ = clock_.Now();
  entry.before_ = list.last;
  (list.last != nullptr ? list.last->after_ : list.first) = &entry;
  list.last = &entry;
  if (list.duration.count() > 0) {
    ++waiting_;
    Arm(entry.since_ + list.duration);
  }
  if (waiting_ == 0) timer_.reset();
}

void Deadlines::Clear(Entry& entry) {
  Unlink(entry);
  if (waiting_ == 0) timer_.reset();
}

void Deadlines::SetDuration(size_t kind, Milliseconds duration) {
  List& list = lists_[kind];
  if (list.duration == duration) return;
  size_t count = 0;
  for (const Entry* entry = list.first; entry != nullptr; entry = entry->after_) ++count;
  if (list.duration.count() > 0) waiting_ -= count;
  list.duration = duration;
  if (duration.count() > 0) {
    waiting_ += count;
    if (list.first != nullptr) Arm(list.first->since_ + duration);
  }
  if (waiting_ == 0) timer_.reset();
}

Deadlines::Entry* Deadlines::Oldest(size_t kind, Milliseconds at_least) const {
  Entry* entry = lists_[kind].first;
  if (entry == nullptr || clock_.Now() - entry->since_ < at_least) return nullptr;
  return entry;
}

void Deadlines::Unlink(Entry& entry) {
  if (!entry.kind_) return;
  List& list = lists_[*entry.kind_];
  (entry.before_ != nullptr ? entry.before_->after_ : list.first) = entry.after_;
  (entry.after_ != nullptr ? entry.after_->before_ : list.last) = entry.before_;
  entry.before_ = entry.after_ = nullptr;
  entry.kind_.reset();
  if (list.duration.count() > 0) --waiting_;
}

void Deadlines::Arm(Clock::TimePoint due) {
  if (timer_ && armed_for_ <= due) return;
  armed_for_ = due;
  // Rounded up: a timer that fires a little early would have to be set again.
  const auto delay = std::chrono::ceil<Milliseconds>(due - clock_.Now());
  timer_ = clock_.After(delay, [this] { OnTimer(); });
}

void Deadlines::OnTimer() {
  timer_.reset();
  const Clock::TimePoint now = clock_.Now();
  for (size_t kind = 0; kind < lists_.size(); ++kind) {
    List& list = lists_[kind];
    if (list.duration.count() == 0) continue;
    while (list.first != nullptr && list.first->since_ + list.duration <= now) {
      Entry& entry = *list.first;
      Unlink(entry);
      entry.OnDeadline(kind);
    }
  }
  for (const List& list : lists_) {
    if (list.duration.count() > 0 && list.first != nullptr) {
      Arm(list.first->since_ + list.duration);
    }
  }
  if (waiting_ == 0) timer_.reset();
}

}  // namespace modal::http

// The deadlines of thousands of connections, with one timer at most and none while nobody waits.
//
// Each Entry waits for at most one thing at a time, out of a few kinds, and each kind always takes
// the same time: so every kind is a list in order of deadline, and setting, moving and clearing are
// a few pointers. The timer is set to the earliest deadline and left alone when that moves away; it
// then fires once for nothing.
//
// OnDeadline() runs from the loop and may set and clear any entries, this one included; it must not
// destroy them. The Clock outlives the Deadlines, and they outlive the entries that are set.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "agent/base/clock.h"

namespace modal::http {

class Deadlines {
 public:
  class Entry {
   public:
    Entry() = default;
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

   protected:
    virtual ~Entry() = default;
    virtual void OnDeadline(size_t kind) = 0;

   private:
    friend class Deadlines;
    Entry* before_ = nullptr;
    Entry* after_ = nullptr;
    std::optional<size_t> kind_;
    Clock::TimePoint since_;
  };

  // One duration for each kind: 0, 1, 2 ...; zero means never.
  Deadlines(Clock& clock, const std::vector<Milliseconds>& durations);

  // `entry` starts to wait now, for this and nothing else.
  void Set(Entry& entry, size_t kind);
  void Clear(Entry& entry);
  // From now on, those that are waiting already included.
  void SetDuration(size_t kind, Milliseconds duration);
  static std::optional<size_t> KindOf(const Entry& entry) { return entry.kind_; }

  // The entry that has been waiting longest for this kind of thing, if any has, for `at_least` that
  // long.
  Entry* Oldest(size_t kind, Milliseconds at_least = Milliseconds(0)) const;

 private:
  struct List {
    Milliseconds duration;
    Entry* first = nullptr;
    Entry* last = nullptr;
  };

  void Unlink(Entry& entry);
  void Arm(Clock::TimePoint due);
  void OnTimer();

  Clock& clock_;
  std::vector<List> lists_;
  size_t waiting_ = 0;  // entries in lists that have a deadline
  Clock::TimePoint armed_for_{};
  std::unique_ptr<Timer> timer_;
};

}  // namespace modal::http

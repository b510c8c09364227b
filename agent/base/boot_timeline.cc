#include "agent/base/boot_timeline.h"

#include <algorithm>

namespace modal {
namespace {

constexpr std::array<std::string_view, kBootStepCount> kNames{
    "hooks",          "exec",           "port",
    "restore",        "restore.start",  "restore.identity",
    "restore.find",   "restore.pids",   "restore.files",
    "restore.criu",   "restore.images", "restore.memory",
    "restore.resume", "dump",           "dump.warmup",
    "dump.quiesce",   "dump.criu",      "dump.frozen",
    "dump.written",   "late_hooks",     "serving",
};
static_assert(static_cast<size_t>(BootStep::kServing) + 1 == kBootStepCount);

// "restore" of "restore.memory"; empty: it is no part of any.
std::string_view StepOfPart(BootStep part) {
  const std::string_view name = BootStepName(part);
  const size_t dot = name.find('.');
  return dot == std::string_view::npos ? std::string_view() : name.substr(0, dot);
}

}  // namespace

std::string_view BootStepName(BootStep step) {
  const auto number = static_cast<size_t>(step);
  return number < kNames.size() ? kNames[number] : "unknown";
}

// Another process may have written the count, on a board.
std::span<const BootSpan> BootTimeline::spans() const {
  return std::span(spans_).first(std::min<size_t>(count_, kMost));
}

BootSpan* BootTimeline::Current() {
  const auto end = spans_.begin() + count_;
  const auto open =
      std::find_if(spans_.begin(), end, [](const BootSpan& s) { return s.end_us < 0; });
  return open == end ? nullptr : &*open;
}

void BootTimeline::Insert(const BootSpan& span) {
  const size_t room = span.step == BootStep::kServing ? kMost : kMost - 1;
  if (count_ >= room) return;
  const auto end = spans_.begin() + count_;
  const auto place = std::upper_bound(
      spans_.begin(), end, span.begin_us,
      [](int64_t begin_us, const BootSpan& other) { return begin_us < other.begin_us; });
  std::move_backward(place, end, end + 1);
  *place = span;
  ++count_;
}

void BootTimeline::Enter(BootStep step, int64_t now_us) {
  End(now_us);
  const auto all = spans();
  const bool is_over = std::any_of(
      all.begin(), all.end(), [](const BootSpan& span) { return span.step == BootStep::kServing; });
  if (!is_over) Insert({step, 0, now_us, -1});
}

void BootTimeline::End(int64_t now_us) {
  if (BootSpan* current = Current()) current->end_us = std::max(now_us, current->begin_us);
}

void BootTimeline::Fail() {
  if (BootSpan* current = Current()) current->failed = 1;
}

void BootTimeline::Add(const BootSpan& part, int64_t now_us) {
  const std::string_view step = StepOfPart(part.step);
  if (step.empty()) return;
  BootSpan kept = part;
  kept.failed = part.failed != 0 ? 1 : 0;
  kept.begin_us = std::clamp<int64_t>(part.begin_us, 0, now_us);
  kept.end_us = std::clamp<int64_t>(part.end_us, kept.begin_us, now_us);
  BootSpan* current = Current();
  if (kept.failed && current && BootStepName(current->step) == step) current->failed = 1;
  Insert(kept);
}

}  // namespace modal

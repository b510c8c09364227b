#include "agent/event/log_pump.h"

#include <algorithm>

namespace modal::event {
namespace {

constexpr Milliseconds kFirstRetry{10};
constexpr Milliseconds kLongestRetry{500};

}  // namespace

void LogPump::Write(std::string_view line) {
  sink_.Write(line);
  if (sink_.pending() && !retry_) {
    delay_ = kFirstRetry;
    RetryLater();
  }
}

void LogPump::RetryLater() {
  retry_ = clock_.After(delay_, [this] { Retry(); });
}

void LogPump::Retry() {
  sink_.Flush();
  if (sink_.pending()) {
    delay_ = std::min(delay_ * 2, kLongestRetry);
    return RetryLater();
  }
  retry_.reset();
  ReportLost();
}

void LogPump::ReportLost() {
  const uint64_t lost = sink_.lost_lines() - reported_;
  if (lost == 0 || !log_) return;
  reported_ = sink_.lost_lines();
  log_->Warn("log.lost", {{"message", "the reader of the log was too slow"}, {"lines", lost}});
}

}  // namespace modal::event

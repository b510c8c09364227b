// Empties a DescriptorSink whose reader was slow, and reports in the log itself what was lost.
//
// Wakes up only while something is kept: the descriptor is shared with the workload, so it cannot
// be watched (libuv would make it non-blocking for everybody); it is tried again, ever less often.
#pragma once

#include <memory>

#include "agent/base/clock.h"
#include "agent/base/descriptor_sink.h"
#include "agent/base/log.h"

namespace modal::event {

// The sink that the log writes to: hands lines on, and looks after them.
class LogPump : public LogSink {
 public:
  // All outlive the pump. `log` is the one that writes here.
  LogPump(Clock& clock, DescriptorSink& sink) : clock_(clock), sink_(sink) {}

  void Write(std::string_view line) override;
  void set_log(Log* log) { log_ = log; }

 private:
  void RetryLater();
  void Retry();
  void ReportLost();

  Clock& clock_;
  DescriptorSink& sink_;
  Log* log_ = nullptr;
  uint64_t reported_ = 0;
  Milliseconds delay_{};
  std::unique_ptr<Timer> retry_;
};

}  // namespace modal::event

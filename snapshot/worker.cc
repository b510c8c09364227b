#include "snapshot/worker.h"

#include <chrono>
#include <utility>

#include "agent/base/status_board.h"

namespace modal::snapshot {
namespace {

// As the supervisor's clock.
int64_t SteadyUs() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<Microseconds>(now).count();
}

}  // namespace

void Worker::Do(const Job& job) {
  const bool restores = job.kind == JobKind::kRestore;
  const Result<void> done = restores ? Restore(job) : Dump(job);
  if (!done) {
    StepFailed();
    WorkerReport report = NewReport(WorkerReport::Kind::kFailed);
    report.value = !restores && criu_.HasLeftTreeSuspect() ? 1 : 0;
    SetBoardText(report.reason, done.error().message());
    Tell(report);
  }
  // Whoever is told to begin is there to hear it.
  if (restores) (void)AwaitBegin();
}

void Worker::Nothing(std::string_view reason, bool has_snapshot) {
  WorkerReport report = NewReport(WorkerReport::Kind::kNothing);
  report.value = has_snapshot ? 1 : 0;
  SetBoardText(report.reason, reason);
  Tell(report);
}

void Worker::Enter(BootStep step) { steps_.Enter(step, SteadyUs()); }

void Worker::StepFailed() {
  steps_.Fail();
  steps_.End(SteadyUs());
}

void Worker::Tell(WorkerReport report) {
  steps_.End(SteadyUs());
  report.steps = std::exchange(steps_, BootTimeline());
  channel_.Report(report);
}

}  // namespace modal::snapshot

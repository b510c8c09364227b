#include "lifecycle/workload_end.h"

#include <signal.h>

#include <utility>

namespace modal::lifecycle {
namespace {

// What ends need not be our child, so its end may bring no SIGCHLD.
constexpr Milliseconds kLookAgain{50};

}  // namespace

WorkloadEnd::WorkloadEnd(Clock& clock, ProcessTree& tree, std::vector<pid_t> hook_sessions,
                         int stop_signal, Milliseconds timeout, std::function<void()> on_ended)
    : clock_(clock),
      tree_(tree),
      hook_sessions_(std::move(hook_sessions)),
      on_ended_(std::move(on_ended)) {
  tree_.SignalOutside(hook_sessions_, stop_signal);
  timeout_ = clock_.After(timeout, [this] {
    killing_ = true;
    Check();
  });
  check_ = clock_.After(Milliseconds(0), [this] { Check(); });
}

void WorkloadEnd::Check() {
  if (!on_ended_) return;
  if (tree_.AnythingLeftOutside(hook_sessions_)) {
    // A fork can outrun a signal that is sent process by process: again each time.
    if (killing_) tree_.SignalOutside(hook_sessions_, SIGKILL);
    check_ = clock_.After(kLookAgain, [this] { Check(); });
    return;
  }
  timeout_.reset();
  const auto on_ended = std::move(on_ended_);
  on_ended_ = nullptr;
  check_ = clock_.After(Milliseconds(0), on_ended);
}

}  // namespace modal::lifecycle

#include "lifecycle/session_end.h"

#include <signal.h>

namespace modal::lifecycle {
namespace {

// The last process of a session need not be our child, so its end may bring no SIGCHLD.
constexpr Milliseconds kLookAgain{50};

}  // namespace

SessionEnd::SessionEnd(Clock& clock, ProcessTree& tree, pid_t session, int stop_signal,
                       Milliseconds timeout, std::function<void()> on_ended)
    : clock_(clock), tree_(tree), session_(session), on_ended_(std::move(on_ended)) {
  tree_.SignalSession(session_, stop_signal);
  timeout_ = clock_.After(timeout, [this] {
    killing_ = true;
    Check();
  });
  check_ = clock_.After(Milliseconds(0), [this] { Check(); });
}

void SessionEnd::Check() {
  if (!on_ended_) return;
  if (!tree_.SessionIsEmpty(session_)) {
    // A fork can outrun a signal that is sent process by process: again each time.
    if (killing_) tree_.SignalSession(session_, SIGKILL);
    check_ = clock_.After(kLookAgain, [this] { Check(); });
    return;
  }
  timeout_.reset();
  const auto on_ended = std::move(on_ended_);
  on_ended_ = nullptr;
  check_ = clock_.After(Milliseconds(0), on_ended);
}

}  // namespace modal::lifecycle

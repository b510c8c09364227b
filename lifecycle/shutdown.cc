#include "lifecycle/shutdown.h"

#include <signal.h>

#include <algorithm>

#include "agent/base/exit_status.h"
#include "agent/base/strings.h"

namespace modal::lifecycle {
namespace {

// How long newcomers may live before they are told to end, when something has just ended; bounds
// the looks through /proc while thousands of processes go.
constexpr Milliseconds kSweepPause{20};
// And when nothing ends: a wrapper reaps its server itself and starts it anew.
constexpr Milliseconds kLongestSweepPause{320};
// A subreaper kills by pid, which a fork can outrun: it looks again.
constexpr Milliseconds kKillPause{10};
// What SIGKILL has not ended by then waits inside the kernel (a dead disk or network mount).
constexpr Milliseconds kGiveUp{5000};

}  // namespace

Shutdown::Shutdown(Clock& clock, Log& log, ProcessTree& tree, HookRunner* exit_handlers,
                   Options options, std::function<void()> on_gone)
    : clock_(clock),
      log_(log),
      tree_(tree),
      exit_handlers_(exit_handlers),
      options_(std::move(options)),
      on_gone_(std::move(on_gone)) {}

void Shutdown::Begin() {
  timeout_ = clock_.After(options_.timeout, [this] {
    KillNow(Concat("still running after ", options_.timeout.count(), " ms"));
  });
  if (HasOwnSignal()) tree_.SpareSession(options_.workload_session);
  Sweep();
  if (exit_handlers_) {
    handlers_running_ = true;
    exit_handlers_->Run();
  }
  Check();
}

bool Shutdown::HasOwnSignal() const {
  return options_.workload_session != 0 && options_.stop_signal != SIGTERM;
}

void Shutdown::Sweep() {
  if (exit_handlers_) {
    for (const pid_t session : exit_handlers_->sessions()) tree_.SpareSession(session);
  }
  size_t told = tree_.SignalAll(SIGTERM);
  if (HasOwnSignal()) {
    told += tree_.SignalSessionOnce(options_.workload_session, options_.stop_signal);
  }
  if (told > 0) log_.Info("stop.term", {{"processes", told}});
}

void Shutdown::SweepSoon() {
  if (killing_ || (sweep_ && sweep_pause_ == kSweepPause)) return;
  SweepAfter(kSweepPause);
}

void Shutdown::SweepAfter(Milliseconds pause) {
  sweep_pause_ = pause;
  sweep_ = clock_.After(pause, [this] {
    SweepAfter(std::min(sweep_pause_ * 2, kLongestSweepPause));
    Sweep();
  });
}

void Shutdown::ExitHandlersDone() {
  handlers_running_ = false;
  // What they left behind is to end like everything else.
  for (const pid_t session : exit_handlers_->sessions()) tree_.UnspareSession(session);
  exit_handlers_ = nullptr;
  if (!killing_) Sweep();
  Check();
}

void Shutdown::ChildrenCollected() { Check(); }

void Shutdown::Check() {
  if (!on_gone_) return;
  if (handlers_running_) return SweepSoon();
  if (tree_.AnythingLeft()) return SweepSoon();
  Finish();
}

void Shutdown::Finish() {
  timeout_.reset();
  sweep_.reset();
  kill_again_.reset();
  const auto on_gone = std::move(on_gone_);
  on_gone_ = nullptr;
  turn_ = clock_.After(Milliseconds(0), on_gone);
}

void Shutdown::KillNow(const std::string& why) {
  if (killing_ || !on_gone_) return;
  killing_ = true;
  killing_since_ = clock_.Now();
  timeout_.reset();
  sweep_.reset();
  log_.Warn("stop.kill", {{"message", "killing what is left: " + why}});
  if (exit_handlers_) exit_handlers_->Cancel();
  handlers_running_ = false;
  if (options_.before_kill) options_.before_kill();
  KillAgain();
}

void Shutdown::KillAgain() {
  tree_.KillAll();
  Check();
  if (!on_gone_) return;
  if (clock_.Now() - killing_since_ < kGiveUp) {
    kill_again_ = clock_.After(kKillPause, [this] { KillAgain(); });
    return;
  }
  log_.Error("stop.gave_up", {{"message",
                               "some process does not die of SIGKILL (it hangs in the "
                               "kernel); ending without it"}});
  Finish();
}

}  // namespace modal::lifecycle

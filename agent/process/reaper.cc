#include "agent/process/reaper.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "agent/base/check.h"
#include "agent/process/process_table.h"

namespace modal::process {
namespace {

// The next child that has ended, left as a zombie; pid 0 if there is none.
siginfo_t NextZombie() {
  siginfo_t ended{};
  while (::waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) != 0) {
    if (errno == EINTR) continue;
    MODAL_CHECK(errno == ECHILD);
    ended.si_pid = 0;
    break;
  }
  return ended;
}

void Reap(pid_t pid) {
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

bool HasChildren() {
  siginfo_t ended{};
  return ::waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 || errno != ECHILD;
}

}  // namespace

bool Reaper::Collect() {
  int collected = 0;
  while (collected < kBatch) {
    const siginfo_t ended = NextZombie();
    if (ended.si_pid == 0) break;
    // Look at the zombie first and reap it last: while it is a zombie its pid cannot be reused, so
    // that the watcher can signal its process group.
    const auto watched = watched_.find(ended.si_pid);
    if (watched == watched_.end()) {
      ++orphans_reaped_;
      last_orphan_ = ExitStatus::FromSiginfo(ended.si_code, ended.si_status);
    } else {
      const ExitCallback on_exit = std::move(watched->second);
      watched_.erase(watched);
      on_exit(ExitStatus::FromSiginfo(ended.si_code, ended.si_status));
    }
    Reap(ended.si_pid);
    ++collected;
  }
  if (collected > 0 && on_collected_) on_collected_();
  return collected == kBatch;
}

void Reaper::Watch(pid_t pid, ExitCallback on_exit) {
  const bool is_new = watched_.emplace(pid, std::move(on_exit)).second;
  MODAL_CHECK(is_new);
}

void Reaper::Forget(pid_t pid) { watched_.erase(pid); }

std::optional<int> Reaper::StopSignalOf(pid_t pid) const {
  siginfo_t stopped{};
  if (::waitid(P_PID, static_cast<id_t>(pid), &stopped, WSTOPPED | WNOHANG) != 0 ||
      stopped.si_pid != pid) {
    return std::nullopt;
  }
  return stopped.si_status;
}

bool Reaper::HasChildrenBeside(const std::function<bool(pid_t)>& except) const {
  if (!HasChildren()) return false;
  const auto counts = [&](pid_t pid) { return !(watched_.contains(pid) && except(pid)); };
  const bool any_excepted = std::any_of(watched_.begin(), watched_.end(), [&](const auto& watched) {
    return !counts(watched.first);
  });
  if (!any_excepted) return true;
  const Result<std::vector<ProcessInfo>> processes = ListProcesses();
  if (!processes) {
    return std::any_of(watched_.begin(), watched_.end(),
                       [&](const auto& watched) { return counts(watched.first); });
  }
  const pid_t self = ::getpid();
  return std::any_of(processes->begin(), processes->end(), [&](const ProcessInfo& process) {
    return process.parent == self && counts(process.pid);
  });
}

bool BecomeSubreaper() { return ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0; }

}  // namespace modal::process

#include "lifecycle/process_tree.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "agent/base/exit_status.h"
#include "agent/base/strings.h"

namespace modal::lifecycle {
namespace {

// On a terminal the workload has only a group of its own.
bool BelongsTo(const process::ProcessInfo& process, pid_t session) {
  return process.session == session || process.group == session;
}

bool BelongsToAny(const process::ProcessInfo& process, const std::vector<pid_t>& sessions) {
  return std::any_of(sessions.begin(), sessions.end(),
                     [&process](pid_t session) { return BelongsTo(process, session); });
}

}  // namespace

RealProcessTree::RealProcessTree(Log& log, process::Reaper& reaper, bool is_process_1)
    : log_(log), reaper_(reaper), is_process_1_(is_process_1), self_(::getpid()) {}

Result<std::vector<process::ProcessInfo>> RealProcessTree::Members(Scope scope) const {
  Result<std::vector<process::ProcessInfo>> all = process::ListProcesses();
  if (!all) return all;
  std::vector<process::ProcessInfo> members =
      scope == Scope::kNamespace ? *std::move(all) : process::DescendantsOf(self_, *all);
  std::erase_if(members, [this](const process::ProcessInfo& process) {
    return process.pid == self_ || process.state == 'Z' || helpers_.contains(process.pid);
  });
  return members;
}

void RealProcessTree::Send(pid_t target, int signal) {
  if (::kill(target, signal) == 0 || errno == ESRCH) return;
  log_.Warn("signal.failed",
            {{"message", Concat("cannot send ", SignalName(signal), ": ", ::strerror(errno))},
             {"pid", target}});
}

// What is stopped (^Z, SIGSTOP) could not even notice that it is to end.
void RealProcessTree::Send(const process::ProcessInfo& process, int signal) {
  Send(process.pid, signal);
  if (process.state == 'T') Send(process.pid, SIGCONT);
}

size_t RealProcessTree::SignalAll(int signal) {
  Result<std::vector<process::ProcessInfo>> members = Everything();
  if (!members) return SignalAllBlindly(signal);
  size_t count = 0;
  for (const process::ProcessInfo& process : *members) {
    if (spared_sessions_.contains(process.session) || spared_sessions_.contains(process.group)) {
      continue;
    }
    if (!signalled_.insert({signal, process.pid}).second) continue;
    Send(process, signal);
    ++count;
  }
  return count;
}

size_t RealProcessTree::SignalAllBlindly(int signal) {
  if (is_process_1_) {
    if (!signalled_.insert({signal, -1}).second) return 0;
    Send(-1, signal);
    return 1;
  }
  size_t count = 0;
  for (const pid_t session : started_sessions_) {
    if (spared_sessions_.contains(session)) continue;
    count += SignalSessionOnce(session, signal);
  }
  return count;
}

void RealProcessTree::KillAll() {
  // One call that no fork can outrun. It takes the helpers along, which are not needed any more.
  if (is_process_1_) return Send(-1, SIGKILL);
  SignalOutside({}, SIGKILL);
}

size_t RealProcessTree::SignalSessionOnce(pid_t session, int signal) {
  Result<std::vector<process::ProcessInfo>> members = Everything();
  if (!members) {
    if (!signalled_.insert({signal, -session}).second) return 0;
    Send(-session, signal);
    return 1;
  }
  size_t count = 0;
  for (const process::ProcessInfo& process : *members) {
    if (!BelongsTo(process, session)) continue;
    if (!signalled_.insert({signal, process.pid}).second) continue;
    Send(process, signal);
    ++count;
  }
  return count;
}

bool RealProcessTree::SignalGroup(pid_t group, int signal) {
  if (::kill(-group, signal) == 0) return true;
  if (errno != ESRCH) {
    log_.Warn("signal.failed",
              {{"message", Concat("cannot send ", SignalName(signal), ": ", ::strerror(errno))},
               {"pid", -group}});
  }
  return errno != ESRCH;
}

void RealProcessTree::SignalOutside(const std::vector<pid_t>& sessions, int signal) {
  Result<std::vector<process::ProcessInfo>> members = Members(Scope::kDescendants);
  if (!members) {
    for (const pid_t session : started_sessions_) {
      const bool is_inside = std::find(sessions.begin(), sessions.end(), session) != sessions.end();
      if (!is_inside) Send(-session, signal);
    }
    return;
  }
  for (const process::ProcessInfo& process : *members) {
    if (!BelongsToAny(process, sessions)) Send(process, signal);
  }
}

bool RealProcessTree::AnythingLeft() {
  return reaper_.HasChildrenBeside([this](pid_t pid) { return helpers_.contains(pid); });
}

bool RealProcessTree::AnythingLeftOutside(const std::vector<pid_t>& sessions) {
  Result<std::vector<process::ProcessInfo>> members = Members(Scope::kDescendants);
  if (!members) return AnythingLeft();
  return std::any_of(members->begin(), members->end(),
                     [&sessions](const auto& process) { return !BelongsToAny(process, sessions); });
}

bool RealProcessTree::AnythingLeftInside(const std::vector<pid_t>& sessions) {
  if (sessions.empty()) return false;
  Result<std::vector<process::ProcessInfo>> members = Members(Scope::kDescendants);
  if (!members) return true;
  return std::any_of(members->begin(), members->end(),
                     [&sessions](const auto& process) { return BelongsToAny(process, sessions); });
}

bool RealProcessTree::CanTellApart() { return process::ListProcesses().ok(); }

}  // namespace modal::lifecycle

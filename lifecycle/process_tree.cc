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

}  // namespace

RealProcessTree::RealProcessTree(Log& log, process::Reaper& reaper, bool is_process_1)
    : log_(log), reaper_(reaper), is_process_1_(is_process_1), self_(::getpid()) {}

Result<std::vector<process::ProcessInfo>> RealProcessTree::Members() const {
  Result<std::vector<process::ProcessInfo>> all = process::ListProcesses();
  if (!all) return all;
  // As process 1 also what was put into the namespace from outside (docker exec).
  std::vector<process::ProcessInfo> members =
      is_process_1_ ? *std::move(all) : process::DescendantsOf(self_, *all);
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
  Result<std::vector<process::ProcessInfo>> members = Members();
  if (!members) {
    if (!signalled_.insert({signal, -1}).second) return 0;
    if (is_process_1_) Send(-1, signal);
    return 1;
  }
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

void RealProcessTree::KillAll() {
  // One call that no fork can outrun. It takes the helpers along, which are not needed any more.
  if (is_process_1_) return Send(-1, SIGKILL);
  Result<std::vector<process::ProcessInfo>> members = Members();
  if (!members) return;
  for (const process::ProcessInfo& process : *members) Send(process.pid, SIGKILL);
}

void RealProcessTree::SignalSession(pid_t session, int signal) {
  Result<std::vector<process::ProcessInfo>> members = Members();
  if (!members) return Send(-session, signal);
  for (const process::ProcessInfo& process : *members) {
    if (BelongsTo(process, session)) Send(process, signal);
  }
}

size_t RealProcessTree::SignalSessionOnce(pid_t session, int signal) {
  Result<std::vector<process::ProcessInfo>> members = Members();
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

bool RealProcessTree::SessionIsEmpty(pid_t session) {
  Result<std::vector<process::ProcessInfo>> members = Members();
  if (!members) return ::kill(-session, 0) != 0;
  return std::none_of(members->begin(), members->end(),
                      [session](const auto& process) { return BelongsTo(process, session); });
}

bool RealProcessTree::AnythingLeft() {
  return reaper_.HasChildrenBeside([this](pid_t pid) { return helpers_.contains(pid); });
}

bool RealProcessTree::AnythingLeftOutside(const std::vector<pid_t>& sessions) {
  Result<std::vector<process::ProcessInfo>> members = Members();
  if (!members) return AnythingLeft();
  return std::any_of(members->begin(), members->end(), [&sessions](const auto& process) {
    return std::find(sessions.begin(), sessions.end(), process.session) == sessions.end();
  });
}

bool RealProcessTree::CanTellApart() { return process::ListProcesses().ok(); }

}  // namespace modal::lifecycle

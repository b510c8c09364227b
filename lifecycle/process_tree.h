// Everything that runs below the agent, as one thing that can be told to end.
//
// As process 1 that is the whole PID namespace; otherwise (subreaper) all descendants. Without
// /proc nobody can be told apart: then process 1 signals everybody at once with kill(-1), and a
// subreaper reaches only the groups that it started.
#pragma once

#include <sys/types.h>

#include <functional>
#include <set>
#include <vector>

#include "agent/base/log.h"
#include "agent/process/process_table.h"
#include "agent/process/reaper.h"

namespace modal::lifecycle {

class ProcessTree {
 public:
  virtual ~ProcessTree() = default;

  // Sends `signal` to every process that was not sent it before (by this object), except the
  // spared ones and those in spared sessions. Returns how many there were.
  virtual size_t SignalAll(int signal) = 0;
  // SIGKILL to everything, the spared sessions included; the agent's helpers only as process 1
  // without a choice. Call again while AnythingLeft().
  virtual void KillAll() = 0;
  // Sends `signal` to every process of one session (or group, on a terminal) that was not sent it
  // before (by this, or SignalAll()). Returns how many there were.
  virtual size_t SignalSessionOnce(pid_t session, int signal) = 0;
  // kill(2) on one group; false: there is nobody in it.
  virtual bool SignalGroup(pid_t group, int signal) = 0;
  // Sends `signal` to every descendant of ours outside of these sessions (or groups: below a keeper
  // a hook has only that), helpers excepted.
  virtual void SignalOutside(const std::vector<pid_t>& sessions, int signal) = 0;
  // Whether any child beside the helpers is left, zombies included: process 1 and a subreaper
  // inherit every orphan, so no child means that nothing at all is left.
  virtual bool AnythingLeft() = 0;
  // Whether any descendant of ours that runs is left outside of these sessions (or groups), helpers
  // excepted.
  // Without /proc as AnythingLeft().
  virtual bool AnythingLeftOutside(const std::vector<pid_t>& sessions) = 0;
  // The same inside of them. True without /proc, unless there are none.
  virtual bool AnythingLeftInside(const std::vector<pid_t>& sessions) = 0;
  // False without /proc: then nobody can say whether what is left is more than the helpers, and
  // they are ended before everything else.
  virtual bool CanTellApart() = 0;

  // A session, or a group, that we have started: what a subreaper without /proc can reach.
  virtual void NoteSession(pid_t session) = 0;
  virtual void SpareHelper(pid_t pid) = 0;
  virtual void ForgetHelper(pid_t pid) = 0;
  virtual void SpareSession(pid_t session) = 0;
  virtual void UnspareSession(pid_t session) = 0;
};

class RealProcessTree : public ProcessTree {
 public:
  RealProcessTree(Log& log, process::Reaper& reaper, bool is_process_1);

  size_t SignalAll(int signal) override;
  void KillAll() override;
  size_t SignalSessionOnce(pid_t session, int signal) override;
  bool SignalGroup(pid_t group, int signal) override;
  void SignalOutside(const std::vector<pid_t>& sessions, int signal) override;
  bool AnythingLeft() override;
  bool AnythingLeftOutside(const std::vector<pid_t>& sessions) override;
  bool AnythingLeftInside(const std::vector<pid_t>& sessions) override;
  bool CanTellApart() override;
  void NoteSession(pid_t session) override { started_sessions_.insert(session); }
  void SpareHelper(pid_t pid) override { helpers_.insert(pid); }
  void ForgetHelper(pid_t pid) override { helpers_.erase(pid); }
  void SpareSession(pid_t session) override { spared_sessions_.insert(session); }
  void UnspareSession(pid_t session) override { spared_sessions_.erase(session); }

 private:
  enum class Scope { kDescendants, kNamespace };

  // The processes that are alive, we and the helpers not included; an Error without /proc.
  Result<std::vector<process::ProcessInfo>> Members(Scope scope) const;
  // Everything that we are to end: as process 1 also what was put into the namespace from outside
  // (docker exec).
  Result<std::vector<process::ProcessInfo>> Everything() const {
    return Members(is_process_1_ ? Scope::kNamespace : Scope::kDescendants);
  }
  size_t SignalAllBlindly(int signal);
  void Send(pid_t target, int signal);
  void Send(const process::ProcessInfo& process, int signal);

  Log& log_;
  process::Reaper& reaper_;
  bool is_process_1_;
  pid_t self_;
  std::set<pid_t> helpers_;
  std::set<pid_t> started_sessions_;
  std::set<pid_t> spared_sessions_;
  std::set<std::pair<int, pid_t>> signalled_;
};

}  // namespace modal::lifecycle

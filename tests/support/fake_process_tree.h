// A ProcessTree of processes that a test made up. Signals are noted; nothing dies of them by
// itself, unless `on_signal` sees to it.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "lifecycle/process_tree.h"

namespace modal::test {

class FakeProcessTree : public lifecycle::ProcessTree {
 public:
  struct Sent {
    pid_t pid;
    int signal;
    bool operator==(const Sent&) const = default;
  };

  std::vector<Sent> sent;  // everything, in order
  std::function<void(pid_t pid, int signal)> on_signal;
  int kill_alls = 0;
  bool can_tell_apart = true;
  std::set<pid_t> helpers;
  std::set<pid_t> spared_sessions;
  std::set<pid_t> noted_sessions;

  void Add(pid_t pid, pid_t session) { alive_[pid] = session; }
  void Add(pid_t pid) { Add(pid, pid); }
  void Remove(pid_t pid) { alive_.erase(pid); }
  bool IsAlive(pid_t pid) const { return alive_.count(pid) != 0; }
  // The signals that `pid` was sent.
  std::vector<int> SentTo(pid_t pid) const {
    std::vector<int> signals;
    for (const Sent& one : sent) {
      if (one.pid == pid) signals.push_back(one.signal);
    }
    return signals;
  }

  size_t SignalAll(int signal) override {
    size_t count = 0;
    for (const auto& [pid, session] : Alive()) {
      if (helpers.count(pid) != 0 || spared_sessions.count(session) != 0) continue;
      if (!told_.insert({signal, pid}).second) continue;
      Send(pid, signal);
      ++count;
    }
    return count;
  }
  void KillAll() override {
    ++kill_alls;
    for (const auto& [pid, session] : Alive()) {
      if (helpers.count(pid) == 0) Send(pid, SIGKILL);
    }
  }
  size_t SignalSessionOnce(pid_t session, int signal) override {
    size_t count = 0;
    for (const auto& [pid, its_session] : Alive()) {
      if (its_session != session || !told_.insert({signal, pid}).second) continue;
      Send(pid, signal);
      ++count;
    }
    return count;
  }
  bool SignalGroup(pid_t group, int signal) override {
    bool any = false;
    for (const auto& [pid, session] : Alive()) {
      if (session != group && pid != group) continue;
      Send(pid, signal);
      any = true;
    }
    return any;
  }
  void SignalOutside(const std::vector<pid_t>& sessions, int signal) override {
    for (const auto& [pid, session] : Alive()) {
      if (helpers.count(pid) != 0) continue;
      if (std::find(sessions.begin(), sessions.end(), session) == sessions.end()) Send(pid, signal);
    }
  }
  bool AnythingLeft() override {
    return std::any_of(alive_.begin(), alive_.end(),
                       [this](const auto& process) { return helpers.count(process.first) == 0; });
  }
  bool AnythingLeftOutside(const std::vector<pid_t>& sessions) override {
    return std::any_of(alive_.begin(), alive_.end(), [&](const auto& process) {
      return helpers.count(process.first) == 0 &&
             std::find(sessions.begin(), sessions.end(), process.second) == sessions.end();
    });
  }
  bool AnythingLeftInside(const std::vector<pid_t>& sessions) override {
    return std::any_of(alive_.begin(), alive_.end(), [&](const auto& process) {
      return std::find(sessions.begin(), sessions.end(), process.second) != sessions.end();
    });
  }
  bool CanTellApart() override { return can_tell_apart; }
  void NoteSession(pid_t session) override { noted_sessions.insert(session); }
  void SpareHelper(pid_t pid) override { helpers.insert(pid); }
  void ForgetHelper(pid_t pid) override { helpers.erase(pid); }
  void SpareSession(pid_t session) override { spared_sessions.insert(session); }
  void UnspareSession(pid_t session) override { spared_sessions.erase(session); }

 private:
  // A copy: whoever hears of a signal may end processes.
  std::map<pid_t, pid_t> Alive() const { return alive_; }
  void Send(pid_t pid, int signal) {
    sent.push_back({pid, signal});
    if (on_signal) on_signal(pid, signal);
  }

  std::map<pid_t, pid_t> alive_;  // and their sessions
  std::set<std::pair<int, pid_t>> told_;
};

}  // namespace modal::test

// A Launcher that starts nothing: a test looks at what was to be started, and says how it ends.
#pragma once

#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/check.h"
#include "agent/base/unique_fd.h"
#include "agent/process/launcher.h"

namespace modal::test {

class FakeLauncher : public process::Launcher {
 public:
  struct Started {
    pid_t pid = 0;
    process::LaunchSpec spec;
    UniqueFd output;                 // what became its stdout, if that was given
    bool running = true;             // false once the test has ended it
    bool watched = true;             // false once its Process is destroyed
    std::vector<int> signals;        // sent to it alone
    std::vector<int> group_signals;  // sent to its group
    process::ExitCallback on_exit;
  };

  static constexpr pid_t kFirstPid = 1000;

  // What was started, in order; references stay valid.
  std::deque<Started> started;
  // An Error instead of a start, if it returns one.
  std::function<std::optional<Error>(const process::LaunchSpec&)> refuse;
  std::function<void(const Started&)> on_started;
  std::function<void(pid_t group, int signal)> on_group_signal;

  Result<std::unique_ptr<process::Process>> Launch(const process::LaunchSpec& spec,
                                                   process::ExitCallback on_exit) override {
    if (refuse) {
      if (std::optional<Error> error = refuse(spec)) return *std::move(error);
    }
    Started& one = started.emplace_back();
    one.pid = kFirstPid + static_cast<pid_t>(started.size()) - 1;
    one.spec = spec;
    one.on_exit = std::move(on_exit);
    for (const process::FdMapping& fd : spec.fds) {
      if (fd.theirs == STDOUT_FILENO) one.output.Reset(::fcntl(fd.ours, F_DUPFD_CLOEXEC, 0));
    }
    if (on_started) on_started(one);
    return std::unique_ptr<process::Process>(new Handle(*this, one));
  }

  std::unique_ptr<process::Process> Adopt(pid_t pid, process::ExitCallback on_exit) override {
    Started& one = started.emplace_back();
    one.pid = pid;
    one.on_exit = std::move(on_exit);
    return std::unique_ptr<process::Process>(new Handle(*this, one));
  }

  // The process ends, as the Reaper would tell it.
  void Exit(Started& one, ExitStatus status) {
    MODAL_CHECK(one.running);
    one.running = false;
    one.output.Reset();
    const process::ExitCallback on_exit = std::exchange(one.on_exit, nullptr);
    if (one.watched && on_exit) on_exit(status);
  }
  void ExitLast(ExitStatus status) { Exit(started.back(), status); }

  Started* Find(pid_t pid) {
    const size_t index = static_cast<size_t>(pid - kFirstPid);
    return pid >= kFirstPid && index < started.size() ? &started[index] : nullptr;
  }

 private:
  class Handle : public process::Process {
   public:
    Handle(FakeLauncher& launcher, Started& one) : launcher_(launcher), one_(one) {}
    ~Handle() override { one_.watched = false; }
    pid_t pid() const override { return one_.pid; }
    Result<bool> Signal(int number) override {
      one_.signals.push_back(number);
      return one_.running;
    }
    Result<bool> SignalGroup(int number) override {
      one_.group_signals.push_back(number);
      if (launcher_.on_group_signal) launcher_.on_group_signal(one_.pid, number);
      return one_.running;
    }

   private:
    FakeLauncher& launcher_;
    Started& one_;
  };
};

}  // namespace modal::test

// Runs hooks one after the other, each within a time limit.
//
// A hook is a command line: plain words are executed as they are (an image without a shell has
// hooks too), anything with shell syntax in it goes through /bin/sh -c. Each has a session of its
// own; at the limit its whole group is killed. `on_done` runs once, from the loop or from inside
// Run(), when all have returned 0, or when one did not (first failure ends the run if
// `stop_at_failure`). Cancel() forgets the hook that runs: it is left to whoever ends everything.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/event/loop.h"
#include "agent/process/launcher.h"
#include "lifecycle/output_pump.h"

namespace modal::lifecycle {

struct Hook {
  std::string name;               // for the log: the command line, or the file's name
  std::vector<std::string> argv;  // what to execute
};

// The hook for a command line as users write it after --on-enter.
Hook HookFromCommandLine(const std::string& command_line);
// The executables of `folder`, in name order. A missing folder has none; files that are not
// executable, and what editors and packages leave behind, are left out with a warning.
std::vector<Hook> HooksFromFolder(const std::string& folder, Log& log);

class HookRunner {
 public:
  struct Options {
    Milliseconds limit;       // for each hook
    bool stop_at_failure;     // startup hooks; exit handlers all run
    process::LaunchSpec how;  // environment, credentials ...; argv, session and fds are ours
  };
  struct Outcome {
    uint32_t run = 0;
    uint32_t failed = 0;
    std::string first_failure;  // a sentence
  };

  HookRunner(event::Loop& loop, Clock& clock, process::Launcher& launcher, Log& log,
             std::vector<Hook> hooks, Options options, std::function<void(const Outcome&)> on_done);

  void Run();
  void Cancel();
  // The process that runs now, or 0.
  pid_t running() const { return process_ ? process_->pid() : 0; }
  // Sessions of all hooks that were started here (a session's id is its leader's pid).
  const std::vector<pid_t>& sessions() const { return sessions_; }

 private:
  void StartNext();
  Result<void> Start(const Hook& hook);
  void OnExit(ExitStatus status);
  void OnLimit();
  void Failed(std::string why);
  void Finish();
  void Retire(OutputPump* pump);

  event::Loop& loop_;
  Clock& clock_;
  process::Launcher& launcher_;
  Log& log_;
  std::vector<Hook> hooks_;
  Options options_;
  std::function<void(const Outcome&)> on_done_;

  size_t next_ = 0;
  Outcome outcome_;
  bool over_limit_ = false;
  Clock::TimePoint started_{};
  std::vector<pid_t> sessions_;
  OutputPump* pump_ = nullptr;  // of the hook that runs; one of pumps_
  std::list<std::unique_ptr<OutputPump>> pumps_;
  std::unique_ptr<process::Process> process_;
  std::unique_ptr<Timer> limit_;
  std::unique_ptr<Timer> turn_;  // leaves the callback of what has just ended
};

}  // namespace modal::lifecycle

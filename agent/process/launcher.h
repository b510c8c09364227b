// Starts programs. The only place in the agent that creates a process.
//
// Everything that can be prepared is prepared before the fork (PATH search, argv, environment,
// groups, BPF); between fork and exec nothing is allocated and every step that fails is reported
// by name. The caller has all signals blocked (event/signals.h); the child resets every disposition
// to default and only then unblocks everything, so a signal sent to it early is never swallowed
// (but a ^Z from before the exec is: it would halt us as well).
// Session, group and terminal are set before Launch() returns: its group can be signalled at once.
//
// The order in the child: session, descriptors, limits, user and capabilities, workdir,
// no_new_privs, parent-death signal, signals, seccomp, exec. Workdir and program are thus looked at
// as the new user.
//
// A personality is run by a copy of us, without an exec. Launch() does not wait for it: what fails
// on its way ends it with kExitAgentError.
//
// Launch() returns a Process, or an Error whose exit_code() is 127 (not found), 126 (found, but
// cannot be executed) or 125 (everything else: no such user, fork failed, ...). `on_exit` runs
// once, from the Reaper, while the process is still a zombie: its pid and group cannot be reused
// yet. It never runs if Launch() failed, or once the Process is destroyed. Destroying a Process
// ends nothing.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "agent/base/exit_status.h"
#include "agent/base/result.h"
#include "agent/process/credentials.h"
#include "agent/process/seccomp_filter.h"

namespace modal::process {

enum class SessionMode {
  kNewSession,       // setsid: leader of a session and a group of its own, no terminal
  kNewGroup,         // leader of a new group in our session
  kForegroundGroup,  // the same, and the foreground group of the terminal on fd 0
};

// `ours` appears in the child as descriptor `theirs`. Descriptors 0, 1 and 2 that are not named
// are inherited; all others of ours close at exec.
struct FdMapping {
  int ours;
  int theirs;
};

struct ResourceLimit {
  int resource;  // RLIMIT_NOFILE ...
  rlimit limit;
};

// As main(); what it returns is the exit code. It has the descriptors that LaunchSpec names for it,
// 0, 1 and 2, and no others; signals are as they are with us.
using Personality = int (*)(std::span<char* const> argv);

struct LaunchSpec {
  std::vector<std::string> argv;  // argv[0] is searched in the child's PATH if it has no '/'
  std::string executable;         // instead of argv[0]: a path, not searched;
                                  // "/proc/self/exe" also works without /proc
  // Instead of a program; argv[0] is its title. Without the seccomp filter.
  Personality personality = nullptr;
  std::vector<std::string> environment;  // "NAME=value", the whole of it
  std::string workdir;                   // empty: ours
  SessionMode session = SessionMode::kNewSession;
  std::vector<FdMapping> fds;
  std::optional<Credentials> credentials;  // empty: ours
  std::vector<ResourceLimit> limits;
  bool no_new_privileges = false;
  // Capabilities to keep (capabilities.h), over every exec: in the bounding, permitted and
  // effective sets, and for a user other than root in the inheritable and ambient ones. Without
  // CAP_SETPCAP the bounding set stays and no_new_privs is set instead. Empty: leave the sets
  // alone, which leaves none to a user other than root. To keep one that we do not hold is an
  // Error.
  std::optional<uint64_t> capabilities;
  // Installed last; outlives Launch(). Implies no_new_privileges, so that it works alike with and
  // without CAP_SYS_ADMIN.
  const SeccompFilter* seccomp = nullptr;
  int parent_death_signal = 0;  // only for the agent's own helpers
};

class Process {
 public:
  virtual ~Process() = default;
  virtual pid_t pid() const = 0;
  // kill(2) on the process, or on its whole group, which may outlive it. A target that is gone is
  // no error (false); EPERM and the like are.
  virtual Result<bool> Signal(int number) = 0;
  virtual Result<bool> SignalGroup(int number) = 0;
};

using ExitCallback = std::function<void(ExitStatus)>;

class Launcher {
 public:
  virtual ~Launcher() = default;
  virtual Result<std::unique_ptr<Process>> Launch(const LaunchSpec& spec, ExitCallback on_exit) = 0;
  // A child of ours that somebody else has started (a restored process), as if it had been launched
  // here. It has not been reaped yet.
  virtual std::unique_ptr<Process> Adopt(pid_t pid, ExitCallback on_exit) = 0;
};

class Reaper;

// The real one, on Boost.Process; children are watched by `reaper`, which outlives it.
class ProcessLauncher : public Launcher {
 public:
  explicit ProcessLauncher(Reaper& reaper) : reaper_(reaper) {}
  Result<std::unique_ptr<Process>> Launch(const LaunchSpec& spec, ExitCallback on_exit) override;
  std::unique_ptr<Process> Adopt(pid_t pid, ExitCallback on_exit) override;

 private:
  Reaper& reaper_;
};

// The path that execvp(3) would run for `name` with this PATH, looked at from `workdir`; an Error
// with exit code 127 or 126 if there is none ("./server: is a directory", ...).
Result<std::string> FindExecutable(const std::string& name, const std::string& path,
                                   const std::string& workdir);

}  // namespace modal::process

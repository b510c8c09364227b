// What tests of launched programs share: signals blocked as in the agent, a folder of their own,
// programs run to their end, and code that runs in a process of its own.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/unique_fd.h"
#include "agent/process/launcher.h"
#include "agent/process/reaper.h"

namespace modal::process::testing {

class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    for (const int fault : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS}) {
      sigdelset(&all, fault);
    }
    sigprocmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockedSignals() { sigprocmask(SIG_SETMASK, &before_, nullptr); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

 private:
  sigset_t before_;
};

class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "modal-XXXXXX").string();
    MODAL_CHECK(::mkdtemp(name.data()) != nullptr);
    ::chmod(name.c_str(), 0755);
    path_ = name;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  // Makes a file there; its path.
  std::string File(const std::string& name, const std::string& text, mode_t mode = 0644) const {
    std::string path = path_ + "/" + name;
    std::ofstream(path, std::ios::binary) << text;
    ::chmod(path.c_str(), mode);
    return path;
  }

 private:
  std::string path_;
};

inline std::string ReadWhole(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

inline std::string ReadToEnd(int fd) {
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t size = ::read(fd, buffer, sizeof(buffer));
    if (size <= 0) return text;
    text.append(buffer, static_cast<size_t>(size));
  }
}

struct Pipe {
  Pipe() {
    int ends[2];
    MODAL_CHECK(::pipe2(ends, O_CLOEXEC) == 0);
    reader = UniqueFd(ends[0]);
    writer = UniqueFd(ends[1]);
  }
  UniqueFd reader;
  UniqueFd writer;
};

// Waits until the child has ended, and leaves it a zombie.
inline void AwaitZombie(pid_t pid) {
  siginfo_t ended{};
  MODAL_CHECK(::waitid(P_PID, static_cast<id_t>(pid), &ended, WEXITED | WNOWAIT) == 0);
}

struct Outcome {
  ExitStatus status;
  std::string output;  // standard output and error together
};

struct LaunchFixture {
  // The spec with what every test wants: our PATH, and a group of its own.
  static LaunchSpec Spec(std::vector<std::string> argv) {
    LaunchSpec spec;
    spec.argv = std::move(argv);
    spec.environment = {"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL=C"};
    return spec;
  }

  // Runs a program to its end.
  Result<Outcome> Run(LaunchSpec spec) {
    Pipe output;
    spec.fds.push_back({output.writer.get(), 1});
    spec.fds.push_back({output.writer.get(), 2});
    std::optional<ExitStatus> status;
    const auto process = launcher.Launch(spec, [&](ExitStatus ended) { status = ended; });
    if (!process) return process.error();
    output.writer.Reset();
    Outcome outcome;
    outcome.output = ReadToEnd(output.reader.get());
    AwaitZombie((*process)->pid());
    reaper.Collect();
    MODAL_CHECK(status);
    outcome.status = *status;
    return outcome;
  }

  // The error of a launch that must fail.
  Error Fail(const LaunchSpec& spec) {
    auto process = launcher.Launch(spec, [](ExitStatus) {});
    if (!process) return process.error();
    (void)(*process)->Signal(SIGKILL);
    AwaitZombie((*process)->pid());
    process->reset();
    reaper.Collect();
    return Error("was launched");
  }

  BlockedSignals blocked;
  Reaper reaper;
  ProcessLauncher launcher{reaper};
};

// The system calls with which a body of InAnotherProcess() makes its report and ends, under
// AddressSanitizer as well.
inline const std::vector<std::string> kTestItself{
    "write",   "exit_group",     "brk",   "mmap",  "munmap",      "mremap",
    "madvise", "rt_sigprocmask", "futex", "close", "sched_yield", "sigaltstack"};

// Runs `body` in a forked copy of the test and returns the text that it made; for what cannot be
// undone. Nothing in it may use doctest.
inline std::string InAnotherProcess(const std::function<std::string()>& body) {
  Pipe pipe;
  const pid_t pid = ::fork();
  MODAL_CHECK(pid >= 0);
  if (pid == 0) {
    const std::string text = body();
    const ssize_t size = ::write(pipe.writer.get(), text.data(), text.size());
    ::_exit(size == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  pipe.writer.Reset();
  std::string text = ReadToEnd(pipe.reader.get());
  int status = 0;
  ::waitpid(pid, &status, 0);
  if (status != 0) text += "\n(" + ExitStatus::FromWait(status).ToString() + ")";
  return text;
}

// The value of a line "Name:\tvalue" of /proc/PID/status.
inline std::string StatusLine(const std::string& status, const std::string& name) {
  std::istringstream lines(status);
  std::string line;
  while (std::getline(lines, line)) {
    if (line.rfind(name + ":", 0) != 0) continue;
    const size_t begin = line.find_first_not_of(" \t", name.size() + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "(no line " + name + ")";
}

inline bool IsRoot() { return ::geteuid() == 0; }

}  // namespace modal::process::testing

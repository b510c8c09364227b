// How a process ended, and the exit codes that modal-agent itself ends with.
#pragma once

#include <string>

namespace modal {

// Exit codes of the agent. 126/127 follow POSIX sh (2.8.2 "Exit Status for Commands").
enum ExitCode : int {
  kExitHookFailed = 120,      // a startup hook or an import failed
  kExitUnhealthy = 121,       // health checks failed --health-threshold times in a row
  kExitSnapshotFailed = 122,  // a snapshot command failed
  kExitStartupTimeout = 124,  // the port did not open within --startup-timeout
  kExitAgentError = 125,      // the agent's own error, or a bad configuration
  kExitNotExecutable = 126,   // COMMAND was found but cannot be executed
  kExitNotFound = 127,        // COMMAND was not found
};

// Either an exit code (0–255) or the number of the signal that ended the process.
struct ExitStatus {
  static ExitStatus FromWait(int wait_status);             // as waitpid(2) fills it
  static ExitStatus FromSiginfo(int si_code, int status);  // as waitid(2) fills it
  static ExitStatus Code(int code) { return {code, 0, false}; }
  static ExitStatus Signal(int number) { return {0, number, false}; }

  bool ok() const { return code == 0 && signal == 0; }
  // What a shell, and this agent, exits with for it: the code, or 128 + signal.
  int AsShellCode() const { return signal ? 128 + signal : code; }
  // "exit code 3", "signal SIGTERM", "signal SIGSEGV (core dumped)".
  std::string ToString() const;
  bool operator==(const ExitStatus&) const = default;

  int code = 0;
  int signal = 0;
  bool core_dumped = false;
};

// "SIGTERM" for 15, "SIGRTMIN+3" for 37, "signal 99" for what does not exist.
std::string SignalName(int number);
// 15 for "SIGTERM", "TERM", "term" and "15"; -1 for anything else.
int SignalNumber(const std::string& name);

}  // namespace modal

#include "agent/base/exit_status.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

namespace modal {
namespace {

// Second names, of which the C library knows none (sigabbrev_np).
struct SignalAlias {
  std::string_view name;
  int number;
};
constexpr std::array kAliases{SignalAlias{"SIGIO", SIGPOLL}, SignalAlias{"SIGIOT", SIGABRT},
                              SignalAlias{"SIGCLD", SIGCHLD}};

}  // namespace

ExitStatus ExitStatus::FromWait(int wait_status) {
  if (WIFSIGNALED(wait_status)) {
    return {0, WTERMSIG(wait_status), static_cast<bool>(WCOREDUMP(wait_status))};
  }
  return {WEXITSTATUS(wait_status), 0, false};
}

ExitStatus ExitStatus::FromSiginfo(int si_code, int status) {
  if (si_code == CLD_EXITED) return {status & 0xff, 0, false};
  return {0, status, si_code == CLD_DUMPED};
}

std::string ExitStatus::ToString() const {
  if (signal == 0) return "exit code " + std::to_string(code);
  return "signal " + SignalName(signal) + (core_dumped ? " (core dumped)" : "");
}

std::string SignalName(int number) {
  if (const char* name = ::sigabbrev_np(number)) return std::string("SIG") + name;
  if (number >= SIGRTMIN && number <= SIGRTMAX) {
    return number == SIGRTMIN ? "SIGRTMIN" : "SIGRTMIN+" + std::to_string(number - SIGRTMIN);
  }
  return "signal " + std::to_string(number);
}

int SignalNumber(const std::string& name) {
  std::string upper = name;
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  if (upper.rfind("SIG", 0) != 0) upper = "SIG" + upper;
  for (const SignalAlias& alias : kAliases) {
    if (upper == alias.name) return alias.number;
  }
  for (int number = 1; number <= SIGRTMAX; ++number) {
    if (SignalName(number) == upper || "SIG" + std::to_string(number) == upper) return number;
  }
  return -1;
}

}  // namespace modal

#include "agent/base/exit_status.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>
#include <string>

namespace modal {
namespace {

TEST_CASE("every exit code comes through waitpid and waitid as it is") {
  for (int code = 0; code <= 255; ++code) {
    const ExitStatus waited = ExitStatus::FromWait(W_EXITCODE(code, 0));
    CHECK(waited == ExitStatus::Code(code));
    CHECK(waited == ExitStatus::FromSiginfo(CLD_EXITED, code));
    CHECK(waited.ok() == (code == 0));
    CHECK(waited.AsShellCode() == code);
    CHECK(waited.ToString() == "exit code " + std::to_string(code));
  }
}

TEST_CASE("every signal becomes 128 and its number") {
  for (int number = 1; number <= SIGRTMAX; ++number) {
    CAPTURE(number);
    const ExitStatus waited = ExitStatus::FromWait(W_EXITCODE(0, number));
    CHECK(waited == ExitStatus::Signal(number));
    CHECK(waited == ExitStatus::FromSiginfo(CLD_KILLED, number));
    CHECK_FALSE(waited.ok());
    CHECK(waited.AsShellCode() == 128 + number);
    CHECK(waited.ToString() == "signal " + SignalName(number));
  }
}

TEST_CASE("a core dump is said") {
  const ExitStatus dumped = ExitStatus::FromWait(W_EXITCODE(0, SIGSEGV) | WCOREFLAG);
  CHECK(dumped.core_dumped);
  CHECK(dumped == ExitStatus::FromSiginfo(CLD_DUMPED, SIGSEGV));
  CHECK(dumped.ToString() == "signal SIGSEGV (core dumped)");
  CHECK(dumped.AsShellCode() == 139);
}

TEST_CASE("a real child's end is read the same by waitpid and waitid") {
  for (const int ending : {0, 3, 255, -SIGKILL, -SIGTERM}) {
    CAPTURE(ending);
    const pid_t child = ::fork();
    if (child == 0) {
      if (ending >= 0) ::_exit(ending);
      ::signal(-ending, SIG_DFL);
      ::raise(-ending);
      ::_exit(99);
    }
    REQUIRE(child > 0);
    siginfo_t info{};
    REQUIRE(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT) == 0);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    const ExitStatus expected =
        ending >= 0 ? ExitStatus::Code(ending) : ExitStatus::Signal(-ending);
    CHECK(ExitStatus::FromWait(status) == expected);
    CHECK(ExitStatus::FromSiginfo(info.si_code, info.si_status) == expected);
  }
}

TEST_CASE("signals have the names that people know") {
  const std::map<int, std::string> names{
      {SIGHUP, "SIGHUP"},   {SIGINT, "SIGINT"},   {SIGKILL, "SIGKILL"}, {SIGUSR1, "SIGUSR1"},
      {SIGTERM, "SIGTERM"}, {SIGCHLD, "SIGCHLD"}, {SIGSTOP, "SIGSTOP"}, {SIGWINCH, "SIGWINCH"}};
  for (const auto& [number, name] : names) CHECK(SignalName(number) == name);
  CHECK(SignalName(SIGRTMIN) == "SIGRTMIN");
  CHECK(SignalName(SIGRTMIN + 3) == "SIGRTMIN+3");
  CHECK(SignalName(0) == "signal 0");
  CHECK(SignalName(99) == "signal 99");
  CHECK(SignalName(-1) == "signal -1");
}

TEST_CASE("a signal may be given by name, with or without SIG, in any case, or by number") {
  for (const char* name : {"SIGTERM", "TERM", "term", "SigTerm", "15"}) {
    CAPTURE(name);
    CHECK(SignalNumber(name) == SIGTERM);
  }
  CHECK(SignalNumber("RTMIN+3") == SIGRTMIN + 3);
  CHECK(SignalNumber("64") == 64);
  // Second names of signals (signal(7)).
  CHECK(SignalNumber("SIGIO") == SIGPOLL);
  CHECK(SignalNumber("iot") == SIGABRT);
  CHECK(SignalNumber("CLD") == SIGCHLD);
  for (const char* name : {"", "SIG", "0", "65", "-15", "+15", "15 ", "TERMINATE", "SIGSIGTERM",
                           "signal 15", "RTMIN+99"}) {
    CAPTURE(name);
    CHECK(SignalNumber(name) == -1);
  }
}

TEST_CASE("the number of a signal's name is that signal again") {
  for (int number = 1; number <= SIGRTMAX; ++number) {
    // 32 and 33 belong to the C library and have no name.
    const bool has_name = SignalName(number).starts_with("SIG");
    CHECK(has_name == (number < 32 || number >= SIGRTMIN));
    if (has_name) CHECK(SignalNumber(SignalName(number)) == number);
  }
}

}  // namespace
}  // namespace modal

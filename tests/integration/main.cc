// The main() of every integration test, and what the build knows about them.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "tests/support/agent_process.h"

namespace modal::test {
namespace {

constexpr int kSkipped = 77;  // SKIP_RETURN_CODE in CMakeLists.txt

std::string FromEnvironment(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : otherwise;
}

// Tells AgentProcess, which then prints what the agent said.
class FailureWatcher : public doctest::IReporter {
 public:
  explicit FailureWatcher(const doctest::ContextOptions&) {}
  void test_case_start(const doctest::TestCaseData&) override { CurrentTestFailed() = false; }
  void test_case_reenter(const doctest::TestCaseData&) override { CurrentTestFailed() = false; }
  void log_assert(const doctest::AssertData& data) override {
    if (data.m_failed) CurrentTestFailed() = true;
  }
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};

REGISTER_LISTENER("failure-watcher", 1, FailureWatcher);

bool CanMakeNamespaces() {
  const auto child =
      static_cast<pid_t>(::syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | SIGCHLD,
                                   nullptr, nullptr, nullptr, nullptr));
  if (child == 0) ::_exit(0);
  if (child < 0) return false;
  ::waitpid(child, nullptr, 0);
  return true;
}

}  // namespace

const TestSettings& Settings() {
  static const TestSettings settings{
      FromEnvironment("MODAL_AGENT_BINARY", MODAL_DEFAULT_AGENT_BINARY),
      FromEnvironment("MODAL_TEST_PROGRAMS", MODAL_DEFAULT_TEST_PROGRAMS), MODAL_SANITIZED != 0,
      std::chrono::seconds(MODAL_SANITIZED != 0 ? 90 : 45)};
  return settings;
}

}  // namespace modal::test

int main(int argc, char** argv) {
  if (::geteuid() != 0) {
    std::puts("skipped: needs root, to make PID, mount and network namespaces");
    return modal::test::kSkipped;
  }
  if (!modal::test::CanMakeNamespaces()) {
    std::printf("skipped: making PID, mount and network namespaces is not permitted here: %s\n",
                ::strerror(errno));
    return modal::test::kSkipped;
  }
  // Writing to a program that has gone is an error, not the end of the test.
  ::signal(SIGPIPE, SIG_IGN);
  return doctest::Context(argc, argv).run();
}

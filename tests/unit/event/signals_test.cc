#include "agent/event/signals.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>
#include <vector>

#include "tests/support/run_loop.h"

namespace modal::event {
namespace {

using test::RunUntil;

// Puts back what BlockSignals() changes.
class SignalState {
 public:
  SignalState() {
    ::sigprocmask(SIG_SETMASK, nullptr, &mask_);
    ::sigaction(SIGCHLD, nullptr, &on_child_);
  }
  ~SignalState() {
    ::sigaction(SIGCHLD, &on_child_, nullptr);
    ::sigprocmask(SIG_SETMASK, &mask_, nullptr);
  }

 private:
  sigset_t mask_;
  struct sigaction on_child_;
};

struct Fixture {
  void Watch() {
    auto watched =
        Signals::Watch(loop, [this](const SignalEvent& event) { events.push_back(event); });
    REQUIRE(watched);
    signals = *std::move(watched);
  }
  bool RunUntilSeen(size_t count) {
    return RunUntil(loop, [&] { return events.size() >= count; });
  }

  SignalState state;
  Loop loop;
  std::vector<SignalEvent> events;
  std::unique_ptr<Signals> signals;
};

// Runs `body` in a child; its pid. The child ends with 0.
template <class Body>
pid_t InChild(Body body) {
  const pid_t child = ::fork();
  if (child == 0) {
    body();
    ::_exit(0);
  }
  REQUIRE(child > 0);
  return child;
}

void Reap(pid_t child) {
  int status = 0;
  CHECK(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

TEST_CASE_FIXTURE(Fixture, "a signal that was pending before anybody watched is delivered") {
  BlockSignals();
  REQUIRE(::kill(::getpid(), SIGTERM) == 0);
  Watch();
  REQUIRE(RunUntilSeen(1));
  CHECK(events[0].number == SIGTERM);
  loop.RunOnce();
  CHECK(events.size() == 1);
}

TEST_CASE_FIXTURE(Fixture, "a signal tells who sent it") {
  BlockSignals();
  Watch();
  const pid_t child = InChild([parent = ::getpid()] { ::kill(parent, SIGUSR2); });
  REQUIRE(RunUntilSeen(1));
  const SignalEvent* sent = nullptr;
  REQUIRE(RunUntil(loop, [&] {
    for (const SignalEvent& event : events) {
      if (event.number == SIGUSR2) sent = &event;
    }
    return sent != nullptr;
  }));
  CHECK(sent->sender_pid == child);
  CHECK(sent->sender_uid == ::getuid());
  CHECK_FALSE(sent->from_kernel);
  Reap(child);
}

TEST_CASE_FIXTURE(Fixture, "the end of a child comes from the kernel") {
  BlockSignals();
  Watch();
  const pid_t child = InChild([] {});
  REQUIRE(RunUntilSeen(1));
  CHECK(events[0].number == SIGCHLD);
  CHECK(events[0].from_kernel);
  Reap(child);
}

TEST_CASE_FIXTURE(Fixture, "a SIGCHLD that was inherited as ignored is seen all the same") {
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  REQUIRE(::sigaction(SIGCHLD, &ignore, nullptr) == 0);
  BlockSignals();
  Watch();
  const pid_t child = InChild([] {});
  REQUIRE(RunUntilSeen(1));
  CHECK(events[0].number == SIGCHLD);
  Reap(child);  // and the child has stayed for us to reap
}

TEST_CASE_FIXTURE(Fixture, "every signal that can be caught and is no fault is delivered once") {
  BlockSignals();
  Watch();
  std::map<int, int> sent;
  for (int number = 1; number <= SIGRTMAX; ++number) {
    if (number >= 32 && number < SIGRTMIN) continue;  // the C library's own
    if (number == SIGKILL || number == SIGSTOP) continue;
    if (number == SIGCONT) continue;  // takes pending SIGTSTP and the like away
    bool is_fault = false;
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS}) {
      is_fault = is_fault || number == fault;
    }
    if (is_fault) continue;
    REQUIRE(::kill(::getpid(), number) == 0);
    sent[number] = 1;
  }
  REQUIRE(RunUntilSeen(sent.size()));
  REQUIRE(::kill(::getpid(), SIGCONT) == 0);
  sent[SIGCONT] = 1;
  REQUIRE(RunUntilSeen(sent.size()));
  loop.RunOnce();
  std::map<int, int> seen;
  for (const SignalEvent& event : events) ++seen[event.number];
  CHECK(seen == sent);
}

TEST_CASE_FIXTURE(Fixture, "a fault of the program itself is not held back") {
  BlockSignals();
  sigset_t blocked;
  REQUIRE(::sigprocmask(SIG_SETMASK, nullptr, &blocked) == 0);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) {
    CHECK_FALSE(::sigismember(&blocked, fault));
  }
  CHECK(::sigismember(&blocked, SIGTERM));
  CHECK(::sigismember(&blocked, SIGPIPE));
  UnblockSignals();
  REQUIRE(::sigprocmask(SIG_SETMASK, nullptr, &blocked) == 0);
  CHECK_FALSE(::sigismember(&blocked, SIGTERM));
}

TEST_CASE_FIXTURE(Fixture, "once nobody watches any more, signals wait") {
  BlockSignals();
  Watch();
  signals.reset();
  REQUIRE(::kill(::getpid(), SIGUSR1) == 0);
  loop.RunOnce();
  CHECK(events.empty());
  Watch();
  REQUIRE(RunUntilSeen(1));
  CHECK(events[0].number == SIGUSR1);
}

}  // namespace
}  // namespace modal::event

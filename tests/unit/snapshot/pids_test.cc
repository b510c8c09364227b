#include "snapshot/pids.h"

#include <doctest/doctest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include "tests/unit/snapshot/child_process.h"

namespace modal::snapshot {
namespace {

pid_t NextPid() {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(0);
  if (pid > 0) (void)EndOf(pid);
  return pid;
}

// As process 1 of a PID namespace of its own; "" if all is well.
std::string AsProcess1(const std::function<std::string()>& work) {
  const std::string text = InChild([&]() -> std::string {
    if (!EnterNamespaces(CLONE_NEWPID)) return kNotPermitted;
    return InChild(work);
  });
  if (text != kNotPermitted) return text;
  MESSAGE("skipped: namespaces are not permitted here");
  return "";
}

std::string RaiseAndLook() {
  const Result<void> raised = RaisePids();
  if (!raised) return raised.error().message();
  const pid_t next = NextPid();
  return next >= kFirstTreePid && next < kFirstTreePid + 100 ? "" : Concat("the next is ", next);
}

TEST_CASE("where ids are small the next process gets one from 1000 on") {
  CHECK(AsProcess1(RaiseAndLook) == "");
}

TEST_CASE("the same where the kernel takes no word about it") {
  CHECK(AsProcess1([]() -> std::string {
          if (::mount("none", "/proc", "tmpfs", 0, "") != 0) return "mount";
          return RaiseAndLook();
        }) == "");
}

TEST_CASE("raised twice, ids are not used up twice") {
  CHECK(AsProcess1([]() -> std::string {
          if (const std::string wrong = RaiseAndLook(); !wrong.empty()) return wrong;
          return RaiseAndLook();
        }) == "");
}

}  // namespace
}  // namespace modal::snapshot

#include <doctest/doctest.h>
#include <errno.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "agent/process/seccomp_filter.h"
#include "agent/base/sanitized.h"
#include "tests/unit/process/launch_fixture.h"

namespace modal::process {
namespace {

using namespace testing;
using Call = SeccompFilter::AllowedCall;

// What is left of getpriority(2) where only these calls are allowed: for each first argument, "."
// if it went through, "x" if it was refused. The upper half of a register, which the kernel ignores
// here, is set in the last one.
std::string Tried(std::vector<Call> calls) {
  return InAnotherProcess([&]() -> std::string {
    for (const std::string& name : kTestItself) {
      calls.push_back({name});
    }
    const Result<SeccompFilter> filter = SeccompFilter::AllowOnlyMatching(calls, true);
    if (!filter) return filter.error().message();
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    const Result<void> installed = filter->Install();
    if (!installed) return installed.error().message();
    std::string seen;
    for (const unsigned long which : {0UL, 1UL, 2UL, 0x7700000001UL}) {
      errno = 0;
      ::syscall(SYS_getpriority, which, 0);
      seen += errno == EPERM ? 'x' : '.';
    }
    return seen;
  });
}

TEST_CASE("a call is allowed if its arguments match, as far as the mask looks" *
          doctest::skip(kThreadSanitizer)) {
  CHECK(Tried({{"getpriority"}}) == "....");
  CHECK(Tried({}) == "xxxx");
  CHECK(Tried({{"getpriority", {{0, 0xffffffff, 1}}}}) == "x.x.");
  CHECK(Tried({{"getpriority", {{0, ~uint64_t{0}, 1}}}}) == "x.xx");
  CHECK(Tried({{"getpriority", {{0, 1, 0}}}}) == ".x.x");
}

TEST_CASE("all conditions of an entry must hold, and entries are alternatives" *
          doctest::skip(kThreadSanitizer)) {
  CHECK(Tried({{"getpriority", {{0, 0xffffffff, 1}, {1, 0xffffffff, 0}}}}) == "x.x.");
  CHECK(Tried({{"getpriority", {{0, 0xffffffff, 1}, {1, 0xffffffff, 9}}}}) == "xxxx");
  CHECK(Tried({{"getpriority", {{0, 0xffffffff, 0}}}, {"getpriority", {{0, 0xffffffff, 2}}}}) ==
        ".x.x");
}

}  // namespace
}  // namespace modal::process

#include <doctest/doctest.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "agent/base/strings.h"
#include "agent/process/capabilities.h"
#include "agent/process/launcher.h"
#include "agent/process/resource_limits.h"
#include "tests/unit/process/launch_fixture.h"

namespace modal::process {
namespace {

using namespace testing;

constexpr uid_t kNobody = 65534;
constexpr gid_t kNogroup = 65533;
constexpr uint64_t kBindService = uint64_t{1} << CAP_NET_BIND_SERVICE;
constexpr uint64_t kChown = uint64_t{1} << CAP_CHOWN;

Credentials Nobody() { return {kNobody, kNogroup, {kNogroup, 1234, 5678}, "nobody", "/"}; }

std::string Hex(uint64_t set) {
  char text[17];
  ::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(set));
  return text;
}

struct PrivilegeFixture : LaunchFixture {
  // The lines of /proc/self/status as `spec` would have them.
  std::string StatusUnder(LaunchSpec spec) {
    spec.argv = {"/bin/cat", "/proc/self/status"};
    const auto outcome = Run(spec);
    REQUIRE_MESSAGE(outcome, outcome.error().message());
    return outcome->output;
  }
};

TEST_CASE_FIXTURE(PrivilegeFixture, "by default nothing about user and capabilities changes") {
  const std::string ours = ReadWhole("/proc/self/status");
  const std::string theirs = StatusUnder(Spec({}));
  for (const char* name : {"Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
                           "NoNewPrivs", "Seccomp"}) {
    CHECK(StatusLine(theirs, name) == StatusLine(ours, name));
  }
}

TEST_CASE_FIXTURE(PrivilegeFixture, "another user has its own groups and no capabilities" *
                                        doctest::skip(!IsRoot())) {
  LaunchSpec spec = Spec({});
  spec.credentials = Nobody();
  const std::string status = StatusUnder(spec);
  CHECK(StatusLine(status, "Uid") == "65534\t65534\t65534\t65534");
  CHECK(StatusLine(status, "Gid") == "65533\t65533\t65533\t65533");
  CHECK(Trim(StatusLine(status, "Groups")) == "1234 5678 65533");
  CHECK(StatusLine(status, "CapPrm") == Hex(0));
  CHECK(StatusLine(status, "CapEff") == Hex(0));
  CHECK(::prctl(PR_GET_DUMPABLE) == 1);
  CHECK(::getuid() == 0);
}

TEST_CASE_FIXTURE(PrivilegeFixture,
                  "another user keeps the capabilities that are named, and only those" *
                      doctest::skip(!IsRoot())) {
  LaunchSpec spec = Spec({});
  spec.credentials = Nobody();
  spec.capabilities = kBindService;
  const std::string status = StatusUnder(spec);
  CHECK(StatusLine(status, "Uid") == "65534\t65534\t65534\t65534");
  for (const char* name : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}) {
    CHECK(StatusLine(status, name) == Hex(kBindService));
  }
}

TEST_CASE_FIXTURE(PrivilegeFixture, "root keeps the capabilities that are named, over every exec" *
                                        doctest::skip(!IsRoot())) {
  LaunchSpec spec = Spec({});
  spec.capabilities = kBindService | kChown;
  const std::string status = StatusUnder(spec);
  CHECK(StatusLine(status, "CapPrm") == Hex(kBindService | kChown));
  CHECK(StatusLine(status, "CapEff") == Hex(kBindService | kChown));
  CHECK(StatusLine(status, "CapBnd") == Hex(kBindService | kChown));
  CHECK(StatusLine(status, "CapInh") == Hex(0));
  CHECK(StatusLine(status, "CapAmb") == Hex(0));

  spec.capabilities = 0;
  const std::string none = StatusUnder(spec);
  CHECK(StatusLine(none, "CapPrm") == Hex(0));
  CHECK(StatusLine(none, "CapBnd") == Hex(0));
}

TEST_CASE_FIXTURE(PrivilegeFixture, "'all' keeps whatever we hold" * doctest::skip(!IsRoot())) {
  const CapabilitySets ours = CurrentCapabilities();
  LaunchSpec spec = Spec({});
  spec.credentials = Nobody();
  spec.capabilities = kAllCapabilities;
  CHECK(StatusLine(StatusUnder(spec), "CapEff") == Hex(ours.permitted));
}

TEST_CASE("a capability that we do not hold cannot be kept") {
  const std::string text = InAnotherProcess([]() -> std::string {
    const BlockedSignals blocked;
    CapabilitySets sets = CurrentCapabilities();
    sets.permitted &= ~kChown;
    sets.effective &= ~kChown;
    sets.inheritable = 0;
    if (!SetCapabilities(sets)) return "cannot drop";
    Reaper reaper;
    ProcessLauncher launcher(reaper);
    LaunchSpec spec = LaunchFixture::Spec({"/bin/true"});
    spec.capabilities = kChown;
    const auto process = launcher.Launch(spec, {});
    if (process) return "was launched";
    return Concat(process.error().exit_code(), " ", process.error().message());
  });
  CHECK(text ==
        "125 cannot keep CAP_CHOWN: this process does not have it; give it to the container "
        "(--cap-add)");
}

TEST_CASE("capabilities are dropped for good even where the bounding set cannot be changed") {
  const std::string text = InAnotherProcess([]() -> std::string {
    CapabilitySets sets = CurrentCapabilities();
    sets.effective &= ~(uint64_t{1} << CAP_SETPCAP);
    sets.permitted = sets.effective;
    sets.inheritable = 0;
    if (!SetCapabilities(sets)) return "cannot drop";
    LaunchFixture fixture;
    LaunchSpec spec = LaunchFixture::Spec({"/bin/cat", "/proc/self/status"});
    spec.capabilities = 0;
    const auto outcome = fixture.Run(spec);
    return outcome ? outcome->output : outcome.error().message();
  });
  CHECK(StatusLine(text, "CapPrm") == Hex(0));
  CHECK(StatusLine(text, "CapEff") == Hex(0));
  CHECK((StatusLine(text, "CapBnd") == Hex(0) || StatusLine(text, "NoNewPrivs") == "1"));
}

TEST_CASE("a change of user that is not permitted says so, and to become who one is is fine" *
          doctest::skip(!IsRoot())) {
  const std::string text = InAnotherProcess([]() -> std::string {
    const BlockedSignals blocked;
    ::syscall(SYS_setgroups, 0, nullptr);
    ::syscall(SYS_setresgid, kNogroup, kNogroup, kNogroup);
    ::syscall(SYS_setresuid, kNobody, kNobody, kNobody);
    LaunchFixture fixture;
    LaunchSpec spec = LaunchFixture::Spec({"/bin/true"});
    spec.credentials = Credentials{1000, 1000, {1000}, "app", "/home/app"};
    const Error other = fixture.Fail(spec);
    spec.credentials = Nobody();
    const auto same = fixture.Run(spec);
    return Concat(other.exit_code(), " ", other.message(), same ? " - fine" : " - refused");
  });
  CHECK(text ==
        "125 change to user app (uid 1000): set its groups: Operation not permitted; this needs "
        "CAP_SETUID and CAP_SETGID, which root has in a container by default - fine");
}

TEST_CASE_FIXTURE(PrivilegeFixture,
                  "workdir and program are looked at as the new user" * doctest::skip(!IsRoot())) {
  const TempFolder folder;
  folder.File("server", "#!/bin/sh\nexit 5\n", 0700);
  LaunchSpec spec = Spec({"./server"});
  spec.workdir = folder.path();
  spec.credentials = Nobody();
  const Error denied = Fail(spec);
  CHECK(denied.exit_code() == kExitNotExecutable);
  CHECK(denied.message() ==
        "./server: permission denied: user nobody (uid 65534) may not execute it, or may not look "
        "into a folder on the way");

  SUBCASE("PATH goes on to a program that this user may execute") {
    const TempFolder second;
    second.File("server", "#!/bin/sh\nexit 6\n", 0755);
    spec.argv = {"server"};
    spec.environment = {"PATH=" + folder.path() + ":" + second.path()};
    const auto outcome = Run(spec);
    REQUIRE_MESSAGE(outcome, outcome.error().message());
    CHECK(outcome->status == ExitStatus::Code(6));
  }
  SUBCASE("a workdir that is closed to it is 125") {
    ::chmod(folder.path().c_str(), 0700);
    const Error closed = Fail(spec);
    CHECK(closed.exit_code() == kExitAgentError);
    CHECK(closed.message() ==
          "workdir " + folder.path() + ": user nobody (uid 65534) may not enter it");
  }
}

TEST_CASE_FIXTURE(PrivilegeFixture, "no_new_privs is set when asked for") {
  LaunchSpec spec = Spec({});
  spec.no_new_privileges = true;
  CHECK(StatusLine(StatusUnder(spec), "NoNewPrivs") == "1");
}

// ---- limits ----

TEST_CASE_FIXTURE(PrivilegeFixture, "resource limits hold in the program, and not in us") {
  rlimit ours{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &ours) == 0);
  LaunchSpec spec = Spec({"/bin/sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c"});
  spec.limits = {{RLIMIT_NOFILE, {60, 70}}, {RLIMIT_CORE, {0, 0}}};
  const auto outcome = Run(spec);
  REQUIRE(outcome);
  CHECK(outcome->output == "60\n70\n0\n");
  rlimit after{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &after) == 0);
  CHECK(after.rlim_cur == ours.rlim_cur);
}

TEST_CASE_FIXTURE(PrivilegeFixture, "a limit that may not be raised is 125 and says what to do") {
  // Above fs.nr_open nobody may go.
  rlimit ours{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &ours) == 0);
  LaunchSpec spec = Spec({"/bin/true"});
  spec.limits = {{RLIMIT_CORE, {0, 0}}, {RLIMIT_NOFILE, {RLIM_INFINITY, RLIM_INFINITY}}};
  const Error error = Fail(spec);
  CHECK(error.exit_code() == kExitAgentError);
  CHECK(error.message() ==
        "set limit nofile to unlimited:unlimited: not permitted: ours is " +
            ResourceLimitToString(ours) +
            ", and only CAP_SYS_RESOURCE may raise the hard limit; raise it where the container is "
            "started (--ulimit nofile=...)");
}

// ---- seccomp ----

SeccompFilter Filter(const std::string& json) {
  Result<SeccompFilter> filter = SeccompFilter::FromProfile(json, "test.json", 0);
  REQUIRE_MESSAGE(filter, filter.error().message());
  return *std::move(filter);
}

TEST_CASE_FIXTURE(PrivilegeFixture, "a seccomp filter holds in the program, as any user") {
  const SeccompFilter filter = Filter(R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
      {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]})");
  const TempFolder folder;
  ::chmod(folder.path().c_str(), 0777);
  LaunchSpec spec = Spec({"mkdir", folder.path() + "/new"});
  spec.seccomp = &filter;
  SUBCASE("ours") {}
  SUBCASE("another, without any capability") {
    if (IsRoot()) spec.credentials = Nobody();
  }
  const auto outcome = Run(spec);
  REQUIRE_MESSAGE(outcome, outcome.error().message());
  CHECK(outcome->status == ExitStatus::Code(1));
  CHECK(outcome->output.find("Operation not permitted") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(folder.path() + "/new"));

  LaunchSpec look = Spec({});
  look.seccomp = &filter;
  const std::string status = StatusUnder(look);
  CHECK(StatusLine(status, "Seccomp") == "2");
  CHECK(StatusLine(status, "NoNewPrivs") == "1");
}

TEST_CASE_FIXTURE(PrivilegeFixture, "a filter that kills ends the program with SIGSYS") {
  const SeccompFilter filter = Filter(R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
      {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]})");
  LaunchSpec spec = Spec({"mkdir", "/tmp/never-made"});
  spec.seccomp = &filter;
  const auto outcome = Run(spec);
  REQUIRE(outcome);
  CHECK(outcome->status.signal == SIGSYS);
}

TEST_CASE_FIXTURE(PrivilegeFixture, "a filter without execve is told from a missing program") {
  std::string action;
  std::string expected;
  SUBCASE("refused") {
    action = "SCMP_ACT_ERRNO";
    expected = "/bin/true: the seccomp profile does not allow execve: Operation not permitted";
  }
  SUBCASE("killed") {
    action = "SCMP_ACT_KILL_PROCESS";
    expected = "/bin/true: the seccomp profile does not allow execve and ended the child";
  }
  const SeccompFilter filter = Filter(
      R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["execve"], "action": ")" +
      action + "\"}]}");
  LaunchSpec spec = Spec({"/bin/true"});
  spec.seccomp = &filter;
  const Error error = Fail(spec);
  CHECK(error.exit_code() == kExitAgentError);
  CHECK(error.message() == expected);
}

TEST_CASE_FIXTURE(PrivilegeFixture,
                  "nothing but execve, write and exit is needed after the filter") {
  // Allows what the shell's own start needs to fail early, and shows that the start got that far.
  const SeccompFilter filter = Filter(R"({"defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": [
      {"names": ["execve", "write", "exit_group"], "action": "SCMP_ACT_ALLOW"}]})");
  LaunchSpec spec = Spec({"/bin/true"});
  spec.seccomp = &filter;
  const auto outcome = Run(spec);
  REQUIRE(outcome);
  CHECK(outcome->status.signal == SIGSYS);

  spec.argv = {"/bin/no-such-program"};
  CHECK(Fail(spec).exit_code() == kExitNotFound);
}

}  // namespace
}  // namespace modal::process

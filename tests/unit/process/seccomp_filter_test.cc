#include "agent/process/seccomp_filter.h"

#include <doctest/doctest.h>
#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include <thread>

#include "agent/base/sanitized.h"
#include "agent/base/strings.h"
#include "agent/process/capabilities.h"
#include "agent/process/seccomp_profile.h"
#include "tests/unit/process/launch_fixture.h"

namespace modal::process {
namespace {

using namespace testing;

constexpr int kNoSuchSystemCall = 5000;
constexpr uint32_t kArchitectures[] = {SCMP_ARCH_X86_64, SCMP_ARCH_X86, SCMP_ARCH_AARCH64,
                                       SCMP_ARCH_ARM};

std::string ErrorOf(const std::string& json) {
  const Result<SeccompFilter> filter = SeccompFilter::FromProfile(json, "p.json", 0);
  if (filter) return "accepted";
  CHECK(filter.error().exit_code() == kExitAgentError);
  return filter.error().message();
}

std::string ErrorOfRule(const std::string& rule) {
  return ErrorOf(R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action":
      "SCMP_ACT_ALLOW"}, )" +
                 rule + "]}");
}

// What `body` reports in a process that has installed this profile.
std::string Under(const std::string& json, const std::function<std::string()>& body,
                  uint64_t capabilities = 0) {
  return InAnotherProcess([&]() -> std::string {
    const auto filter = SeccompFilter::FromProfile(json, "p.json", capabilities);
    if (!filter) return filter.error().message();
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    const auto installed = filter->Install();
    if (!installed) return installed.error().message();
    return body();
  });
}

// "0" for success, otherwise the name of the errno.
std::string Name(long result) { return result >= 0 ? "0" : ::strerrorname_np(errno); }

template <class... Arguments>
std::string Call(long number, Arguments... arguments) {
  return Name(::syscall(number, arguments...));
}

std::string AllowBut(const std::string& rules) {
  return R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [)" + rules + "]}";
}

TEST_CASE("a rule refuses a system call with its errno") {
  const std::string json = AllowBut(R"(
      {"names": ["getppid", "no_such_call"], "action": "SCMP_ACT_ERRNO"},
      {"name": "getuid", "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
      {"names": ["getgid"], "action": "SCMP_ACT_ERRNO", "errno": "ENOSYS"})");
  CHECK(Under(json, [] {
          return Call(SYS_getppid) + Call(SYS_getuid) + Call(SYS_getgid) + Call(SYS_geteuid);
        }) == "EPERMEOPNOTSUPPENOSYS0");
}

TEST_CASE("a rule may kill the process") {
  CHECK(Under(AllowBut(R"({"names": ["getppid"], "action": "SCMP_ACT_KILL_PROCESS"})"),
              [] { return Call(SYS_getppid); }) == "\n(signal SIGSYS)");
}

TEST_CASE("conditions on arguments decide") {
  const auto rule = [](const std::string& args) {
    return AllowBut(R"({"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 11,
        "args": [)" +
                    args + "]}");
  };
  // Which of these values of the first argument are refused.
  const auto refused = [&](const std::string& args) {
    return Under(rule(args), [] {
      std::string values;
      for (const unsigned long value : {0x10UL, 0x11UL, 0x12UL, 0x13UL, 0x30UL}) {
        errno = 0;
        ::syscall(SYS_getpriority, value, 0);
        values += errno == EAGAIN ? 'x' : '.';
      }
      return values;
    });
  };
  CHECK(refused(R"({"index": 0, "value": 17, "op": "SCMP_CMP_EQ"})") == ".x...");
  CHECK(refused(R"({"index": 0, "value": 17, "op": "SCMP_CMP_NE"})") == "x.xxx");
  CHECK(refused(R"({"index": 0, "value": 17, "op": "SCMP_CMP_LT"})") == "x....");
  CHECK(refused(R"({"index": 0, "value": 17, "op": "SCMP_CMP_LE"})") == "xx...");
  CHECK(refused(R"({"index": 0, "value": 17, "op": "SCMP_CMP_GT"})") == "..xxx");
  CHECK(refused(R"({"index": 0, "value": 17, "op": "SCMP_CMP_GE"})") == ".xxxx");
  CHECK(refused(R"({"index": 0, "value": 32, "valueTwo": 32, "op": "SCMP_CMP_MASKED_EQ"})") ==
        "....x");
  CHECK(refused(R"({"index": 0, "value": 32, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"})") ==
        "xxxx.");
  // On different arguments all must hold, on the same one any.
  CHECK(refused(R"({"index": 0, "value": 17, "op": "SCMP_CMP_GE"},
                   {"index": 1, "value": 1, "op": "SCMP_CMP_EQ"})") == ".....");
  CHECK(refused(R"({"index": 0, "value": 17, "op": "SCMP_CMP_GE"},
                   {"index": 1, "value": 0, "op": "SCMP_CMP_EQ"})") == ".xxxx");
  CHECK(refused(R"({"index": 0, "value": 16, "op": "SCMP_CMP_EQ"},
                   {"index": 0, "value": 48, "op": "SCMP_CMP_EQ"})") == "x...x");
}

TEST_CASE("rules are for those who have, or have not, a capability") {
  const std::string json = AllowBut(R"(
      {"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_CHOWN", "CAP_KILL"]}},
      {"names": ["getuid"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_CHOWN", "CAP_KILL"]}},
      {"names": ["getgid"], "action": "SCMP_ACT_ERRNO", "includes": {}, "excludes": {}})");
  const auto calls = [] {
    return Call(SYS_getppid) + " " + Call(SYS_getuid) + " " + Call(SYS_getgid);
  };
  const uint64_t chown = uint64_t{1} << CAP_CHOWN;
  const uint64_t kill = uint64_t{1} << CAP_KILL;
  CHECK(Under(json, calls, 0) == "0 EPERM EPERM");
  CHECK(Under(json, calls, chown) == "0 0 EPERM");
  CHECK(Under(json, calls, chown | kill) == "EPERM 0 EPERM");
}

TEST_CASE("rules are for an architecture and a kernel") {
  utsname kernel{};
  REQUIRE(::uname(&kernel) == 0);
  const std::string machine = kernel.machine;
  const std::string ours = machine == "x86_64" ? "amd64" : "arm64";
  const std::string json = AllowBut(
      R"({"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "includes": {"arches": [")" + ours +
      R"(", "s390"]}},
      {"names": ["getuid"], "action": "SCMP_ACT_ERRNO", "includes": {"arches": ["s390"]}},
      {"names": ["geteuid"], "action": "SCMP_ACT_ERRNO", "excludes": {"arches": [")" +
      ours +
      R"("]}},
      {"names": ["getgid"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "3.0"}},
      {"names": ["getegid"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "9999.0"}},
      {"names": ["getpgrp", "getpgid"], "action": "SCMP_ACT_ERRNO", "excludes": {"minKernel": "3.0"}})");
  CHECK(Under(json, [] {
          return Call(SYS_getppid) + " " + Call(SYS_getuid) + " " + Call(SYS_geteuid) + " " +
                 Call(SYS_getgid) + " " + Call(SYS_getegid) + " " + Call(SYS_getpgid, 0);
        }) == "EPERM 0 0 EPERM 0 0");
}

TEST_CASE("what is newer than a profile knows is ENOSYS, and what it leaves out is refused" *
          doctest::skip(kThreadSanitizer)) {
  std::string names;
  for (const std::string& name : kTestItself) names += "\"" + name + "\", ";
  const std::string rest = R"("syscalls": [{"names": [)" + names +
                           R"("pidfd_open"], "action": "SCMP_ACT_ALLOW"},
      {"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_CHOWN"]}}]})";
  const auto calls = [] { return Call(SYS_getppid) + " " + Call(kNoSuchSystemCall); };
  CHECK(Under(R"({"defaultAction": "SCMP_ACT_ERRNO", )" + rest, calls) == "EPERM ENOSYS");
  CHECK(Under(R"({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13, )" + rest, calls) ==
        "EACCES ENOSYS");
  CHECK(Under(R"({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "ENOSYS", )" + rest, calls) ==
        "ENOSYS ENOSYS");
}

TEST_CASE("architectures may be listed either way, and foreign ones do no harm") {
  const std::string rules = R"("syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_ERRNO"}]})";
  const auto call = [] { return Call(SYS_getppid); };
  CHECK(Under(R"({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64",
      "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_S390X"], )" +
                  rules,
              call) == "EPERM");
  CHECK(Under(R"({"defaultAction": "SCMP_ACT_ALLOW", "archMap": [
      {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
      {"architecture": "SCMP_ARCH_S390X", "subArchitectures": ["SCMP_ARCH_S390"]},
      {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": null}], )" +
                  rules,
              call) == "EPERM");
}

TEST_CASE("a profile that cannot be read says where and why") {
  CHECK(ErrorOf("") == "p.json:1:1: is not valid JSON");
  CHECK(ErrorOf("{\n  \"defaultAction\": SCMP\n}") == "p.json:2:20: is not valid JSON");
  CHECK(ErrorOf("[]") == "p.json: must be an object");
  CHECK(ErrorOf("{}") == "p.json: defaultAction: is missing");
  CHECK(ErrorOf(R"({"defaultAction": 1})") == "p.json: defaultAction: must be a text");
  CHECK(ErrorOf(R"({"defaultAction": "SCMP_ACT_ALOW"})") ==
        "p.json: defaultAction: unknown action 'SCMP_ACT_ALOW'; did you mean SCMP_ACT_ALLOW?");
  CHECK(ErrorOf(R"({"defaultAction": "SCMP_ACT_NOTIFY"})") ==
        "p.json: defaultAction: SCMP_ACT_NOTIFY is not supported: nobody here could be asked");
  CHECK(ErrorOf(R"({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096})") ==
        "p.json: defaultErrnoRet: 4096 is too high; the most is 4095");
  CHECK(ErrorOf(R"({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "EWHAT"})") ==
        "p.json: defaultErrno: 'EWHAT' is no errno name");
  CHECK(ErrorOf(R"({"defaultAction": "SCMP_ACT_ALLOW", "syscals": []})") ==
        "p.json: unknown key 'syscals'; did you mean syscalls?");
  CHECK(ErrorOf(R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}})") ==
        "p.json: syscalls: must be a list");
  CHECK(ErrorOf(R"({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"})") ==
        "p.json: listenerPath: notifying another program is not supported");
  CHECK(ErrorOf(R"({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOGS"]})") ==
        "p.json: flags[0]: unknown flag 'SECCOMP_FILTER_FLAG_LOGS'; did you mean "
        "SECCOMP_FILTER_FLAG_LOG?");
  CHECK(ErrorOf(R"({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X64"]})") ==
        "p.json: architectures[0]: unknown architecture 'SCMP_ARCH_X64'; did you mean "
        "SCMP_ARCH_X86?");
  CHECK(ErrorOf(R"({"defaultAction": "SCMP_ACT_ALLOW", "architectures": [], "archMap": []})") ==
        "p.json: architectures: stands beside archMap; a profile has one of them");
  CHECK(ErrorOf(R"({"defaultAction": "SCMP_ACT_ALLOW", "archMap": [{"arch": "x"}]})")
            .starts_with("p.json: archMap[0]: unknown key 'arch'"));
}

TEST_CASE("a rule that cannot be read says where and why") {
  CHECK(ErrorOfRule("7") == "p.json: syscalls[1]: must be an object");
  CHECK(ErrorOfRule(R"({"action": "SCMP_ACT_ALLOW"})") ==
        "p.json: syscalls[1].names: is missing: the rule names no system call");
  CHECK(ErrorOfRule(R"({"names": [], "action": "SCMP_ACT_ALLOW"})") ==
        "p.json: syscalls[1].names: is missing: the rule names no system call");
  CHECK(ErrorOfRule(R"({"names": ["read", 1], "action": "SCMP_ACT_ALLOW"})") ==
        "p.json: syscalls[1].names[1]: must be a text");
  CHECK(ErrorOfRule(R"({"names": [""], "action": "SCMP_ACT_ALLOW"})") ==
        "p.json: syscalls[1].names: holds an empty name");
  CHECK(ErrorOfRule(R"({"names": ["a"], "name": "b", "action": "SCMP_ACT_ALLOW"})") ==
        "p.json: syscalls[1].name: stands beside names; a rule has one of them");
  CHECK(ErrorOfRule(R"({"names": ["read"]})") == "p.json: syscalls[1].action: is missing");
  CHECK(ErrorOfRule(R"({"names": ["read"], "action": "SCMP_ACT_FOO"})") ==
        "p.json: syscalls[1].action: unknown action 'SCMP_ACT_FOO'; did you mean SCMP_ACT_LOG?");
  CHECK(ErrorOfRule(R"({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": -1})") ==
        "p.json: syscalls[1].errnoRet: must be a whole number, 0 or more");
  CHECK(ErrorOfRule(R"({"names": ["read"], "action": "SCMP_ACT_ALLOW", "arg": []})") ==
        "p.json: syscalls[1]: unknown key 'arg'; did you mean args?");
  const auto with_args = [](const std::string& args) {
    return ErrorOfRule(R"({"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": )" + args + "}");
  };
  CHECK(with_args("{}") == "p.json: syscalls[1].args: must be a list");
  CHECK(with_args(R"([{"value": 1, "op": "SCMP_CMP_EQ"}])") ==
        "p.json: syscalls[1].args[0].index: is missing");
  CHECK(with_args(R"([{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}])") ==
        "p.json: syscalls[1].args[0].index: 6 is too high; the most is 5");
  CHECK(with_args(R"([{"index": 0, "value": "1", "op": "SCMP_CMP_EQ"}])") ==
        "p.json: syscalls[1].args[0].value: must be a whole number, 0 or more");
  CHECK(with_args(R"([{"index": 0, "value": 1, "op": "SCMP_CMP_QE"}])")
            .starts_with("p.json: syscalls[1].args[0].op: unknown operator 'SCMP_CMP_QE'"));
  CHECK(with_args(R"([{"index": 0, "value": 1, "op": "SCMP_CMP_EQ", "value2": 1}])")
            .starts_with("p.json: syscalls[1].args[0]: unknown key 'value2'"));
  const auto with_condition = [](const std::string& condition) {
    return ErrorOfRule(R"({"names": ["read"], "action": "SCMP_ACT_ERRNO", )" + condition + "}");
  };
  CHECK(with_condition(R"("includes": {"caps": ["CAP_SYS_ADMN"]})") ==
        "p.json: syscalls[1].includes.caps[0]: unknown capability 'CAP_SYS_ADMN'; did you mean "
        "CAP_SYS_ADMIN?");
  CHECK(with_condition(R"("excludes": {"minKernel": "4"})") ==
        "p.json: syscalls[1].excludes.minKernel: '4' is not like 4.8");
  CHECK(with_condition(R"("excludes": {"arch": ["amd64"]})")
            .starts_with("p.json: syscalls[1].excludes: unknown key 'arch'"));
  CHECK(with_condition(R"("includes": [])") == "p.json: syscalls[1].includes: must be an object");
}

TEST_CASE("a list of allowed calls kills or refuses all others" * doctest::skip(kThreadSanitizer)) {
  std::vector<std::string> names = kTestItself;
  names.insert(names.end(), {"getpid", "no_such_call"});
  const auto try_it = [&](bool deny_with_errno) {
    return InAnotherProcess([&]() -> std::string {
      const auto filter = SeccompFilter::AllowOnly(names, deny_with_errno);
      if (!filter) return filter.error().message();
      ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
      if (!filter->Install()) return "not installed";
      return Call(SYS_getpid, 0) == "0" ? Call(SYS_getppid) : "no pid";
    });
  };
  CHECK(try_it(true) == "EPERM");
  CHECK(try_it(false) == "\n(signal SIGSYS)");
}

TEST_CASE("a filter holds in threads that run already") {
  CHECK(InAnotherProcess([]() -> std::string {
          const auto filter = SeccompFilter::FromProfile(
              AllowBut(R"({"names": ["getppid"], "action": "SCMP_ACT_ERRNO"})"), "p.json", 0);
          if (!filter) return filter.error().message();
          ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
          Pipe installed;
          std::string seen;
          std::thread other([&] {
            ReadToEnd(installed.reader.get());
            seen = Call(SYS_getppid);
          });
          const bool done = filter->Install().ok();
          installed.writer.Reset();
          other.join();
          return done ? seen : "not installed";
        }) == "EPERM");
}

TEST_CASE("a filter cannot be installed by those who could abuse it" * doctest::skip(!IsRoot())) {
  CHECK(InAnotherProcess([]() -> std::string {
          const auto filter = SeccompFilter::AllowOnly({"write"}, true);
          (void)DropAllCapabilities();
          const auto installed = filter->Install();
          return installed ? "installed" : installed.error().message();
        }) == "install the seccomp filter: Permission denied");
}

// ---- the default profile ----

TEST_CASE("the default profile names no system call that does not exist") {
  const auto profile = ReadSeccompProfile(SeccompFilter::DefaultProfile(), "default.json", {});
  REQUIRE(profile);
  // Newer than the library that builds us may be; elsewhere than on these three, nothing.
  const std::vector<std::string> newer{
      "cachestat",     "fchmodat2",      "map_shadow_stack",
      "futex_wake",    "futex_wait",     "futex_requeue",
      "statmount",     "listmount",      "mseal",
      "setxattrat",    "getxattrat",     "listxattrat",
      "removexattrat", "open_tree_attr", "set_mempolicy_home_node"};
  for (const std::string& name : profile->known_names) {
    bool known = std::find(newer.begin(), newer.end(), name) != newer.end();
    for (const uint32_t arch : kArchitectures) {
      known |= ::seccomp_syscall_resolve_name_arch(arch, name.c_str()) != __NR_SCMP_ERROR;
    }
    CHECK_MESSAGE(known, name);
  }
}

TEST_CASE("under the default profile what administers the machine is refused") {
  const std::string json(SeccompFilter::DefaultProfile());
  CHECK(Under(json, [] {
          std::string names;
          for (const long number : {SYS_mount,
                                    SYS_umount2,
                                    SYS_pivot_root,
                                    SYS_unshare,
                                    SYS_setns,
                                    SYS_kexec_load,
                                    SYS_bpf,
                                    SYS_perf_event_open,
                                    SYS_userfaultfd,
                                    SYS_keyctl,
                                    SYS_add_key,
                                    SYS_request_key,
                                    SYS_init_module,
                                    SYS_delete_module,
                                    SYS_reboot,
                                    SYS_swapon,
                                    SYS_swapoff,
                                    SYS_settimeofday,
                                    SYS_clock_settime,
                                    SYS_io_uring_setup,
                                    SYS_open_by_handle_at,
                                    SYS_chroot,
                                    SYS_fsopen,
                                    SYS_move_mount,
                                    SYS_sethostname,
                                    SYS_acct}) {
            if (Call(number, 0, 0, 0, 0, 0) != "EPERM") names += std::to_string(number) + " ";
          }
          return names;
        }) == "");
}

TEST_CASE("under the default profile processes fork but make no namespaces") {
  const std::string json(SeccompFilter::DefaultProfile());
  const auto clone_with = [](unsigned long flags) {
    const long pid = ::syscall(SYS_clone, flags | SIGCHLD, nullptr, nullptr, nullptr, nullptr);
    if (pid == 0) ::_exit(0);
    return Name(pid);
  };
  CHECK(Under(json, [&] {
          std::string names = clone_with(0);
          for (const unsigned long flag : {CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
                                           CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET}) {
            names += " " + clone_with(flag);
          }
          return names + " " + clone_with(CLONE_NEWUSER | CLONE_NEWPID) + " " +
                 Call(SYS_clone3, nullptr, 0);
        }) == "0 EPERM EPERM EPERM EPERM EPERM EPERM EPERM EPERM ENOSYS");
}

TEST_CASE("under the default profile sockets and the unknown look like an older kernel's") {
  const std::string json(SeccompFilter::DefaultProfile());
  CHECK(Under(json, [] {
          std::string names;
          for (const int family : {AF_UNIX, AF_INET, 38 /* AF_ALG */, 40 /* AF_VSOCK */}) {
            names += Name(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0)) + " ";
          }
          return names + Call(kNoSuchSystemCall) + " " + Call(SYS_personality, 0xffffffffUL) + " " +
                 Call(SYS_personality, 0x400000UL);
        }) == "0 0 EAFNOSUPPORT EAFNOSUPPORT ENOSYS 0 ENOSYS");
}

TEST_CASE("under the default profile a capability brings its system calls back") {
  const std::string json(SeccompFilter::DefaultProfile());
  const auto calls = [] {
    // Nothing is mounted and no namespace made: the arguments are wrong.
    return Call(SYS_mount, nullptr, nullptr, nullptr, 0, nullptr) + " " + Call(SYS_unshare, 0x1UL) +
           " " + Call(SYS_clone3, nullptr, 0) + " " + Call(SYS_chroot, nullptr);
  };
  CHECK(Under(json, calls, 0) == "EPERM EPERM ENOSYS EPERM");
  CHECK(Under(json, calls, uint64_t{1} << CAP_SYS_ADMIN) == "EFAULT EINVAL EINVAL EPERM");
  CHECK(Under(json, calls, uint64_t{1} << CAP_SYS_CHROOT) == "EPERM EPERM ENOSYS EFAULT");
}

TEST_CASE_FIXTURE(LaunchFixture, "ordinary programs run under the default profile") {
  const auto filter = SeccompFilter::FromProfile(SeccompFilter::DefaultProfile(), "default", 0);
  REQUIRE(filter);
  const TempFolder folder;
  LaunchSpec spec =
      Spec({"/bin/sh", "-c",
            "mkdir a && echo text > a/b && mv a c && ls -l c | wc -l && "
            "(sleep 0 & wait) && cat c/b | tr a-z A-Z && rm -r c && date > /dev/null"});
  spec.workdir = folder.path();
  spec.seccomp = &*filter;
  const auto outcome = Run(spec);
  REQUIRE(outcome);
  CHECK(outcome->output == "2\nTEXT\n");
  CHECK(outcome->status.ok());
}

}  // namespace
}  // namespace modal::process

#include "agent/process/child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "agent/process/capabilities.h"
#include "agent/process/terminal.h"
#include "agent/process/title.h"

namespace modal::process {
namespace {

constexpr int kLastSignal = 64;

// struct sigaction as rt_sigaction(2) takes it. The C library's own refuses the two signals that it
// keeps for itself, and those may be inherited as ignored like any other.
struct KernelSigaction {
  sighandler_t handler;
  unsigned long flags;
  void (*restorer)();
  uint64_t mask;
};

bool Fail(ChildReport& report, Step step, int index = 0) {
  report.step = step;
  report.error = errno;
  report.index = index;
  return false;
}

bool EnterGroup(const ChildPlan& plan, ChildReport& report) {
  if (plan.session == SessionMode::kNewSession) {
    return ::setsid() >= 0 || Fail(report, Step::kSession);
  }
  if (::setpgid(0, 0) != 0) return Fail(report, Step::kSession);
  if (plan.session == SessionMode::kForegroundGroup) SetForegroundGroup(0, ::getpid());
  return true;
}

// A descriptor that stands where another one is to go is moved out of the way first.
bool MoveAside(ChildPlan& plan, ChildReport& report) {
  int above = 0;
  for (const FdMapping& mapping : plan.fds) {
    if (mapping.theirs >= above) above = mapping.theirs + 1;
  }
  for (size_t i = 0; i < plan.fds.size(); ++i) {
    FdMapping& mapping = plan.fds[i];
    bool in_the_way = false;
    for (const FdMapping& other : plan.fds) in_the_way |= other.theirs == mapping.ours;
    if (!in_the_way || mapping.ours == mapping.theirs) continue;
    mapping.ours = ::fcntl(mapping.ours, F_DUPFD_CLOEXEC, above);
    if (mapping.ours < 0) return Fail(report, Step::kDescriptors, static_cast<int>(i));
  }
  return true;
}

bool MapDescriptors(ChildPlan& plan, ChildReport& report) {
  if (!MoveAside(plan, report)) return false;
  for (size_t i = 0; i < plan.fds.size(); ++i) {
    const FdMapping& mapping = plan.fds[i];
    const int done = mapping.ours == mapping.theirs ? ::fcntl(mapping.ours, F_SETFD, 0)
                                                    : ::dup2(mapping.ours, mapping.theirs);
    if (done < 0) return Fail(report, Step::kDescriptors, static_cast<int>(i));
  }
  return true;
}

bool SetLimits(const ChildPlan& plan, ChildReport& report) {
  for (size_t i = 0; i < plan.limits.size(); ++i) {
    const ResourceLimit& limit = plan.limits[i];
    if (::prlimit(0, static_cast<__rlimit_resource>(limit.resource), &limit.limit, nullptr) != 0) {
      return Fail(report, Step::kLimits, static_cast<int>(i));
    }
  }
  return true;
}

// Raw system calls: glibc would change all threads of the parent, too.
bool ChangeUser(const ChildPlan& plan, ChildReport& report) {
  for (int number = 0; number < 64; ++number) {
    if ((plan.bounding_drops >> number & 1) == 0) continue;
    if (::prctl(PR_CAPBSET_DROP, number, 0, 0, 0) != 0) {
      return Fail(report, Step::kBoundingSet, number);
    }
  }
  if (plan.groups && ::syscall(SYS_setgroups, plan.groups->size(), plan.groups->data()) != 0) {
    return Fail(report, Step::kGroups);
  }
  if (plan.gid && ::syscall(SYS_setresgid, *plan.gid, *plan.gid, *plan.gid) != 0) {
    return Fail(report, Step::kGroupId);
  }
  if (plan.uid) {
    // Otherwise the change to another user takes the permitted set as well.
    if (plan.capabilities && ::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) {
      return Fail(report, Step::kCapabilities);
    }
    if (::syscall(SYS_setresuid, *plan.uid, *plan.uid, *plan.uid) != 0) {
      return Fail(report, Step::kUserId);
    }
  }
  return true;
}

bool SetUpCapabilities(const ChildPlan& plan, ChildReport& report) {
  if (!plan.capabilities) return true;
  const uint64_t held = *plan.capabilities;
  const uint64_t inheritable = plan.inherit_capabilities ? held : 0;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  const auto low = [](uint64_t set) { return static_cast<uint32_t>(set); };
  const auto high = [](uint64_t set) { return static_cast<uint32_t>(set >> 32); };
  const __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {
      {low(held), low(held), low(inheritable)}, {high(held), high(held), high(inheritable)}};
  if (::syscall(SYS_capset, &header, data) != 0) return Fail(report, Step::kCapabilities);
  if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) {
    return Fail(report, Step::kCapabilities);
  }
  for (int number = 0; number < 64; ++number) {
    if ((inheritable >> number & 1) == 0) continue;
    if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0) != 0) {
      return Fail(report, Step::kCapabilities);
    }
  }
  return true;
}

bool EnterWorkdir(const ChildPlan& plan, ChildReport& report) {
  return plan.workdir == nullptr || ::chdir(plan.workdir) == 0 || Fail(report, Step::kWorkdir);
}

bool GiveUpPrivileges(const ChildPlan& plan, ChildReport& report) {
  return !plan.no_new_privileges || ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ||
         Fail(report, Step::kNoNewPrivileges);
}

// After the change of user, which clears it.
bool TieToParent(const ChildPlan& plan, ChildReport& report) {
  if (plan.parent_death_signal == 0) return true;
  if (::prctl(PR_SET_PDEATHSIG, plan.parent_death_signal, 0, 0, 0) != 0) {
    return Fail(report, Step::kParentDeathSignal);
  }
  if (::getppid() == plan.parent) return true;
  errno = ESRCH;  // it died before we asked
  return Fail(report, Step::kParentDeathSignal);
}

void SetDisposition(int number, sighandler_t handler) {
  const KernelSigaction action{handler, 0, nullptr, 0};
  ::syscall(SYS_rt_sigaction, number, &action, nullptr, sizeof(action.mask));
}

// Dispositions before the mask: what is pending then acts as on any program that has not asked for
// anything else. SIGKILL and SIGSTOP cannot be set, which is no failure.
//
// A ^Z before the exec would halt the child, and with it the parent, which waits for the exec. So
// the terminal's stop signals are ignored until the last moment, which also forgets pending ones.
bool ResetSignals(ChildReport& report) {
  constexpr int kStops[] = {SIGTTIN, SIGTTOU, SIGTSTP};
  for (int number = 1; number <= kLastSignal; ++number) SetDisposition(number, SIG_DFL);
  for (const int stop : kStops) SetDisposition(stop, SIG_IGN);
  const uint64_t none = 0;
  if (::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, nullptr, sizeof(none)) != 0) {
    return Fail(report, Step::kSignals);
  }
  for (const int stop : kStops) SetDisposition(stop, SIG_DFL);
  return true;
}

// Last: from here on nothing but execve is called, and after a failure write and exit_group.
bool InstallFilter(const ChildPlan& plan, ChildReport& report) {
  if (plan.seccomp == nullptr) return true;
  const sock_fprog program = plan.seccomp->program();
  return ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, plan.seccomp->flags(), &program) == 0 ||
         Fail(report, Step::kSeccomp);
}

// As execvp(3): what is not there or not for us is passed over, and "not for us" is remembered. The
// report is written when all have failed: the parent sees it, also after an execve that succeeded.
bool Execute(const ChildPlan& plan, ChildReport& report) {
  ChildReport failure;
  for (size_t i = 0; i < plan.candidates.size(); ++i) {
    ::execve(plan.candidates[i], const_cast<char* const*>(plan.argv.data()),
             const_cast<char* const*>(plan.environment.data()));
    const bool pass_over = errno == ENOENT || errno == ENOTDIR || errno == EACCES;
    if (i == 0 || !pass_over || (errno == EACCES && failure.error != EACCES)) {
      Fail(failure, Step::kExec, static_cast<int>(i));
    }
    if (!pass_over) break;
  }
  report = failure;
  return false;
}

bool Prepare(ChildPlan& plan, ChildReport& report) {
  return EnterGroup(plan, report) && MapDescriptors(plan, report) && SetLimits(plan, report) &&
         ChangeUser(plan, report) && SetUpCapabilities(plan, report) &&
         EnterWorkdir(plan, report) && GiveUpPrivileges(plan, report) && TieToParent(plan, report);
}

void CloseRange(unsigned first, unsigned last) {
  if (first > last || ::close_range(first, last, 0) == 0) return;
  // The kernel does not know it, or does not let us.
  const auto most = static_cast<unsigned>(std::max(::sysconf(_SC_OPEN_MAX), 1024L));
  for (unsigned fd = first; fd <= std::min(last, most); ++fd) (void)::close(static_cast<int>(fd));
}

// What an exec would close, and the rest.
void CloseOthers(const ChildPlan& plan) {
  std::vector<unsigned> kept;
  for (const FdMapping& mapping : plan.fds) kept.push_back(static_cast<unsigned>(mapping.theirs));
  std::sort(kept.begin(), kept.end());
  unsigned first = STDERR_FILENO + 1;
  for (const unsigned fd : kept) {
    if (fd < first) continue;
    CloseRange(first, fd - 1);
    first = fd + 1;
  }
  CloseRange(first, ~0U);
}

}  // namespace

void RunChild(ChildPlan& plan, ChildReport& report) {
  const bool is_ready =
      Prepare(plan, report) && ResetSignals(report) && InstallFilter(plan, report);
  if (is_ready) Execute(plan, report);
  if (plan.report_fd >= 0) {
    [[maybe_unused]] const ssize_t size = ::write(plan.report_fd, &report, sizeof(report));
  }
  ::_exit(report.step == Step::kExec && report.error == ENOENT ? kExitNotFound : kExitAgentError);
}

void RunCopy(ChildPlan& plan, Personality personality) {
  ChildReport report;
  if (!Prepare(plan, report)) {
    ::dprintf(STDERR_FILENO, "%s: cannot start, step %d: %s\n", plan.argv[0],
              static_cast<int>(report.step), ::strerror(report.error));
    ::_exit(kExitAgentError);
  }
  CloseOthers(plan);
  environ = const_cast<char**>(plan.environment.data());
  SetTitle(plan.argv[0]);
  const std::vector<const char*>& argv = plan.argv;
  ::_exit(personality({const_cast<char* const*>(argv.data()), argv.size() - 1}));
}

}  // namespace modal::process

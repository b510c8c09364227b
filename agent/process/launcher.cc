#include "agent/process/launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <exception>
#include <utility>

// The only place that sees Boost.
#include <boost/asio/io_context.hpp>
#include <boost/filesystem/path.hpp>
#include <boost/process/v2/posix/vfork_launcher.hpp>
#include <boost/process/v2/process.hpp>

#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"
#include "agent/process/capabilities.h"
#include "agent/process/child.h"
#include "agent/process/executable.h"
#include "agent/process/process_table.h"
#include "agent/process/reaper.h"
#include "agent/process/resource_limits.h"

namespace modal::process {
namespace {

constexpr std::string_view kOwnExecutable = "/proc/self/exe";

// A plan and the text that it points to.
struct Preparation {
  std::vector<std::string> candidates;
  ChildPlan plan;
};

// ---- before the fork ----

std::string_view PathOf(const LaunchSpec& spec) {
  constexpr std::string_view kName = "PATH=";
  for (const std::string& variable : spec.environment) {
    if (variable.starts_with(kName)) return std::string_view(variable).substr(kName.size());
  }
  return kDefaultPath;
}

// Without /proc it is where we were started from, which may be relative to where we still are.
std::string OwnExecutable() {
  if (::access(kOwnExecutable.data(), F_OK) == 0) return std::string(kOwnExecutable);
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the kernel's own way to pass an address
  const char* const path = reinterpret_cast<const char*>(::getauxval(AT_EXECFN));
  if (path == nullptr) return std::string(kOwnExecutable);
  std::array<char, PATH_MAX> here;
  if (*path == '/' || ::getcwd(here.data(), here.size()) == nullptr) return path;
  return Concat(here.data(), "/", path);
}

Result<void> PrepareProgram(const LaunchSpec& spec, Preparation& preparation) {
  struct stat workdir {};
  if (!spec.workdir.empty() && ::stat(spec.workdir.c_str(), &workdir) != 0 && errno == ENOENT) {
    return Error(Concat("workdir ", spec.workdir, ": no such directory"));
  }
  if (spec.personality != nullptr) {
    if (spec.argv.empty()) return Error("a personality without a title");
  } else if (!spec.executable.empty()) {
    preparation.candidates = {spec.executable == kOwnExecutable ? OwnExecutable()
                                                                : spec.executable};
  } else {
    if (spec.argv.empty()) return Error("there is no command to run");
    Result<std::vector<std::string>> found =
        ExecutableCandidates(spec.argv[0], std::string(PathOf(spec)), spec.workdir);
    if (!found) return found.error();
    preparation.candidates = *std::move(found);
  }

  ChildPlan& plan = preparation.plan;
  for (const std::string& path : preparation.candidates) plan.candidates.push_back(path.c_str());
  for (const std::string& word : spec.argv) plan.argv.push_back(word.c_str());
  if (spec.argv.empty()) plan.argv.push_back(plan.candidates[0]);
  plan.argv.push_back(nullptr);
  for (const std::string& variable : spec.environment) {
    plan.environment.push_back(variable.c_str());
  }
  plan.environment.push_back(nullptr);
  if (!spec.workdir.empty()) plan.workdir = spec.workdir.c_str();
  return {};
}

std::vector<gid_t> OwnGroups() {
  std::vector<gid_t> groups(static_cast<size_t>(std::max(0, ::getgroups(0, nullptr))));
  const int count = ::getgroups(static_cast<int>(groups.size()), groups.data());
  groups.resize(static_cast<size_t>(std::max(0, count)));
  std::sort(groups.begin(), groups.end());
  return groups;
}

// Only what changes, so that `--user app` works in a container that runs as app already. Its
// supplementary groups then stay what the container's starter made them.
void PrepareUser(const Credentials& to, ChildPlan& plan) {
  uid_t uid[3];
  gid_t gid[3];
  MODAL_CHECK(::getresuid(&uid[0], &uid[1], &uid[2]) == 0);
  MODAL_CHECK(::getresgid(&gid[0], &gid[1], &gid[2]) == 0);
  if (std::any_of(uid, uid + 3, [&](uid_t id) { return id != to.uid; })) plan.uid = to.uid;
  if (std::any_of(gid, gid + 3, [&](gid_t id) { return id != to.gid; })) plan.gid = to.gid;

  std::vector<gid_t> groups = to.groups;
  std::sort(groups.begin(), groups.end());
  if (groups == OwnGroups()) return;
  const bool may_set = (CurrentCapabilities().effective >> CAP_SETGID & 1) != 0;
  if (may_set || plan.uid || plan.gid) plan.groups = std::move(groups);
}

Result<void> PrepareCapabilities(const LaunchSpec& spec, ChildPlan& plan) {
  if (!spec.capabilities) return {};
  const CapabilitySets current = CurrentCapabilities();
  const uint64_t wanted =
      *spec.capabilities == kAllCapabilities ? current.permitted : *spec.capabilities;
  if (const uint64_t missing = wanted & ~current.permitted) {
    return Error(Concat("cannot keep ", CapabilitiesToString(missing),
                        ": this process does not have it; give it to the container (--cap-add)"));
  }
  plan.capabilities = wanted;
  const uid_t uid = spec.credentials ? spec.credentials->uid : ::geteuid();
  plan.inherit_capabilities = uid != 0;
  plan.bounding_drops = BoundingSet() & ~wanted;
  // Without CAP_SETPCAP the bounding set cannot be made smaller. What it is there for, that no
  // exec gives back what was dropped, no_new_privs does as well.
  if (plan.bounding_drops != 0 && (current.effective >> CAP_SETPCAP & 1) == 0) {
    plan.bounding_drops = 0;
    plan.no_new_privileges = true;
  }
  return {};
}

Result<void> PrepareDescriptors(const LaunchSpec& spec, ChildPlan& plan) {
  for (size_t i = 0; i < spec.fds.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (spec.fds[i].theirs == spec.fds[j].theirs) {
        return Error(Concat("two descriptors are to become ", spec.fds[i].theirs));
      }
    }
  }
  plan.fds = spec.fds;
  return {};
}

Result<void> Prepare(const LaunchSpec& spec, Preparation& preparation) {
  ChildPlan& plan = preparation.plan;
  plan.session = spec.session;
  plan.limits = spec.limits;
  plan.no_new_privileges = spec.no_new_privileges || spec.seccomp != nullptr;
  plan.parent_death_signal = spec.parent_death_signal;
  plan.parent = ::getpid();
  plan.seccomp = spec.seccomp;
  if (spec.credentials) PrepareUser(*spec.credentials, plan);
  if (auto done = PrepareCapabilities(spec, plan); !done) return done;
  if (auto done = PrepareDescriptors(spec, plan); !done) return done;
  return PrepareProgram(spec, preparation);
}

// ---- the fork ----

// A vfork child that changes its user makes the memory that it shares with us undumpable, which
// would hide our /proc/self from a debugger and, where we are not root, from ourselves.
class DumpableGuard {
 public:
  explicit DumpableGuard(const ChildPlan& plan)
      : before_(plan.uid || plan.gid || plan.capabilities ? ::prctl(PR_GET_DUMPABLE) : -1) {}
  DumpableGuard(const DumpableGuard&) = delete;
  DumpableGuard& operator=(const DumpableGuard&) = delete;
  ~DumpableGuard() {
    if (before_ == 1) ::prctl(PR_SET_DUMPABLE, 1);
  }

 private:
  int before_;
};

// Boost calls this in the child. It never returns there: Boost's own way out of a failure would run
// the parent's exit handlers.
struct ChildInitializer {
  template <class BoostLauncher>
  boost::system::error_code on_exec_setup(BoostLauncher&, const boost::filesystem::path&,
                                          const char* const*(&)) {
    RunChild(plan, report);
  }

  ChildPlan& plan;
  ChildReport& report;
};

// The child's pid, or the negative errno of the fork.
pid_t Fork(ChildPlan& plan, ChildReport& report) {
  const DumpableGuard dumpable(plan);
  boost::process::v2::posix::vfork_launcher launcher;
  try {
    // A context of its own, so that what Boost does to it in the child, in our memory, hits nobody.
    boost::asio::io_context context;
    boost::system::error_code failure;
    const char* no_arguments[] = {nullptr};
    const char** const arguments = no_arguments;
    auto child = launcher(context.get_executor(), failure, boost::filesystem::path(), arguments,
                          ChildInitializer{plan, report});
    if (launcher.pid > 0) child.detach();  // the Reaper's from here on
    if (failure) return -failure.value();
  } catch (const std::exception&) {
    // Having forked, Boost makes a handle for the child, which fails at the limit of open files.
    // The child runs all the same, and we have no use for the handle.
    if (launcher.pid <= 0) return -ENOMEM;
  }
  return launcher.pid;
}

Error ForkError(int code) {
  if (code == EAGAIN) {
    return Error("fork: the limit of processes (pids cgroup or RLIMIT_NPROC) is reached");
  }
  return Error::FromErrno("fork", code);
}

// The pipe through which the child reports where vfork is not what it should be: emulators,
// sandboxes and checkers make it a plain fork, which shares no memory and does not wait. At the
// limit of open files there is none, and the shared memory alone has to do.
struct ReportPipe {
  explicit ReportPipe(ChildPlan& plan) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return;
    reader = UniqueFd(ends[0]);
    writer = UniqueFd(ends[1]);
    int above = 0;
    bool in_the_way = false;
    for (const FdMapping& mapping : plan.fds) {
      above = std::max(above, mapping.theirs + 1);
      in_the_way |= mapping.theirs == writer.get();
    }
    if (in_the_way) writer.Reset(::fcntl(writer.get(), F_DUPFD_CLOEXEC, above));
    plan.report_fd = writer.get();
  }

  // Returns when the child has failed, or has executed its program, which closes the other end.
  void Read(ChildReport& report) {
    writer.Reset();
    ChildReport sent;
    ssize_t size = 0;
    do {
      size = reader ? ::read(reader.get(), &sent, sizeof(sent)) : 0;
    } while (size < 0 && errno == EINTR);
    if (size == static_cast<ssize_t>(sizeof(sent))) report = sent;
  }

  UniqueFd reader;
  UniqueFd writer;
};

// ---- after it ----

std::string UserText(const LaunchSpec& spec) {
  const uid_t uid = spec.credentials ? spec.credentials->uid : ::geteuid();
  if (spec.credentials && !spec.credentials->name.empty()) {
    return Concat("user ", spec.credentials->name, " (uid ", uid, ")");
  }
  return Concat("uid ", uid);
}

Error ExplainLimit(const ResourceLimit& limit, int code) {
  const std::string what = Concat("set limit ", ResourceName(limit.resource), " to ",
                                  ResourceLimitToString(limit.limit));
  if (code != EPERM) return Error::FromErrno(what, code);
  rlimit ours{};
  ::getrlimit(static_cast<__rlimit_resource>(limit.resource), &ours);
  return Error(Concat(what, ": not permitted: ours is ", ResourceLimitToString(ours),
                      ", and only CAP_SYS_RESOURCE may raise the hard limit; raise it where the "
                      "container is started (--ulimit ",
                      ResourceName(limit.resource), "=...)"));
}

Error ExplainUser(std::string_view step, const LaunchSpec& spec, int code) {
  Error error = Error::FromErrno(Concat("change to ", UserText(spec), ": ", step), code);
  if (code != EPERM) return error;
  return Error(error.message() +
               "; this needs CAP_SETUID and CAP_SETGID, which root has in a container by default");
}

Error ExplainDescriptor(const FdMapping& mapping, int code) {
  const std::string what =
      Concat("make descriptor ", mapping.ours, " the child's ", mapping.theirs);
  if (code == EMFILE || (code == EBADF && ::fcntl(mapping.ours, F_GETFD) >= 0)) {
    return Error(what + ": the limit of open files (RLIMIT_NOFILE) is reached");
  }
  return Error::FromErrno(what, code);
}

Error ExplainWorkdir(const LaunchSpec& spec, int code) {
  const std::string what = "workdir " + spec.workdir;
  if (code == ENOENT) return Error(what + ": no such directory");
  if (code == ENOTDIR) return Error(what + ": is not a directory");
  if (code == EACCES) return Error(Concat(what, ": ", UserText(spec), " may not enter it"));
  return Error::FromErrno(what, code);
}

Error Explain(const ChildReport& report, const LaunchSpec& spec, const Preparation& preparation) {
  const size_t index = static_cast<size_t>(report.index);
  switch (report.step) {
    case Step::kNone:
      break;
    case Step::kSession:
      return Error::FromErrno("make a new session or group", report.error);
    case Step::kDescriptors:
      return ExplainDescriptor(spec.fds[index], report.error);
    case Step::kLimits:
      return ExplainLimit(spec.limits[index], report.error);
    case Step::kBoundingSet:
      return Error::FromErrno(
          Concat("drop ", CapabilityName(report.index), " from the bounding set"), report.error);
    case Step::kGroups:
      return ExplainUser("set its groups", spec, report.error);
    case Step::kGroupId:
      return ExplainUser("set its group", spec, report.error);
    case Step::kUserId:
      return ExplainUser("set its uid", spec, report.error);
    case Step::kCapabilities:
      return Error::FromErrno(Concat("keep ", CapabilitiesToString(*preparation.plan.capabilities)),
                              report.error);
    case Step::kWorkdir:
      return ExplainWorkdir(spec, report.error);
    case Step::kNoNewPrivileges:
      return Error::FromErrno("set no_new_privs", report.error);
    case Step::kParentDeathSignal:
      return Error::FromErrno("set the parent-death signal", report.error);
    case Step::kSignals:
      return Error::FromErrno("unblock the signals", report.error);
    case Step::kSeccomp:
      return Error::FromErrno("install the seccomp filter", report.error);
    case Step::kExec:
      if (spec.seccomp != nullptr && (report.error == EPERM || report.error == ENOSYS)) {
        return Error::FromErrno(
            preparation.candidates[index] + ": the seccomp profile does not allow execve",
            report.error);
      }
      return ExplainExecFailure(preparation.candidates[index], spec.workdir, report.error,
                                UserText(spec));
  }
  return Error::FromErrno("start the child", report.error);
}

void Reap(pid_t pid) {
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

// A filter may end the child instead of failing its execve. The pipe has closed, so the child has
// either executed its program or is on its way out, and then waiting for that takes no time.
bool FilterKilledBeforeExec(pid_t pid) {
  const std::optional<ProcessInfo> child = LookAtProcess(pid);
  if (!child || child->has_execed) return false;
  siginfo_t ended{};
  while (::waitid(P_PID, static_cast<id_t>(pid), &ended, WEXITED | WNOWAIT) != 0) {
    if (errno != EINTR) return false;
  }
  return ended.si_code != CLD_EXITED && ended.si_status == SIGSYS;
}

// ---- the process ----

class LaunchedProcess : public Process {
 public:
  LaunchedProcess(Reaper& reaper, pid_t pid, ExitCallback on_exit)
      : reaper_(reaper), pid_(pid), on_exit_(std::move(on_exit)) {
    reaper_.Watch(pid_, [this](ExitStatus status) { OnExit(status); });
  }
  ~LaunchedProcess() override {
    if (!has_ended_) reaper_.Forget(pid_);
  }
  LaunchedProcess(const LaunchedProcess&) = delete;
  LaunchedProcess& operator=(const LaunchedProcess&) = delete;

  pid_t pid() const override { return pid_; }

  Result<bool> Signal(int number) override {
    if (has_ended_) return false;
    return Send(pid_, number, "process ");
  }

  Result<bool> SignalGroup(int number) override { return Send(-pid_, number, "process group "); }

 private:
  Result<bool> Send(pid_t target, int number, std::string_view kind) {
    if (::kill(target, number) == 0) return true;
    if (errno == ESRCH) return false;
    return Error::FromErrno(Concat("send ", SignalName(number), " to ", kind, pid_), errno);
  }

  void OnExit(ExitStatus status) {
    has_ended_ = true;
    const ExitCallback on_exit = std::move(on_exit_);  // which may destroy us
    if (on_exit) on_exit(status);
  }

  Reaper& reaper_;
  const pid_t pid_;
  ExitCallback on_exit_;
  bool has_ended_ = false;
};

Error AsAgentError(Error error) {
  return error.exit_code() != 0 ? error : std::move(error).WithExitCode(kExitAgentError);
}

}  // namespace

std::unique_ptr<Process> ProcessLauncher::Adopt(pid_t pid, ExitCallback on_exit) {
  return std::make_unique<LaunchedProcess>(reaper_, pid, std::move(on_exit));
}

Result<std::unique_ptr<Process>> ProcessLauncher::Launch(const LaunchSpec& spec,
                                                         ExitCallback on_exit) {
  Preparation preparation;
  if (auto done = Prepare(spec, preparation); !done) return AsAgentError(std::move(done.error()));

  if (spec.personality != nullptr) {
    const pid_t copy = ::fork();
    if (copy < 0) return AsAgentError(ForkError(errno));
    if (copy == 0) RunCopy(preparation.plan, spec.personality);
    return Adopt(copy, std::move(on_exit));
  }
  ChildReport report;
  ReportPipe pipe(preparation.plan);
  const pid_t pid = Fork(preparation.plan, report);
  if (pid < 0) return AsAgentError(ForkError(-pid));
  pipe.Read(report);
  if (report.step != Step::kNone) {
    Reap(pid);
    return AsAgentError(Explain(report, spec, preparation));
  }
  if (spec.seccomp != nullptr && pipe.reader && FilterKilledBeforeExec(pid)) {
    Reap(pid);
    return AsAgentError(Error(preparation.candidates[0] +
                              ": the seccomp profile does not allow execve and ended the child"));
  }
  return std::unique_ptr<Process>(
      std::make_unique<LaunchedProcess>(reaper_, pid, std::move(on_exit)));
}

}  // namespace modal::process

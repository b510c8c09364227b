#include "agent/check_facts.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/control_protocol.h"
#include "agent/base/status_board.h"
#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"
#include "agent/criu_rights.h"
#include "agent/event/signals.h"
#include "agent/process/capabilities.h"
#include "agent/process/launcher.h"
#include "agent/process/reaper.h"
#include "agent/process/terminal.h"
#include "agent/text_file.h"
#include "healthcheck/sock_diag.h"
#include "snapshot/criu_location.h"

namespace modal {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr Milliseconds kProgramTimeout{5000};
constexpr size_t kMostOutput = size_t{16} * 1024;

// The value of "Name:   value" in /proc/self/status, or nothing.
std::optional<uint64_t> StatusNumber(const std::string& status, std::string_view name) {
  LineReader lines(status);
  while (const auto line = lines.Next()) {
    if (!line->starts_with(name) || line->size() <= name.size()) continue;
    if ((*line)[name.size()] == ':') return ParseUnsigned(Trim(line->substr(name.size() + 1)));
  }
  return std::nullopt;
}

bool IsWritableFolder(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode) &&
         ::access(path.c_str(), W_OK | X_OK) == 0;
}

std::string ParentOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
}

// A socket can be made in its folder, or the folder in its parent.
bool CanHoldSocket(const std::string& path) {
  if (IsAbstractSocket(path)) return true;
  const std::string folder = ParentOf(path);
  struct stat info {};
  if (::lstat(folder.c_str(), &info) == 0) return IsWritableFolder(folder);
  return IsWritableFolder(ParentOf(folder));
}

void FindControlPath(const std::string& control, ContainerFacts& facts) {
  const char* runtime_dir = ::getenv("XDG_RUNTIME_DIR");
  std::vector<std::string> tried;
  for (const std::string& path :
       ControlSocketPaths(control, runtime_dir ? runtime_dir : "", ::geteuid())) {
    if (CanHoldSocket(path)) {
      facts.control_path = path;
      return;
    }
    tried.push_back(path);
  }
  facts.control_tried = Join(tried, ", ");
}

// "3:pids:/x" (cgroup v1) or "0::/x" (v2) in /proc/self/cgroup, as folders of the usual mounts.
// In a cgroup namespace, and with a path of the host, the mount's root is ours.
std::vector<std::string> CgroupFolders() {
  std::vector<std::string> folders;
  const Result<std::string> text = ReadTextFile("/proc/self/cgroup");
  if (text) {
    LineReader lines(*text);
    while (const auto line = lines.Next()) {
      const size_t first = line->find(':');
      const size_t second = line->find(':', first + 1);
      if (first == std::string_view::npos || second == std::string_view::npos) continue;
      const std::string_view controllers = line->substr(first + 1, second - first - 1);
      const std::string_view path = line->substr(second + 1);
      if (controllers.empty()) folders.push_back(Concat("/sys/fs/cgroup", path));
      if (controllers == "pids") folders.push_back(Concat("/sys/fs/cgroup/pids", path));
    }
  }
  folders.emplace_back("/sys/fs/cgroup");
  folders.emplace_back("/sys/fs/cgroup/pids");
  return folders;
}

void ReadPidsLimit(ContainerFacts& facts) {
  for (const std::string& folder : CgroupFolders()) {
    const Result<std::string> limit = ReadTextFile(folder + "/pids.max");
    if (!limit) continue;
    facts.pids_limit = ParseUnsigned(Trim(*limit));  // "max" is none
    const Result<std::string> used = ReadTextFile(folder + "/pids.current");
    if (used) facts.pids_used = ParseUnsigned(Trim(*used));
    return;
  }
}

void ReadPrivileges(ContainerFacts& facts) {
  facts.uid = ::geteuid();
  facts.gid = ::getegid();
  facts.capabilities = process::CurrentCapabilities().effective;
  facts.bounding = process::BoundingSet();
  facts.no_new_privileges = ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
  if (const Result<std::string> status = ReadTextFile("/proc/self/status"); status) {
    if (const auto mode = StatusNumber(*status, "Seccomp")) {
      facts.seccomp_mode = static_cast<int>(*mode);
    }
  } else {
    facts.seccomp_mode = ::prctl(PR_GET_SECCOMP, 0, 0, 0, 0);
  }
}

std::string WhyNoSockDiag() {
  Result<health::SockDiag> sockets = health::SockDiag::Open();
  if (!sockets) return sockets.error().message();
  const auto listeners = sockets->Dump(health::kListening, 0);
  return listeners ? "" : listeners.error().message();
}

std::string WhyNoFilter() {
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  std::array<sock_filter, 1> allow{
      sock_filter{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
  };
  const sock_fprog program{allow.size(), allow.data()};
  if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0) return "";
  return ::strerror(errno);
}

// Reads until the end, or until kMostOutput or the timeout; false at the timeout.
bool ReadOutput(int pipe, std::string& output) {
  const SteadyClock::time_point deadline = SteadyClock::now() + kProgramTimeout;
  char buffer[1024];
  while (output.size() < kMostOutput) {
    const auto left =
        std::chrono::duration_cast<Milliseconds>(deadline - SteadyClock::now()).count();
    pollfd waiting{pipe, POLLIN, 0};
    if (left <= 0 || ::poll(&waiting, 1, static_cast<int>(left)) <= 0) return false;
    const ssize_t size = ::read(pipe, buffer, sizeof buffer);
    if (size <= 0) return true;
    output.append(buffer, static_cast<size_t>(size));
  }
  return true;
}

// Standard output of a program that is expected to end at once.
Result<std::string> OutputOf(std::vector<std::string> argv) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Error::FromErrno("pipe", errno);
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));

  process::Reaper reaper;
  process::ProcessLauncher launcher(reaper);
  process::LaunchSpec spec;
  spec.argv = std::move(argv);
  for (char** variable = environ; *variable; ++variable) spec.environment.emplace_back(*variable);
  spec.fds = {{write_end.get(), 1}};
  if (null) spec.fds.insert(spec.fds.end(), {{null.get(), 0}, {null.get(), 2}});
  std::optional<ExitStatus> ended;
  Result<std::unique_ptr<process::Process>> program =
      launcher.Launch(spec, [&ended](ExitStatus status) { ended = status; });
  if (!program) return std::move(program.error());
  write_end.Reset();

  std::string output;
  const bool in_time = ReadOutput(read_end.get(), output);
  // It has closed its output and is about to end, or it is made to.
  (void)(*program)->SignalGroup(SIGKILL);
  siginfo_t info{};
  ::waitid(P_PID, static_cast<id_t>((*program)->pid()), &info, WEXITED | WNOWAIT);
  while (reaper.Collect()) {
  }
  if (!in_time) return Error(Concat("no answer within ", kProgramTimeout.count() / 1000, " s"));
  return output;
}

void FindCriu(const LookAroundSpec& spec, ContainerFacts& facts) {
  const char* path = ::getenv("PATH");
  const Result<snapshot::CriuLocation> found =
      snapshot::LocateCriu(spec.criu, path ? path : "/usr/sbin:/usr/bin:/sbin:/bin");
  if (!found) {
    facts.criu_error = found.error().message();
    return;
  }
  facts.criu = found->path;
  facts.criu_lacks = WhatCriuLacks(LookAtCriuRights(found->path, false));
  const Result<std::string> output = OutputOf({found->path, "--version"});
  if (!output) {
    facts.criu_error = output.error().message();
    return;
  }
  facts.criu_version = CriuVersionIn(*output);
  if (facts.criu_version.empty()) facts.criu_error = "it does not say its version";
  if (spec.executable.empty() || !facts.criu_error.empty()) return;
  const Result<CriuTrial> trial = TryCriu(found->path, spec.executable);
  if (trial) {
    facts.criu_trial = *trial;
  } else {
    facts.criu_trial_error = trial.error().message();
  }
}

}  // namespace

std::string CriuVersionIn(const std::string& output) {
  constexpr std::string_view kVersion = "Version:";
  LineReader lines(output);
  while (const auto line = lines.Next()) {
    if (line->starts_with(kVersion)) return std::string(Trim(line->substr(kVersion.size())));
  }
  return "";
}

ContainerFacts LookAround(const LookAroundSpec& spec) {
  ContainerFacts facts;
  utsname names{};
  if (::uname(&names) == 0) facts.kernel = names.release;
  facts.pid = ::getpid();
  if (const auto name = ReadTextFile("/proc/1/comm")) facts.process_1 = Trim(*name);
  facts.proc = ::access("/proc/self/stat", R_OK) == 0;
  facts.proc_net_tcp = ::access("/proc/net/tcp", R_OK) == 0;
  FindControlPath(spec.control, facts);
  facts.shell = ::access("/bin/sh", X_OK) == 0;
  facts.terminal = process::IsTerminal(STDIN_FILENO);
  ::getrlimit(RLIMIT_NOFILE, &facts.open_files);
  ::getrlimit(RLIMIT_NPROC, &facts.processes);
  ReadPidsLimit(facts);
  ReadPrivileges(facts);
  if (const auto board = BoardMapping::CreateToWrite("check", 4096); !board) {
    facts.memfd_error = board.error().message();
  }
  facts.sock_diag_error = WhyNoSockDiag();

  // These leave their mark on this process, the last one on everything after it.
  facts.subreaper = process::BecomeSubreaper();
  event::BlockSignals();
  FindCriu(spec, facts);
  event::UnblockSignals();
  facts.filter_error = WhyNoFilter();
  return facts;
}

}  // namespace modal

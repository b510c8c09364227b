#include "tests/support/agent_process_enclosure.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <linux/mount.h>
#include <net/if.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

namespace modal::test {
namespace {

class Preparation {
 public:
  Preparation(const AgentOptions& options, const std::string& folder, int gate)
      : options_(options), folder_(folder), gate_(gate) {}

  void Run() {
    Try(::mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), "make / private");
    Bind(Settings().agent, folder_ + "/modal-agent");
    Bind(Settings().programs, folder_ + "/bin");
    if (options_.empty_root || options_.own_root || !options_.missing.empty()) {
      BuildRoot();
    } else {
      Bind(folder_, "/mnt");
    }
    MountFresh("/proc", "proc", "");
    MountFresh("/run", "tmpfs", "mode=0755");
    MountFresh("/tmp", "tmpfs", "mode=1777");
    if (!IsMissing("/dev")) MountFresh("/dev/shm", "tmpfs", "mode=1777");
    ReplaceFiles();
    if (options_.read_only) MakeReadOnly();
    BringLoopbackUp();
  }

 private:
  void Try(long result, const std::string& what) {
    if (result < 0) FailThroughGate(gate_, what + ": " + ::strerror(errno));
  }
  void Bind(const std::string& from, const std::string& to) {
    Try(::mount(from.c_str(), to.c_str(), nullptr, MS_BIND | MS_REC, nullptr),
        "bind " + from + " to " + to);
  }
  bool IsMissing(const std::string& path) const {
    const auto& missing = options_.missing;
    return options_.empty_root || std::find(missing.begin(), missing.end(), path) != missing.end();
  }
  void MountFresh(const char* path, const char* type, const char* data) {
    if (!IsMissing(path)) Try(::mount(type, path, type, 0, data), std::string("mount ") + path);
  }

  // A root in memory, with the top-level entries of the real one that are not to be missing.
  void BuildRoot() {
    Try(::mount("tmpfs", "/mnt", "tmpfs", 0, "mode=0755"), "mount the new root");
    Try(::mkdir("/mnt/mnt", 0755), "mkdir /mnt/mnt");
    Bind(folder_, "/mnt/mnt");
    DIR* root = ::opendir("/");
    Try(root == nullptr ? -1 : 0, "opendir /");
    while (const dirent* entry = ::readdir(root)) AddEntry(entry->d_name);
    ::closedir(root);
    Try(::chdir("/mnt"), "chdir /mnt");
    Try(::syscall(SYS_pivot_root, ".", "."), "pivot_root");
    Try(::umount2(".", MNT_DETACH), "umount the old root");
    Try(::chdir("/"), "chdir /");
  }
  void AddEntry(const std::string& name) {
    const std::string from = "/" + name;
    const std::string to = "/mnt/" + name;
    if (name == "." || name == ".." || name == "mnt" || IsMissing(from)) return;
    struct stat status;
    if (::lstat(from.c_str(), &status) != 0) return;
    if (S_ISLNK(status.st_mode)) {
      char target[4096] = "";
      Try(::readlink(from.c_str(), target, sizeof target - 1), "readlink " + from);
      Try(::symlink(target, to.c_str()), "symlink " + to);
    } else if (S_ISDIR(status.st_mode)) {
      Try(::mkdir(to.c_str(), 0755), "mkdir " + to);
      // These are mounted afresh; all others are the real ones.
      if (name != "proc" && name != "run" && name != "tmp") Bind(from, to);
    }
  }

  void ReplaceFiles() {
    size_t number = 0;
    for (const auto& [path, text] : options_.replace) {
      // MakeFolder() has written the texts.
      Bind("/mnt/replace-" + std::to_string(number++), path);
    }
  }
  void MakeReadOnly() {
    mount_attr attributes{};
    attributes.attr_set = MOUNT_ATTR_RDONLY;
    Try(::syscall(SYS_mount_setattr, -1, "/", AT_RECURSIVE, &attributes, sizeof attributes),
        "make / read-only");
    for (const std::string& path : options_.writable) MountFresh(path.c_str(), "tmpfs", "");
  }
  void BringLoopbackUp() {
    const int socket = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ifreq request{};
    ::strcpy(request.ifr_name, "lo");
    request.ifr_flags = IFF_UP;
    Try(::ioctl(socket, SIOCSIFFLAGS, &request), "bring lo up");
    ::close(socket);
  }

  const AgentOptions& options_;
  const std::string& folder_;
  int gate_;
};

void SetStreams(const EnclosedStreams& streams, int gate) {
  if (streams.terminal) {
    for (const int fd : streams.fds) {
      if (fd >= 0 && ::isatty(fd) && ::ioctl(fd, TIOCSCTTY, 0) != 0) {
        FailThroughGate(gate, std::string("TIOCSCTTY: ") + ::strerror(errno));
      }
      if (fd >= 0 && ::isatty(fd)) break;
    }
  }
  for (int number = 0; number < 3; ++number) {
    if (streams.fds[number] >= 0) {
      ::dup2(streams.fds[number], number);
    } else {
      ::close(number);
    }
  }
}

void SetSignals(const AgentOptions& options) {
  sigset_t blocked;
  ::sigemptyset(&blocked);
  for (const int number : options.blocked_signals) ::sigaddset(&blocked, number);
  for (const int number : options.pending_signals) ::sigaddset(&blocked, number);
  for (int number = 1; number <= SIGRTMAX; ++number) ::signal(number, SIG_DFL);
  for (const int number : options.ignored_signals) ::signal(number, SIG_IGN);
  ::sigprocmask(SIG_SETMASK, &blocked, nullptr);
  for (const int number : options.pending_signals) ::kill(::getpid(), number);
}

}  // namespace

void FailThroughGate(int gate, const std::string& what) {
  if (::write(gate, what.data(), what.size()) < 0) ::_exit(201);
  ::_exit(200);
}

std::vector<char*> PointersTo(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& string : strings) pointers.push_back(const_cast<char*>(string.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> EnclosedEnvironment(const AgentOptions& options) {
  std::vector<std::string> environment = {
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "REPORT=/mnt/report"};
  for (const char* name : {"ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS"}) {
    if (const char* value = ::getenv(name)) environment.push_back(std::string(name) + "=" + value);
  }
  environment.insert(environment.end(), options.environment.begin(), options.environment.end());
  return environment;
}

void PrepareNamespaces(const AgentOptions& options, const std::string& folder, int gate) {
  Preparation(options, folder, gate).Run();
}

void ExecAgent(const AgentOptions& options, const EnclosedStreams& streams, int gate) {
  const auto attempt = [gate](int result, const char* what) {
    if (result < 0) FailThroughGate(gate, std::string(what) + ": " + ::strerror(errno));
  };
  std::vector<std::string> arguments = {"/mnt/modal-agent"};
  arguments.insert(arguments.end(), options.arguments.begin(), options.arguments.end());
  const std::vector<std::string> environment = EnclosedEnvironment(options);
  const std::vector<char*> argument_pointers = PointersTo(arguments);
  const std::vector<char*> environment_pointers = PointersTo(environment);

  attempt(::setsid(), "setsid");
  SetStreams(streams, gate);
  attempt(::chdir(options.workdir.c_str()), "chdir");
  ::umask(022);
  for (const auto& [resource, value] : options.limits) {
    const rlimit limit{value, value};
    attempt(::setrlimit(static_cast<__rlimit_resource>(resource), &limit), "setrlimit");
  }
  if (options.uid != 0) {
    attempt(::setgroups(0, nullptr), "setgroups");
    attempt(::setresgid(options.uid, options.uid, options.uid), "setresgid");
    attempt(::setresuid(options.uid, options.uid, options.uid), "setresuid");
  }
  // Whoever runs the tests may have left descriptors open; the agent would pass them on.
  ::close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
  // The agent must not outlive a test that is killed.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  SetSignals(options);
  ::execve(arguments[0].c_str(), argument_pointers.data(), environment_pointers.data());
  FailThroughGate(gate, std::string("exec: ") + ::strerror(errno));
}

}  // namespace modal::test

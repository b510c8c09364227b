// A gateway that somebody else has taken over: seals itself exactly as the real one does (or does
// not: "open"; "named": as where the server has a name), and then tries one thing.
//
//   hostile_gateway open|sealed|named ATTEMPT  in a folder of its own
//   hostile_gateway list                       "forbidden NAME", "bare NAME", "refused NAME", …
//
// Exits with 0 if it could, with 1 if it could not; sealed, it dies of SIGSYS at what is forbidden.
// "bare" is forbidden too, but not where sanitizers need it; "refused" fails, and is allowed there.
#include <fcntl.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "agent/gateway_filter.h"

namespace modal {
namespace {

// What is there before it is sealed: a process to attack, a file's name, memory.
struct Prey {
  pid_t victim;
  char* page;  // anonymous, readable and writable
  int file;    // open for reading
};

struct Attempt {
  enum class Kind { kForbidden, kBare, kRefused, kAllowed };
  Kind kind;
  const char* name;
  bool (*succeeds)(const Prey& prey);
};

bool Socket(int family, int type, int protocol = 0) {
  return ::socket(family, type | SOCK_CLOEXEC, protocol) >= 0;
}

void* Idle(void*) { return nullptr; }

constexpr auto kForbidden = Attempt::Kind::kForbidden;
constexpr auto kBare = Attempt::Kind::kBare;
constexpr auto kRefused = Attempt::Kind::kRefused;
constexpr auto kAllowed = Attempt::Kind::kAllowed;

constexpr std::array kAttempts{
    // Other programs and processes.
    Attempt{kForbidden, "execve",
            [](const Prey&) { return ::execl("/bin/true", "true", nullptr) == 0; }},
    Attempt{kForbidden, "execveat",
            [](const Prey&) {
              char name[] = "true";
              char* const argv[] = {name, nullptr};
              return ::syscall(SYS_execveat, AT_FDCWD, "/bin/true", argv, nullptr, 0) == 0;
            }},
    Attempt{kForbidden, "fork",
            [](const Prey&) {
              const pid_t child = ::fork();
              if (child == 0) ::_exit(0);
              return child > 0;
            }},
    Attempt{kForbidden, "clone",
            [](const Prey&) {
              const long child = ::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr);
              if (child == 0) ::_exit(0);
              return child > 0;
            }},
    Attempt{kForbidden, "posix_spawn",
            [](const Prey&) {
              char name[] = "true";
              char* const argv[] = {name, nullptr};
              pid_t child = 0;
              return ::posix_spawn(&child, "/bin/true", nullptr, nullptr, argv, nullptr) == 0;
            }},
    Attempt{kForbidden, "a thread",
            [](const Prey&) {
              pthread_t thread;
              if (::pthread_create(&thread, nullptr, Idle, nullptr) != 0) return false;
              return ::pthread_join(thread, nullptr) == 0;
            }},
    Attempt{kForbidden, "ptrace, of another",
            [](const Prey& prey) { return ::ptrace(PTRACE_ATTACH, prey.victim, 0, 0) == 0; }},
    Attempt{kForbidden, "ptrace, of itself",
            [](const Prey&) { return ::ptrace(PTRACE_TRACEME, 0, 0, 0) == 0; }},
    Attempt{kForbidden, "process_vm_readv",
            [](const Prey& prey) {
              char byte;
              const iovec here{&byte, 1};
              const iovec there{prey.page, 1};
              return ::process_vm_readv(prey.victim, &here, 1, &there, 1, 0) == 1;
            }},
    Attempt{kForbidden, "process_vm_writev",
            [](const Prey& prey) {
              char byte = 'x';
              const iovec here{&byte, 1};
              const iovec there{prey.page, 1};
              return ::process_vm_writev(prey.victim, &here, 1, &there, 1, 0) == 1;
            }},
    Attempt{kForbidden, "pidfd_open",
            [](const Prey& prey) { return ::syscall(SYS_pidfd_open, prey.victim, 0) >= 0; }},
    Attempt{kForbidden, "kill", [](const Prey& prey) { return ::kill(prey.victim, SIGTERM) == 0; }},
    Attempt{kForbidden, "tgkill, of another",
            [](const Prey& prey) {
              return ::syscall(SYS_tgkill, prey.victim, prey.victim, SIGABRT) == 0;
            }},
    Attempt{
        kForbidden, "tgkill, of itself with another signal",
        [](const Prey&) { return ::syscall(SYS_tgkill, ::getpid(), ::getpid(), SIGCHLD) == 0; }},
    Attempt{kForbidden, "setpriority",
            [](const Prey&) { return ::setpriority(PRIO_PROCESS, 0, 1) == 0; }},
    // Files.
    Attempt{kForbidden, "open a new file",
            [](const Prey&) { return ::open("new", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0; }},
    Attempt{kForbidden, "open for writing",
            [](const Prey&) { return ::open("file", O_WRONLY | O_CLOEXEC) >= 0; }},
    Attempt{kForbidden, "open for reading and writing",
            [](const Prey&) { return ::open("file", O_RDWR | O_CLOEXEC) >= 0; }},
    Attempt{kForbidden, "open and truncate",
            [](const Prey&) { return ::open("file", O_RDONLY | O_TRUNC | O_CLOEXEC) >= 0; }},
    Attempt{kForbidden, "creat", [](const Prey&) { return ::creat("new", 0600) >= 0; }},
    Attempt{kForbidden, "openat2",
            [](const Prey&) {
              open_how how{};
              how.flags = O_RDWR;
              return ::syscall(SYS_openat2, AT_FDCWD, "file", &how, sizeof how) >= 0;
            }},
    Attempt{kRefused, "open for reading",
            [](const Prey&) { return ::open("file", O_RDONLY | O_CLOEXEC) >= 0; }},
    Attempt{kForbidden, "unlink", [](const Prey&) { return ::unlink("file") == 0; }},
    Attempt{kForbidden, "rename", [](const Prey&) { return ::rename("file", "other") == 0; }},
    Attempt{kForbidden, "link", [](const Prey&) { return ::link("file", "other") == 0; }},
    Attempt{kForbidden, "symlink", [](const Prey&) { return ::symlink("file", "other") == 0; }},
    Attempt{kForbidden, "mkdir", [](const Prey&) { return ::mkdir("folder", 0700) == 0; }},
    Attempt{kForbidden, "mknod", [](const Prey&) { return ::mkfifo("fifo", 0600) == 0; }},
    Attempt{kForbidden, "chmod", [](const Prey&) { return ::chmod("file", 0777) == 0; }},
    Attempt{kForbidden, "chown", [](const Prey&) { return ::chown("file", 1, 1) == 0; }},
    Attempt{kForbidden, "truncate", [](const Prey&) { return ::truncate("file", 0) == 0; }},
    Attempt{kForbidden, "chdir", [](const Prey&) { return ::chdir("/") == 0; }},
    Attempt{kForbidden, "chroot", [](const Prey&) { return ::chroot(".") == 0; }},
    Attempt{kForbidden, "memfd_create",
            [](const Prey&) { return ::memfd_create("memory", MFD_CLOEXEC) >= 0; }},
    // Sockets that are not TCP's, and those that would listen.
    Attempt{kForbidden, "a unix socket", [](const Prey&) { return Socket(AF_UNIX, SOCK_STREAM); }},
    Attempt{kForbidden, "a unix datagram socket",
            [](const Prey&) { return Socket(AF_UNIX, SOCK_DGRAM); }},
    Attempt{kForbidden, "a pair of unix sockets",
            [](const Prey&) {
              int ends[2];
              return ::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0;
            }},
    Attempt{kForbidden, "a UDP socket", [](const Prey&) { return Socket(AF_INET, SOCK_DGRAM); }},
    Attempt{kForbidden, "a raw socket",
            [](const Prey&) { return Socket(AF_INET, SOCK_RAW, IPPROTO_ICMP); }},
    Attempt{kForbidden, "a netlink socket",
            [](const Prey&) { return Socket(AF_NETLINK, SOCK_RAW); }},
    Attempt{kForbidden, "a packet socket", [](const Prey&) { return Socket(AF_PACKET, SOCK_RAW); }},
    Attempt{kForbidden, "bind",
            [](const Prey&) {
              sockaddr_in any{};
              any.sin_family = AF_INET;
              const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
              return ::bind(fd, reinterpret_cast<const sockaddr*>(&any), sizeof any) == 0;
            }},
    Attempt{kForbidden, "listen",
            [](const Prey&) {
              return ::listen(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), 1) == 0;
            }},
    // Rights, and memory that is executed.
    Attempt{kForbidden, "setuid", [](const Prey&) { return ::syscall(SYS_setuid, 1) == 0; }},
    Attempt{kForbidden, "unshare", [](const Prey&) { return ::unshare(CLONE_NEWNS) == 0; }},
    Attempt{kForbidden, "mount",
            [](const Prey&) {
              return ::mount("none", ".", "tmpfs", 0, nullptr) == 0 && ::umount(".") == 0;
            }},
    Attempt{kBare, "become dumpable again",
            [](const Prey&) { return ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0; }},
    Attempt{kBare, "map executable memory",
            [](const Prey&) {
              return ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                            0) != MAP_FAILED;
            }},
    Attempt{
        kBare, "make memory executable",
        [](const Prey& prey) { return ::mprotect(prey.page, 4096, PROT_READ | PROT_EXEC) == 0; }},
    Attempt{kForbidden, "another ioctl",
            [](const Prey& prey) {
              int left = 0;
              return ::ioctl(prey.file, FIONREAD, &left) == 0;
            }},
    Attempt{kForbidden, "another fcntl",
            [](const Prey& prey) { return ::fcntl(prey.file, F_SETFD, 0) == 0; }},
    // What it is there for.
    Attempt{kAllowed, "nothing", [](const Prey&) { return true; }},
    Attempt{kAllowed, "a TCP socket", [](const Prey&) { return Socket(AF_INET, SOCK_STREAM); }},
    Attempt{kAllowed, "a TCP socket of IPv6",
            [](const Prey&) { return Socket(AF_INET6, SOCK_STREAM) || errno == EAFNOSUPPORT; }},
    Attempt{kAllowed, "read a descriptor that was handed over",
            [](const Prey& prey) {
              char byte;
              return ::read(prey.file, &byte, 1) == 1;
            }},
    Attempt{kAllowed, "memory",
            [](const Prey&) {
              return ::mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                            -1, 0) != MAP_FAILED;
            }},
};

int List() {
  constexpr std::array<const char*, 4> kKinds{"forbidden", "bare", "refused", "allowed"};
  for (const Attempt& attempt : kAttempts) {
    std::printf("%s %s\n", kKinds[static_cast<size_t>(attempt.kind)], attempt.name);
  }
  return 0;
}

Prey MakePrey() {
  Prey prey{};
  prey.page = static_cast<char*>(
      ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  const int made = ::open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (::write(made, "text", 4) != 4) ::_exit(2);
  prey.file = ::open("file", O_RDONLY | O_CLOEXEC);
  // It ends when we do, whoever we are by then: our end of the pipe is closed.
  int life[2];
  if (::pipe2(life, O_CLOEXEC) != 0) ::_exit(2);
  int ready[2];
  if (::pipe2(ready, O_CLOEXEC) != 0) ::_exit(2);
  prey.victim = ::fork();
  if (prey.victim == 0) {
    ::close(life[1]);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::write(ready[1], "", 1) != 1) ::_exit(2);
    char end;
    (void)!::read(life[0], &end, 1);
    ::_exit(0);
  }
  // Not before it is sure to be killed with us: stopped by ptrace(2), it would not see the pipe.
  char byte;
  if (prey.victim < 0 || ::read(ready[0], &byte, 1) != 1) ::_exit(2);
  ::close(ready[0]);
  ::close(ready[1]);
  return prey;
}

int Try(std::string_view mode, std::string_view name) {
  for (const Attempt& attempt : kAttempts) {
    if (name != attempt.name) continue;
    const Prey prey = MakePrey();
    const GatewayReach reach{.datagrams = mode == "named"};
    if (mode != "open" && !SealGateway(reach)) return 2;
    // Not through exit(): what runs there may be forbidden, too.
    ::_exit(attempt.succeeds(prey) ? 0 : 1);
  }
  return 2;
}

}  // namespace
}  // namespace modal

int main(int argc, char** argv) {
  const std::string_view mode = argc > 1 ? argv[1] : "";
  if (mode == "list") return modal::List();
  if (argc != 3 || (mode != "open" && mode != "sealed" && mode != "named")) return 2;
  return modal::Try(mode, argv[2]);
}

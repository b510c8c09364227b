// A gateway that was taken over: each attempt is made by a process under the very filter that the
// gateway installs.
#include "agent/gateway_filter.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <functional>

#include "agent/base/exit_status.h"
#include "agent/base/sanitized.h"
#include "agent/base/unique_fd.h"

namespace modal {
namespace {

constexpr int kNotSealed = 99;

// How a process ends that seals itself and then does this. If it gets away with it: exit code 0.
ExitStatus Sealed(const std::function<void()>& attempt, const GatewayReach& reach = {}) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);  // no core files
    ::signal(SIGABRT, SIG_DFL);            // doctest has a handler
    const Result<process::SeccompFilter> filter = GatewayFilter(reach);
    if (!filter || ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || !filter->Install()) {
      ::_exit(kNotSealed);
    }
    attempt();
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return ExitStatus::FromWait(status);
}

const ExitStatus kKilled = ExitStatus::Signal(SIGSYS);

// What must get through. ThreadSanitizer has a thread of its own in each process, and makes system
// calls there that no gateway makes: with it nobody can be relied upon to live.
void CheckLives(const std::function<void()>& attempt, const GatewayReach& reach = {}) {
  if (kThreadSanitizer) return;
  CHECK(Sealed(attempt, reach) == ExitStatus::Code(0));
}

// A system call that must not get through; a child that it makes ends at once.
template <class... Arguments>
void CheckKilled(const std::string& what, long number, Arguments... arguments) {
  INFO(what);
  CHECK(Sealed([=] {
          if (::syscall(number, arguments...) == 0) ::_exit(1);
        }) == kKilled);
}

TEST_CASE("a sealed gateway can run no program") {
  static const char* const argv[] = {"/bin/true", nullptr};
  static const char* const envp[] = {nullptr};
  CheckKilled("execve", SYS_execve, argv[0], argv, envp);
  CheckKilled("execveat", SYS_execveat, AT_FDCWD, argv[0], argv, envp, 0);
}

TEST_CASE("a sealed gateway can make no process and no thread") {
#ifdef SYS_fork
  CheckKilled("fork", SYS_fork);
  CheckKilled("vfork", SYS_vfork);
#endif
  CheckKilled("clone", SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr);
  static const uint64_t arguments[8] = {0, 0, 0, 0, SIGCHLD};
  CheckKilled("clone3", SYS_clone3, arguments, sizeof arguments);
}

TEST_CASE("a sealed gateway can trace, read and signal nobody") {
  const pid_t parent = ::getpid();
  CheckKilled("ptrace, itself", SYS_ptrace, PTRACE_TRACEME, 0, nullptr, nullptr);
  CheckKilled("ptrace", SYS_ptrace, PTRACE_ATTACH, parent, nullptr, nullptr);
  CheckKilled("process_vm_readv", SYS_process_vm_readv, parent, nullptr, 0, nullptr, 0, 0);
  CheckKilled("process_vm_writev", SYS_process_vm_writev, parent, nullptr, 0, nullptr, 0, 0);
  CheckKilled("kill", SYS_kill, parent, 0);
  CheckKilled("tkill", SYS_tkill, parent, 0);
  CheckKilled("tgkill", SYS_tgkill, parent, parent, SIGABRT);
  CheckKilled("rt_sigqueueinfo", SYS_rt_sigqueueinfo, parent, 0, nullptr);
  CheckKilled("pidfd_open", SYS_pidfd_open, parent, 0);
  CheckKilled("pidfd_send_signal", SYS_pidfd_send_signal, 0, 0, nullptr, 0);
  CheckKilled("kcmp", SYS_kcmp, parent, parent, 0, 0, 0);
}

TEST_CASE("a sealed gateway can open no file") {
  constexpr const char* kFile = "/tmp";
  for (const int flags : {O_WRONLY, O_RDWR, O_RDONLY | O_CREAT, O_RDONLY | O_TRUNC,
                          O_WRONLY | O_APPEND, O_RDWR | O_TMPFILE}) {
    INFO(flags);
    CheckKilled("openat", SYS_openat, AT_FDCWD, kFile, flags, 0600);
#ifdef SYS_open
    CheckKilled("open", SYS_open, kFile, flags, 0600);
#endif
  }
  static const uint64_t how[3] = {O_RDONLY, 0, 0};
  CheckKilled("openat2", SYS_openat2, AT_FDCWD, kFile, how, sizeof how);
  CheckKilled("open_by_handle_at", SYS_open_by_handle_at, AT_FDCWD, nullptr, 0);
  CheckKilled("memfd_create", SYS_memfd_create, "x", 0);
  CheckKilled("io_uring_setup", SYS_io_uring_setup, 1, nullptr);
#ifdef SYS_creat
  CheckKilled("creat", SYS_creat, "/tmp/modal-agent-created", 0600);
#endif
  // The C library asks for this by itself: refused, and no reason to die. A sanitizer reads the
  // program's own file before it reports.
  if (kSanitized) return;
  CHECK(Sealed([] {
          if (::syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY) >= 0) ::_exit(1);
          ::_exit(errno == EPERM ? 0 : 2);
        }) == ExitStatus::Code(0));
}

TEST_CASE("a sealed gateway can change nothing in the file system") {
  CheckKilled("unlinkat", SYS_unlinkat, AT_FDCWD, "/nowhere/file", 0);
  CheckKilled("renameat2", SYS_renameat2, AT_FDCWD, "/nowhere/a", AT_FDCWD, "/nowhere/b", 0);
  CheckKilled("linkat", SYS_linkat, AT_FDCWD, "/nowhere/a", AT_FDCWD, "/nowhere/b", 0);
  CheckKilled("symlinkat", SYS_symlinkat, "a", AT_FDCWD, "/nowhere/b");
  CheckKilled("mkdirat", SYS_mkdirat, AT_FDCWD, "/nowhere/folder", 0700);
  CheckKilled("fchmodat", SYS_fchmodat, AT_FDCWD, "/nowhere/file", 0777);
  CheckKilled("fchownat", SYS_fchownat, AT_FDCWD, "/nowhere/file", 0, 0, 0);
  CheckKilled("truncate", SYS_truncate, "/nowhere/file", 0);
  CheckKilled("ftruncate", SYS_ftruncate, 4, 0);
  CheckKilled("chdir", SYS_chdir, "/");
  CheckKilled("chroot", SYS_chroot, "/");
  CheckKilled("mount", SYS_mount, nullptr, "/nowhere", nullptr, 0, nullptr);
  CheckKilled("getdents64", SYS_getdents64, 0, nullptr, 0);
}

TEST_CASE("a sealed gateway can gain no right") {
  CheckKilled("setuid", SYS_setuid, 0);
  CheckKilled("setresgid", SYS_setresgid, 0, 0, 0);
  CheckKilled("capset", SYS_capset, nullptr, nullptr);
  CheckKilled("unshare", SYS_unshare, 0);
  CheckKilled("setns", SYS_setns, 0, 0);
  CheckKilled("bpf", SYS_bpf, 0, nullptr, 0);
  CheckKilled("keyctl", SYS_keyctl, 0, 0);
  CheckKilled("seccomp", SYS_seccomp, 0, 0, nullptr);
  CheckKilled("setrlimit", SYS_setrlimit, 0, nullptr);
  if (!kSanitized) CheckKilled("prctl", SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
}

TEST_CASE("a sealed gateway has TCP connections, and no other new socket") {
  for (const int flags : {0, SOCK_NONBLOCK | SOCK_CLOEXEC}) {
    CheckKilled("AF_UNIX", SYS_socket, AF_UNIX, SOCK_STREAM | flags, 0);
    CheckKilled("AF_NETLINK", SYS_socket, AF_NETLINK, SOCK_RAW | flags, NETLINK_ROUTE);
    CheckKilled("AF_PACKET", SYS_socket, AF_PACKET, SOCK_RAW | flags, 0);
    CheckKilled("UDP", SYS_socket, AF_INET, SOCK_DGRAM | flags, 0);
    CheckKilled("raw", SYS_socket, AF_INET6, SOCK_RAW | flags, IPPROTO_ICMPV6);
  }
  // Only where the server is at a unix socket.
  CheckLives([] { ::_exit(::socket(AF_UNIX, SOCK_STREAM, 0) >= 0 ? 0 : 1); },
             {.unix_sockets = true});
  CHECK(Sealed([] { ::socket(AF_UNIX, SOCK_DGRAM, 0); }, {.unix_sockets = true}) == kKilled);
  // Only where it has a name.
  for (const int family : {AF_INET, AF_INET6}) {
    CheckLives([=] { ::_exit(::socket(family, SOCK_DGRAM, 0) >= 0 ? 0 : 1); }, {.datagrams = true});
  }
  CHECK(Sealed([] { ::socket(AF_UNIX, SOCK_DGRAM, 0); }, {.datagrams = true}) == kKilled);
  CHECK(Sealed([] { ::socket(AF_UNIX, SOCK_STREAM, 0); }, {.datagrams = true}) == kKilled);
  CHECK(Sealed([] { ::socket(AF_INET, SOCK_RAW, IPPROTO_ICMP); }, {.datagrams = true}) == kKilled);
  CHECK(Sealed([] { ::socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE); }, {.datagrams = true}) ==
        kKilled);
  CheckKilled("socketpair", SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, nullptr);
  CheckKilled("bind", SYS_bind, 3, nullptr, 0);
  CheckKilled("listen", SYS_listen, 3, 1);
}

TEST_CASE("a sealed gateway does nothing unusual to the descriptors that it has") {
  CheckKilled("ioctl TIOCSTI", SYS_ioctl, 0, TIOCSTI, "x");
  CheckKilled("fcntl F_SETFL", SYS_fcntl, 0, F_SETFL, 0);
  CheckKilled("fcntl F_SETOWN", SYS_fcntl, 0, F_SETOWN, 1);
  CheckKilled("dup2", SYS_dup3, 0, 100, 0);
  CheckKilled("pwrite64", SYS_pwrite64, 2, "", 0, 0);
  CheckKilled("tee", SYS_tee, 0, 1, 1, 0);
  CheckKilled("vmsplice", SYS_vmsplice, 1, nullptr, 0, 0);
}

TEST_CASE("a sealed gateway has no memory that is executable beside its own program") {
  if (kSanitized) return;
  CheckKilled("mmap", SYS_mmap, nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CheckKilled("mprotect", SYS_mprotect, nullptr, 0, PROT_READ | PROT_EXEC);
  CheckKilled("pkey_mprotect", SYS_pkey_mprotect, nullptr, 0, PROT_EXEC, 0);
}

#ifdef __x86_64__
TEST_CASE("a sealed gateway cannot go round by the other system call interfaces") {
  constexpr long kX32 = 0x40000000;
  CheckKilled("x32", kX32 | SYS_getpid);
  CHECK(Sealed([] {
          long result = 20;  // getpid, of i386
          asm volatile("int $0x80" : "+a"(result)::"memory", "r8", "r9", "r10", "r11");
        }) == kKilled);
}
#endif

TEST_CASE("a sealed gateway can do its work") {
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  REQUIRE(::bind(listener.get(), generic, size) == 0);
  REQUIRE(::listen(listener.get(), 8) == 0);
  REQUIRE(::getsockname(listener.get(), generic, &size) == 0);
  CheckLives([&] {
    const UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    ::connect(client.get(), generic, size);
    const UniqueFd server(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    char byte = 'x';
    if (::send(server.get(), &byte, 1, MSG_NOSIGNAL) != 1) ::_exit(1);
    std::string large(8 << 20, 'x');  // from mmap
    large.resize(32 << 20);
    ::_exit(::recv(client.get(), &byte, 1, 0) == 1 ? 0 : 2);
  });
}

TEST_CASE("a broken invariant of a sealed gateway is seen as SIGABRT") {
  CHECK(Sealed([] { std::abort(); }) == ExitStatus::Signal(SIGABRT));
}

}  // namespace
}  // namespace modal

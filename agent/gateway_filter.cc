#include "agent/gateway_filter.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <utility>
#include <vector>

#include "agent/base/sanitized.h"

namespace modal {
namespace {

using Call = process::SeccompFilter::AllowedCall;

// Arguments that are an int: the kernel does not look at the upper half of the register.
constexpr uint64_t kInt = 0xffffffff;
constexpr uint64_t kSocketType = 0xf;  // without SOCK_NONBLOCK and SOCK_CLOEXEC

void AddLoop(std::vector<Call>& calls) {
  for (const char* name : {"epoll_wait", "epoll_pwait", "epoll_ctl", "read", "write", "writev",
                           "close", "clock_gettime", "clock_gettime64", "gettimeofday", "time"}) {
    calls.push_back({name});
  }
  calls.push_back({"ioctl", {{1, kInt, FIONBIO}}});          // libuv, on what it watches
  calls.push_back({"fcntl", {{1, kInt, F_DUPFD_CLOEXEC}}});  // the Acceptor's reserve
  calls.push_back({"fcntl64", {{1, kInt, F_DUPFD_CLOEXEC}}});
}

void AddSockets(std::vector<Call>& calls, const GatewayReach& reach) {
  for (const char* name : {"accept4", "connect", "recvfrom", "sendto", "recvmsg", "sendmsg",
                           "shutdown", "getsockopt", "setsockopt", "getsockname", "getpeername"}) {
    calls.push_back({name});
  }
  for (const int family : {AF_INET, AF_INET6}) {
    for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
      if (type == SOCK_DGRAM && !reach.datagrams) continue;
      calls.push_back({"socket",
                       {{0, kInt, static_cast<uint64_t>(family)},
                        {1, kSocketType, static_cast<uint64_t>(type)}}});
    }
  }
  if (reach.unix_sockets) {
    calls.push_back({"socket", {{0, kInt, AF_UNIX}, {1, kSocketType, SOCK_STREAM}}});
  }
}

// Large bodies pass through pipes from socket to socket.
void AddPipes(std::vector<Call>& calls) {
  calls.push_back({"pipe2"});
  calls.push_back({"splice"});
  calls.push_back({"fcntl", {{1, kInt, F_SETPIPE_SZ}}});
  calls.push_back({"fcntl64", {{1, kInt, F_SETPIPE_SZ}}});
}

// The access log, opened by the supervisor and handed over; and settings, in a memfd.
void AddLog(std::vector<Call>& calls) {
  for (const char* name : {"pwritev2", "poll", "lseek", "pread64", "fstat"}) {
    calls.push_back({name});
  }
  // How fstat(3) is made of it: of a descriptor, not of a path.
  calls.push_back({"newfstatat", {{3, kInt, AT_EMPTY_PATH}}});
}

void AddMemory(std::vector<Call>& calls) {
  for (const char* name : {"brk", "munmap", "mremap", "madvise"}) calls.push_back({name});
  for (const char* name : {"mmap", "mmap2", "mprotect"}) {
    calls.push_back({name, {{2, PROT_EXEC, 0}}});
  }
}

// What the C and C++ libraries do by themselves, and how a process ends.
void AddRuntime(std::vector<Call>& calls) {
  for (const char* name : {"futex", "futex_time64", "getrandom", "restart_syscall", "rt_sigreturn",
                           "exit", "exit_group"}) {
    calls.push_back({name});
  }
  calls.push_back({"sched_yield"});  // libuv, where one thread wakes another
  // abort(3), so that a broken invariant is seen as SIGABRT. Nobody else can be signalled.
  for (const char* name : {"rt_sigprocmask", "rt_sigaction", "getpid", "gettid"}) {
    calls.push_back({name});
  }
  calls.push_back({"tgkill", {{0, kInt, static_cast<uint64_t>(::getpid())}, {2, kInt, SIGABRT}}});
}

// What a C library asks by itself at some odd moment (how to give memory back, how many CPUs there
// are), and can do without an answer to: no reason to end a process that serves.
std::vector<Call> Refused() {
  if constexpr (kSanitized) return {};
  constexpr uint64_t kToChange = O_ACCMODE | O_CREAT | O_TRUNC;
  std::vector<Call> calls{{"open", {{1, kToChange, O_RDONLY}}},
                          {"openat", {{2, kToChange, O_RDONLY}}}};
  for (const char* name : {"access", "faccessat", "readlink", "readlinkat", "sched_getaffinity",
                           "sysinfo", "uname", "getrlimit", "getrusage", "getcpu"}) {
    calls.push_back({name});
  }
  calls.push_back({"prlimit64", {{2, ~uint64_t{0}, 0}}});  // to look, not to set
  return calls;
}

// The sanitizers look around before they report; to see whether memory can be read they write it to
// a pipe.
void AddSanitizers(std::vector<Call>& calls) {
  if constexpr (!kSanitized) return;
  for (const char* name :
       {"sigaltstack", "sched_getaffinity", "prctl", "readlink", "readlinkat", "newfstatat", "stat",
        "getrlimit", "prlimit64", "getrusage", "uname", "nanosleep", "clock_nanosleep", "pipe"}) {
    calls.push_back({name});
  }
  for (const char* name : {"mmap", "mmap2", "mprotect"}) calls.push_back({name});
  constexpr uint64_t kToChange = O_ACCMODE | O_CREAT | O_TRUNC;
  calls.push_back({"open", {{1, kToChange, O_RDONLY}}});
  calls.push_back({"openat", {{2, kToChange, O_RDONLY}}});
}

}  // namespace

Result<process::SeccompFilter> GatewayFilter(const GatewayReach& reach) {
  std::vector<Call> calls;
  AddLoop(calls);
  AddSockets(calls, reach);
  AddPipes(calls);
  AddLog(calls);
  AddMemory(calls);
  AddRuntime(calls);
  AddSanitizers(calls);
  return process::SeccompFilter::AllowOnlyMatching(calls, false, Refused());
}

Result<void> SealGateway(const GatewayReach& reach) {
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  // The C library reads the file of the time zone when it first converts a time, be it to UTC.
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return Error::FromErrno("PR_SET_NO_NEW_PRIVS", errno);
  }
  Result<process::SeccompFilter> filter = GatewayFilter(reach);
  if (!filter) return std::move(filter.error());
  return filter->Install();
}

}  // namespace modal

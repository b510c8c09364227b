#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <thread>

#include "agent/base/unique_fd.h"
#include "agent/process/process_table.h"
#include "healthcheck/socket_table.h"

namespace modal::health {
namespace {

using Answer = SocketOwners::Answer;

// On loopback, on a port that the kernel picks.
UniqueFd Listen() {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  MODAL_CHECK(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  MODAL_CHECK(::listen(fd.get(), 1) == 0);
  return fd;
}

uint64_t InodeOf(const UniqueFd& fd) {
  struct stat status {};
  MODAL_CHECK(::fstat(fd.get(), &status) == 0);
  return status.st_ino;
}

struct Pipe {
  UniqueFd read;
  UniqueFd write;
  Pipe() {
    int ends[2];
    MODAL_CHECK(::pipe2(ends, O_CLOEXEC) == 0);
    read.Reset(ends[0]);
    write.Reset(ends[1]);
  }
};

// A process that runs `body` with a function to call when it listens, with the inode; that function
// returns when this object is destroyed, or its process ends in any other way.
class Holder {
 public:
  using Hold = std::function<void(uint64_t inode)>;

  explicit Holder(const std::function<void(const Hold&)>& body) {
    Pipe listening;
    pid_ = ::fork();
    MODAL_CHECK(pid_ >= 0);
    if (pid_ == 0) {
      release_.write.Reset();
      listening.read.Reset();
      body([&](uint64_t inode) {
        MODAL_CHECK(::write(listening.write.get(), &inode, sizeof inode) == sizeof inode);
        listening.write.Reset();
        char byte;
        while (::read(release_.read.get(), &byte, 1) < 0) {
        }
      });
      ::_exit(0);
    }
    listening.write.Reset();
    MODAL_CHECK(::read(listening.read.get(), &inode_, sizeof inode_) == sizeof inode_);
  }
  ~Holder() {
    release_.write.Reset();
    Wait();
  }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;

  pid_t pid() const { return pid_; }
  uint64_t inode() const { return inode_; }
  void Wait() {
    if (!waited_) MODAL_CHECK(::waitpid(pid_, nullptr, 0) == pid_);
    waited_ = true;
  }

 private:
  Pipe release_;
  pid_t pid_ = -1;
  uint64_t inode_ = 0;
  bool waited_ = false;
};

void ListenAndHold(const Holder::Hold& hold) {
  const UniqueFd listener = Listen();
  hold(InodeOf(listener));
}

// Runs `body` in a child; what it returns is the child's exit status.
int InChild(const std::function<int()>& body) {
  const pid_t pid = ::fork();
  MODAL_CHECK(pid >= 0);
  if (pid == 0) ::_exit(body());
  int status = 0;
  MODAL_CHECK(::waitpid(pid, &status, 0) == pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST_CASE("a socket that a child or a grandchild holds is ours") {
  const Holder child(ListenAndHold);
  CHECK(ProcSocketOwners().OwnerOf(child.inode()) == Answer::kOurs);
  const Holder grandchild([](const Holder::Hold& hold) {
    InChild([&] {
      ListenAndHold(hold);
      return 0;
    });
  });
  CHECK(ProcSocketOwners().OwnerOf(grandchild.inode()) == Answer::kOurs);
}

TEST_CASE("a socket that we hold ourselves is the agent's, not the workload's") {
  const UniqueFd listener = Listen();
  CHECK(ProcSocketOwners().OwnerOf(InodeOf(listener)) == Answer::kForeign);
}

TEST_CASE("a socket that nobody holds, or a process that is not below us, is foreign") {
  if (::getpid() == 1) {
    MESSAGE("skipped: everybody is below process 1");
    return;
  }
  uint64_t inode = 0;
  {
    const UniqueFd listener = Listen();
    inode = InodeOf(listener);
  }
  CHECK(ProcSocketOwners().OwnerOf(inode) == Answer::kForeign);

  // The parent in between ends: what is left belongs to a process above us.
  Holder orphan([](const Holder::Hold& hold) {
    if (::fork() == 0) ListenAndHold(hold);
  });
  orphan.Wait();
  CHECK(ProcSocketOwners().OwnerOf(orphan.inode()) == Answer::kForeign);
}

TEST_CASE("a process whose first thread has ended still holds its sockets") {
  const Holder holder([](const Holder::Hold& hold) {
    std::thread([hold] {
      ListenAndHold(hold);
      ::_exit(0);
    }).detach();
    ::syscall(SYS_exit, 0);
  });
  while (process::LookAtProcess(holder.pid()).value_or(process::ProcessInfo{}).state != 'Z') {
    std::this_thread::yield();
  }
  CHECK(ProcSocketOwners().OwnerOf(holder.inode()) == Answer::kOurs);
}

TEST_CASE("without /proc, and for a socket without inode, nothing can be told") {
  const Holder child(ListenAndHold);
  CHECK(ProcSocketOwners("/nowhere").OwnerOf(child.inode()) == Answer::kUnknown);
  CHECK(ProcSocketOwners().OwnerOf(0) == Answer::kUnknown);
}

TEST_CASE("where a descendant's descriptors may not be read, nothing can be told") {
  if (::geteuid() != 0) {
    MESSAGE("skipped: only root can become another user");
    return;
  }
  const int answer = InChild([] {
    const Holder holder(ListenAndHold);
    MODAL_CHECK(::setresuid(65534, 65534, 65534) == 0);
    return static_cast<int>(ProcSocketOwners().OwnerOf(holder.inode()));
  });
  CHECK(answer == static_cast<int>(Answer::kUnknown));
}

// Runs `body` as process 1 of a PID namespace, with or without the /proc that belongs to it. 77 if
// that is not permitted.
int AsProcess1(bool with_proc, const std::function<int()>& body) {
  return InChild([&] {
    if (::unshare(CLONE_NEWPID | CLONE_NEWNS) != 0) return 77;
    return InChild([&] {
      if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return 77;
      if (with_proc && ::mount("proc", "/proc", "proc", 0, nullptr) != 0) return 77;
      return body();
    });
  });
}

TEST_CASE("process 1 owns what anybody in its PID namespace holds, and nothing else") {
  UniqueFd outside = Listen();
  const int failed = AsProcess1(true, [&] {
    const uint64_t outside_inode = InodeOf(outside);
    outside.Reset();  // our copy of it
    ProcSocketOwners owners;
    if (owners.OwnerOf(outside_inode) != Answer::kForeign) return 1;
    Holder daemon([](const Holder::Hold& hold) {
      if (::fork() != 0) return;
      ::setsid();
      ListenAndHold(hold);
    });
    daemon.Wait();
    if (owners.OwnerOf(daemon.inode()) != Answer::kOurs) return 2;
    const UniqueFd own = Listen();
    if (owners.OwnerOf(InodeOf(own)) != Answer::kForeign) return 3;
    return 0;
  });
  if (failed == 77) {
    MESSAGE("skipped: making a PID namespace is not permitted here");
    return;
  }
  CHECK(failed == 0);
}

TEST_CASE("a /proc that counts processes of another namespace tells nothing") {
  const int answer = AsProcess1(false, [] {
    const Holder holder(ListenAndHold);
    return static_cast<int>(ProcSocketOwners().OwnerOf(holder.inode()));
  });
  if (answer == 77) {
    MESSAGE("skipped: making a PID namespace is not permitted here");
    return;
  }
  CHECK(answer == static_cast<int>(Answer::kUnknown));
}

}  // namespace
}  // namespace modal::health

// Other processes for the tests of a snapshot folder: one that works to its end, one that is killed
// on its way, one that holds something until it is let go; and the namespaces they may be in.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <optional>
#include <string>

#include "agent/base/check.h"
#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"
#include "snapshot/folder.h"

namespace modal::snapshot {

inline std::string EndOf(pid_t child) {
  int status = 0;
  MODAL_CHECK(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "" : Concat("ended with ", status);
}

// What `work` returns, in a child of its own.
inline std::string InChild(const std::function<std::string()>& work) {
  int ends[2];
  MODAL_CHECK(::pipe2(ends, O_CLOEXEC) == 0);
  const UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  const pid_t child = ::fork();
  MODAL_CHECK(child >= 0);
  if (child == 0) {
    MODAL_CHECK(WriteAll(writing.get(), work()).ok());
    ::_exit(0);
  }
  writing.Reset();
  std::string text(64 * 1024, '\0');
  const Result<size_t> size = ReadFull(reading.get(), text.data(), text.size());
  MODAL_CHECK(size.ok());
  text.resize(*size);
  return text + EndOf(child);
}

// A child that says when it is ready, and goes on when it is let go.
class HeldChild {
 public:
  // `work` calls its argument once, when it is ready; that returns when it is let go.
  explicit HeldChild(const std::function<void(const std::function<void()>&)>& work) {
    int ready[2];
    int go[2];
    MODAL_CHECK(::pipe2(ready, O_CLOEXEC) == 0 && ::pipe2(go, O_CLOEXEC) == 0);
    UniqueFd ready_in(ready[0]);
    UniqueFd ready_out(ready[1]);
    UniqueFd go_in(go[0]);
    go_ = UniqueFd(go[1]);
    child_ = ::fork();
    MODAL_CHECK(child_ >= 0);
    char byte = 0;
    if (child_ == 0) {
      go_.Reset();
      ready_in.Reset();
      work([&] {
        (void)::write(ready_out.get(), "", 1);
        ready_out.Reset();
        (void)::read(go_in.get(), &byte, 1);
      });
      ::_exit(0);
    }
    ready_out.Reset();
    (void)::read(ready_in.get(), &byte, 1);
  }
  ~HeldChild() {
    if (child_ > 0) (void)LetGo();
  }
  HeldChild(const HeldChild&) = delete;
  HeldChild& operator=(const HeldChild&) = delete;

  std::string LetGo() {
    go_.Reset();
    return EndOf(std::exchange(child_, -1));
  }
  void Kill() {
    MODAL_CHECK(::kill(child_, SIGKILL) == 0);
    (void)EndOf(std::exchange(child_, -1));
  }

 private:
  UniqueFd go_;
  pid_t child_ = -1;
};

enum class Fate { kKilled, kFinished, kNotPermitted };

// Runs `work` in a child that is killed when its `step`th system call (from 1) has returned: what
// others can see of it changes in system calls only.
inline Fate KillAtStep(unsigned step, const std::function<void()>& work) {
  const pid_t child = ::fork();
  MODAL_CHECK(child >= 0);
  if (child == 0) {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(77);
    ::raise(SIGSTOP);
    work();
    ::_exit(0);
  }
  int status = 0;
  MODAL_CHECK(::waitpid(child, &status, 0) == child);
  if (WIFEXITED(status)) return Fate::kNotPermitted;
  MODAL_CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
  MODAL_CHECK(::ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_EXITKILL) == 0);
  for (unsigned i = 0; i < 2 * step; ++i) {  // it stops at the entry too
    MODAL_CHECK(::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr) == 0);
    MODAL_CHECK(::waitpid(child, &status, 0) == child);
    if (WIFEXITED(status)) {
      MODAL_CHECK(WEXITSTATUS(status) == 0);
      return Fate::kFinished;
    }
    MODAL_CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
  }
  MODAL_CHECK(::kill(child, SIGKILL) == 0);
  MODAL_CHECK(::waitpid(child, &status, 0) == child && WIFSIGNALED(status));
  return Fate::kKilled;
}

inline bool WriteTo(const char* path, const std::string& text) {
  const UniqueFd fd(::open(path, O_WRONLY | O_CLOEXEC));
  return fd && WriteAll(fd.get(), text).ok();
}

// For a child: namespaces of its own (as root of its own where it is not root), of which mounts are
// always one. False: not permitted here.
inline bool EnterNamespaces(int others = 0) {
  const std::string uid = Concat("0 ", ::geteuid(), " 1");
  const std::string gid = Concat("0 ", ::getegid(), " 1");
  if (::unshare(CLONE_NEWNS | others) != 0) {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS | others) != 0) return false;
    if (!WriteTo("/proc/self/setgroups", "deny") || !WriteTo("/proc/self/uid_map", uid) ||
        !WriteTo("/proc/self/gid_map", gid)) {
      return false;
    }
  }
  return ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}

inline constexpr const char* kNotPermitted = "not permitted";

// InChild() after EnterNamespaces(); says so where that is not permitted, and then all is well.
inline std::string InNamespaces(const std::function<std::string()>& work) {
  const std::string text =
      InChild([&] { return EnterNamespaces() ? work() : std::string(kNotPermitted); });
  if (text != kNotPermitted) return text;
  MESSAGE("skipped: namespaces are not permitted here");
  return "";
}

}  // namespace modal::snapshot

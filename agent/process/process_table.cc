#include "agent/process/process_table.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <memory>
#include <unordered_map>

#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"

namespace modal::process {
namespace {

constexpr unsigned kForkedNoExec = 0x40;  // PF_FORKNOEXEC in the kernel's include/linux/sched.h

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};
using Folder = std::unique_ptr<DIR, CloseFolder>;

// The next number of a list that is separated by blanks; advances past it.
template <class Number>
bool TakeNumber(std::string_view& text, Number& number) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return false;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return true;
}

// One read: the kernel makes the whole line up at once. The name has at most 64 bytes, the rest 50
// numbers.
std::optional<ProcessInfo> ReadStatOnce(int folder, const char* path) {
  const UniqueFd fd(::openat(folder, path, O_RDONLY | O_CLOEXEC));
  if (!fd) return std::nullopt;
  std::array<char, 2048> buffer;
  const ssize_t size = ::read(fd.get(), buffer.data(), buffer.size());
  if (size <= 0) return std::nullopt;
  return ParseProcessStat({buffer.data(), static_cast<size_t>(size)});
}

// Of a process that is reaped while it is looked at, parent, group and session read as 0; it cannot
// be found a second time. A parent outside of our PID namespace is a lasting 0.
std::optional<ProcessInfo> ReadStat(int folder, const char* path) {
  std::optional<ProcessInfo> info = ReadStatOnce(folder, path);
  return info && info->parent == 0 ? ReadStatOnce(folder, path) : info;
}

}  // namespace

std::optional<ProcessInfo> ParseProcessStat(std::string_view line) {
  // "pid (name) state ppid pgrp session tty_nr tpgid flags ...": the name may hold anything,
  // ")" and newlines included, so it ends at the last one.
  const size_t open = line.find('(');
  const size_t close = line.rfind(')');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) {
    return std::nullopt;
  }
  ProcessInfo info{};
  std::string_view number = line.substr(0, open);
  if (!TakeNumber(number, info.pid)) return std::nullopt;
  info.name = line.substr(open + 1, close - open - 1);

  std::string_view rest = line.substr(close + 1);
  if (rest.size() < 3 || rest[0] != ' ') return std::nullopt;
  info.state = rest[1];
  rest.remove_prefix(2);
  int terminal = 0;
  int foreground = 0;
  unsigned flags = 0;
  if (!TakeNumber(rest, info.parent) || !TakeNumber(rest, info.group) ||
      !TakeNumber(rest, info.session) || !TakeNumber(rest, terminal) ||
      !TakeNumber(rest, foreground) || !TakeNumber(rest, flags)) {
    return std::nullopt;
  }
  info.has_execed = (flags & kForkedNoExec) == 0;
  return info;
}

std::optional<ProcessInfo> LookAtProcess(pid_t pid) {
  return ReadStat(AT_FDCWD, Concat("/proc/", pid, "/stat").c_str());
}

Result<std::vector<ProcessInfo>> ListProcesses() {
  // A PID namespace without a mount of its own still shows its parent's /proc (`unshare -pf`): the
  // numbers there are other processes' here.
  std::array<char, 32> self{};
  const ssize_t size = ::readlink("/proc/self", self.data(), self.size());
  if (size > 0 && ParseUnsigned({self.data(), static_cast<size_t>(size)}) !=
                      static_cast<uint64_t>(::getpid())) {
    return Error("/proc shows another PID namespace than ours");
  }
  const Folder folder(::opendir("/proc"));
  if (!folder) return Error::FromErrno("open /proc", errno);
  std::vector<ProcessInfo> processes;
  errno = 0;
  while (const dirent* entry = ::readdir(folder.get())) {
    if (ParseUnsigned(entry->d_name)) {
      const std::string path = Concat(entry->d_name, "/stat");
      if (auto info = ReadStat(::dirfd(folder.get()), path.c_str())) {
        processes.push_back(*std::move(info));
      }
    }
    errno = 0;
  }
  if (errno != 0) return Error::FromErrno("read /proc", errno);
  // An unmounted /proc is an empty folder: we ourselves at least would be in the real one.
  if (processes.empty()) return Error("/proc shows no processes; is it mounted?");
  return processes;
}

std::vector<ProcessInfo> DescendantsOf(pid_t root, const std::vector<ProcessInfo>& all) {
  std::unordered_multimap<pid_t, const ProcessInfo*> children;
  for (const ProcessInfo& process : all) {
    if (process.pid != root) children.emplace(process.parent, &process);
  }
  // Generation by generation. A process is taken out as it is found: /proc is no snapshot, and
  // reused numbers can make a circle of parents.
  std::vector<ProcessInfo> found;
  pid_t parent = root;
  for (size_t next = 0;; parent = found[next++].pid) {
    const auto [begin, end] = children.equal_range(parent);
    for (auto child = begin; child != end; ++child) found.push_back(*child->second);
    children.erase(begin, end);
    if (next == found.size()) return found;
  }
}

}  // namespace modal::process

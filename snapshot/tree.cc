#include "snapshot/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"
#include "agent/process/file_user.h"
#include "agent/process/process_table.h"

namespace modal::snapshot {
namespace {

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};
using Folder = std::unique_ptr<DIR, CloseFolder>;

std::string ReadProc(pid_t pid, const char* name) {
  const UniqueFd file(::open(Concat("/proc/", pid, "/", name).c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  std::array<char, 4096> piece;
  while (file) {
    const ssize_t got = ::read(file.get(), piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(piece.data(), static_cast<size_t>(got));
  }
  return text;
}

// The bytes of a line "RssAnon:     1234 kB" of /proc/PID/status; 0 if there is none.
uint64_t KibibytesOf(std::string_view status, std::string_view name) {
  const size_t at = status.find(Concat("\n", name, ":"));
  if (at == std::string_view::npos) return 0;
  std::string_view rest = status.substr(at + name.size() + 2);
  rest.remove_prefix(std::min(rest.find_first_not_of(" \t"), rest.size()));
  uint64_t value = 0;
  std::from_chars(rest.data(), rest.data() + rest.size(), value);
  return value * 1024;
}

uint64_t NumberOf(std::string_view status, std::string_view name) {
  return KibibytesOf(status, name) / 1024;
}

// Where each open descriptor of a process leads, by its number: "pipe:[1234]", "/dev/null", ...
std::map<int, std::string> DescriptorsOf(pid_t pid) {
  std::map<int, std::string> links;
  const std::string path = Concat("/proc/", pid, "/fd");
  const Folder folder(::opendir(path.c_str()));
  if (!folder) return links;
  while (const dirent* entry = ::readdir(folder.get())) {
    const std::optional<uint64_t> number = ParseUnsigned(entry->d_name);
    if (!number) continue;
    std::array<char, 4096> link;
    const ssize_t size =
        ::readlinkat(::dirfd(folder.get()), entry->d_name, link.data(), link.size());
    if (size > 0) links[static_cast<int>(*number)].assign(link.data(), static_cast<size_t>(size));
  }
  return links;
}

// What each thread waits in, where the kernel tells.
std::vector<std::string> StackOf(pid_t pid) {
  std::vector<std::string> stack;
  const Folder tasks(::opendir(Concat("/proc/", pid, "/task").c_str()));
  while (const dirent* entry = tasks ? ::readdir(tasks.get()) : nullptr) {
    if (!ParseUnsigned(entry->d_name)) continue;
    std::string channel = ReadProc(pid, Concat("task/", entry->d_name, "/wchan").c_str());
    if (channel.empty() || channel == "0") channel = "running";
    stack.push_back(Concat(entry->d_name, " ", channel));
  }
  std::sort(stack.begin(), stack.end());
  return stack;
}

// The words of a command line, or of a title; as much as can be read on a screen.
std::vector<std::string> CommandOf(pid_t pid) {
  constexpr size_t kMost = 1024;
  const std::string line = ReadProc(pid, "cmdline").substr(0, kMost);
  std::vector<std::string> words;
  for (const std::string& word : Split(line, '\0')) words.push_back(word);
  // What stands behind a title, and behind the last word.
  while (!words.empty() && words.back().empty()) words.pop_back();
  return words;
}

std::string ExecutableOf(pid_t pid) {
  std::array<char, 1024> path;
  const ssize_t size = ::readlink(Concat("/proc/", pid, "/exe").c_str(), path.data(), path.size());
  return size > 0 ? std::string(path.data(), static_cast<size_t>(size)) : "";
}

DumpedProcess Describe(const process::ProcessInfo& process) {
  DumpedProcess dumped;
  dumped.pid = process.pid;
  dumped.parent = process.parent;
  dumped.name = process.name;
  const std::string status = ReadProc(process.pid, "status");
  dumped.memory = KibibytesOf(status, "VmRSS");
  dumped.anonymous = KibibytesOf(status, "RssAnon") + KibibytesOf(status, "RssShmem");
  dumped.threads = static_cast<uint32_t>(NumberOf(status, "Threads"));
  dumped.stack = StackOf(process.pid);
  dumped.executable = ExecutableOf(process.pid);
  dumped.command = CommandOf(process.pid);
  dumped.kinds = ParseSmaps(ReadProc(process.pid, "smaps"));
  return dumped;
}

// The agent's own standard output comes first: where both are one pipe, it is that.
int RoleOf(const std::string& link, const std::map<int, std::string>& held) {
  const auto out = held.find(STDOUT_FILENO);
  return out != held.end() && out->second == link ? STDOUT_FILENO : STDERR_FILENO;
}

// Paths of the unix sockets that are named so ("socket:[1234]") among descriptors.
std::vector<std::string> BoundPaths(const std::set<std::string>& links) {
  std::vector<std::string> paths;
  const std::string table = ReadProc(::getpid(), "net/unix");
  for (const std::string& line : Split(table, '\n')) {
    // "0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/app.sock"
    const size_t path = line.find(" /");
    if (path == std::string::npos) continue;
    const std::string inode = line.substr(0, path).substr(line.rfind(' ', path - 1) + 1);
    if (links.contains(Concat("socket:[", inode, "]"))) paths.push_back(line.substr(path + 1));
  }
  std::sort(paths.begin(), paths.end());
  paths.erase(std::unique(paths.begin(), paths.end()), paths.end());
  return paths;
}

}  // namespace

pid_t RootToDump(pid_t keeper, pid_t workload, const std::vector<process::ProcessInfo>& all) {
  bool is_leader = false;
  for (const process::ProcessInfo& process : all) {
    const bool is_zombie = process.state == 'Z';
    if (process.parent == keeper && process.pid != workload && !is_zombie) return keeper;
    if (process.pid != workload) continue;
    is_leader = process.parent == keeper && process.session == workload && !is_zombie;
  }
  return is_leader ? workload : keeper;
}

Result<TreeFacts> LookAtTree(pid_t root, pid_t holder, uid_t uid, gid_t gid) {
  const Result<std::vector<process::ProcessInfo>> all = process::ListProcesses();
  if (!all) return all.error();
  const std::optional<process::ProcessInfo> first = process::LookAtProcess(root);
  if (!first) return Error("the process tree is gone");
  std::vector<process::ProcessInfo> tree = {*first};
  for (const process::ProcessInfo& process : process::DescendantsOf(root, *all)) {
    tree.push_back(process);
  }

  TreeFacts facts;
  const std::map<int, std::string> held = DescriptorsOf(holder);
  std::map<std::string, int> shared;
  std::set<std::string> sockets;
  std::set<std::string> files;
  const process::FileUser user(uid, gid);
  for (const process::ProcessInfo& process : tree) {
    facts.processes.push_back(Describe(process));
    if (process.pid < 1 || process.state == 'Z') continue;
    for (const auto& [fd, link] : DescriptorsOf(process.pid)) {
      const bool is_held = link.starts_with("pipe:[") &&
                           std::any_of(held.begin(), held.end(), [&link = link](const auto& own) {
                             return own.second == link;
                           });
      if (is_held) shared.emplace(link, RoleOf(link, held));
      if (link.starts_with("socket:[")) sockets.insert(link);
      if (link.starts_with("/")) files.insert(link);
    }
  }
  for (const auto& [link, fd] : shared) facts.descriptors.push_back({fd, link});
  facts.sockets = BoundPaths(sockets);
  facts.files.assign(files.begin(), files.end());
  return facts;
}

}  // namespace modal::snapshot

#include "snapshot/held_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>

#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"
#include "agent/process/process_table.h"
#include "snapshot/listing.h"

namespace modal::snapshot {
namespace {

using std::string_view_literals::operator""sv;

constexpr unsigned kMemoryDevices = 1;  // /dev/null, /dev/zero, /dev/urandom, ...
// What the kernel makes up for a process alone.
constexpr std::array kOwn{"anon_inode:[eventfd]"sv, "anon_inode:[eventpoll]"sv,
                          "anon_inode:[signalfd]"sv, "anon_inode:[timerfd]"sv};

// Nothing: it could not be read to its end.
std::optional<std::string> ReadAll(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return std::nullopt;
  std::string text;
  std::array<char, 16384> piece;
  for (;;) {
    const ssize_t got = ::read(file.get(), piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::nullopt;
    if (got == 0) return text;
    text.append(piece.data(), static_cast<size_t>(got));
  }
}

bool IsDeleted(std::string_view path) { return path.ends_with(" (deleted)"); }
bool IsMemoryAlone(std::string_view path) {
  return path.starts_with("/memfd:") || path == "/dev/zero (deleted)";
}
// Of a file that is there, and whose name is told as it is.
bool IsPlainPath(std::string_view path) {
  if (!path.starts_with('/') || IsDeleted(path)) return false;
  return !path.starts_with("/proc/") && !path.starts_with("/sys/");
}

// The fields of a line that blanks part, and what comes after them as it is.
std::string_view AfterFields(std::string_view line, int fields, std::string_view& last) {
  for (int i = 0; i < fields; ++i) {
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    last = line.substr(0, line.find(' '));
    line.remove_prefix(last.size());
  }
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  return line;
}

// Locks are files' too, and others see them; descriptors on their way through a socket are not
// looked at.
bool IsPlainInfo(std::string_view info) {
  if (info.find("lock:\t") != std::string_view::npos) return false;
  const size_t sent = info.find("scm_fds: ");
  return sent == std::string_view::npos || info.substr(sent + 9).starts_with("0\n");
}

}  // namespace

std::optional<HeldFiles> HeldFiles::Look(pid_t root) {
  const Result<std::vector<process::ProcessInfo>> all = process::ListProcesses();
  if (!all) return std::nullopt;
  HeldFiles held;
  if (!held.LookAt(root)) return std::nullopt;
  for (const process::ProcessInfo& one : process::DescendantsOf(root, *all)) {
    if (one.state != 'Z' && !held.LookAt(one.pid)) return std::nullopt;
  }
  if (held.HaveSocketsPaths()) return std::nullopt;
  return held;
}

bool HeldFiles::HasOneOf(const std::string& root, const ChangedFiles& changed) const {
  const std::string above = root.ends_with('/') ? root : root + "/";
  return std::any_of(changed.files.begin(), changed.files.end(),
                     [&](const ChangedFile& file) { return paths_.contains(above + file.path); });
}

bool HeldFiles::LookAt(pid_t pid) {
  const std::string process = Concat("/proc/", pid);
  for (const char* name : {"cwd", "root"}) {
    const auto folder = LinkTarget(AT_FDCWD, Concat(process, "/", name).c_str());
    if (!folder || (*folder != "/" && !IsPlainPath(*folder))) return false;
  }
  int code = 0;
  const UniqueFd folder = OpenFolder(AT_FDCWD, Concat(process, "/fd").c_str(), code);
  Listing descriptors;
  if (!folder || descriptors.Read(folder.get()) != 0) return false;
  for (size_t i = 0; i < descriptors.size(); ++i) {
    if (!AddDescriptor(pid, descriptors.name(i))) return false;
  }
  return AddMapped(pid);
}

bool HeldFiles::AddDescriptor(pid_t pid, const std::string& number) {
  const std::string path = Concat("/proc/", pid, "/fd/", number);
  const auto link = LinkTarget(AT_FDCWD, path.c_str());
  struct stat facts {};
  if (!link || ::stat(path.c_str(), &facts) != 0) return false;
  const auto info = ReadAll(Concat("/proc/", pid, "/fdinfo/", number));
  if (!info || !IsPlainInfo(*info)) return false;
  switch (facts.st_mode & S_IFMT) {
    case S_IFREG:
      if (IsMemoryAlone(*link)) return true;
      paths_.insert(*link);
      return IsPlainPath(*link);
    case S_IFDIR:
      return *link == "/" || IsPlainPath(*link);
    case S_IFIFO:
      return link->starts_with("pipe:[");
    case S_IFSOCK:
      if (!link->starts_with("socket:[")) return false;
      sockets_.insert(link->substr(8, link->size() - 9));
      return true;
    case S_IFCHR:
      return major(facts.st_rdev) == kMemoryDevices;
    default:
      return std::find(kOwn.begin(), kOwn.end(), *link) != kOwn.end();
  }
}

bool HeldFiles::AddMapped(pid_t pid) {
  const auto maps = ReadAll(Concat("/proc/", pid, "/maps"));
  if (!maps) return false;
  for (const std::string& line : Split(*maps, '\n')) {
    // "7f1c0000-7f1c2000 r--p 00000000 fe:01 1234      /usr/lib/libc.so.6"
    std::string_view inode;
    const std::string_view path = AfterFields(line, 5, inode);
    if (inode.empty() || inode == "0" || IsMemoryAlone(path)) continue;
    // A line's end in a name stands there as "\012".
    if (!IsPlainPath(path) || path.find('\\') != std::string_view::npos) return false;
    if (path.starts_with("/dev/") && !path.starts_with("/dev/shm/")) return false;
    paths_.emplace(path);
  }
  return true;
}

bool HeldFiles::HaveSocketsPaths() const {
  const auto table = ReadAll("/proc/self/net/unix");
  if (!table || table->empty()) return !sockets_.empty();
  for (const std::string& line : Split(*table, '\n')) {
    // "0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/app.sock"
    std::string_view inode;
    const std::string_view name = AfterFields(line, 7, inode);
    if (name.empty() || name.front() == '@') continue;
    if (sockets_.contains(std::string(inode))) return true;
  }
  return false;
}

}  // namespace modal::snapshot

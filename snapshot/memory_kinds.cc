#include "snapshot/memory_kinds.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace modal::snapshot {
namespace {

struct Mapping {
  std::string_view permissions;  // "rw-p"
  bool has_inode = false;
  std::string_view name;
  uint64_t resident = 0;
  uint64_t anonymous = 0;
};

std::string_view NextWord(std::string_view& line) {
  line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  const std::string_view word = line.substr(0, line.find_first_of(" \t"));
  line.remove_prefix(word.size());
  return word;
}

// "7f1c00000000-7f1c00021000 rw-p 00000000 00:00 0      [heap]"
std::optional<Mapping> ReadHead(std::string_view line) {
  const std::string_view range = NextWord(line);
  const bool is_head = range.find('-') != std::string_view::npos && !range.ends_with(':');
  if (!is_head) return std::nullopt;
  Mapping mapping;
  mapping.permissions = NextWord(line);
  NextWord(line);  // offset
  NextWord(line);  // device
  mapping.has_inode = NextWord(line) != "0";
  line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  mapping.name = line;
  return mapping;
}

bool IsMemoryAlone(std::string_view name) {
  return name.starts_with("/dev/shm/") || name.starts_with("/memfd:") ||
         name.starts_with("/SYSV") || name.starts_with("/dev/zero") || name.starts_with("[anon");
}

void Add(const Mapping& mapping, MemoryKinds& kinds) {
  const std::string_view name = mapping.name;
  const uint64_t from_file = mapping.resident - std::min(mapping.anonymous, mapping.resident);
  if (name.starts_with("[v")) return;  // vdso, vvar, vsyscall: the kernel's own
  if (name == "[heap]") {
    kinds.heap += mapping.resident;
  } else if (name.starts_with("[stack")) {
    kinds.stack += mapping.resident;
  } else if (mapping.permissions.ends_with('s')) {
    (IsMemoryAlone(name) ? kinds.shared : kinds.file) += mapping.resident;
  } else if (!mapping.has_inode) {
    kinds.anonymous += mapping.resident;
  } else {
    kinds.file_private += mapping.anonymous;
    (IsMemoryAlone(name) ? kinds.shared : kinds.file) += from_file;
  }
}

}  // namespace

MemoryKinds& MemoryKinds::operator+=(const MemoryKinds& other) {
  heap += other.heap;
  stack += other.stack;
  anonymous += other.anonymous;
  file_private += other.file_private;
  shared += other.shared;
  file += other.file;
  return *this;
}

MemoryKinds ParseSmaps(std::string_view text) {
  MemoryKinds kinds;
  std::optional<Mapping> mapping;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (std::optional<Mapping> next = ReadHead(line)) {
      if (mapping) Add(*mapping, kinds);
      mapping = next;
      continue;
    }
    const std::string_view name = NextWord(line);
    const std::string_view number = NextWord(line);
    uint64_t kibibytes = 0;
    std::from_chars(number.data(), number.data() + number.size(), kibibytes);
    if (mapping && name == "Rss:") mapping->resident = kibibytes * 1024;
    if (mapping && name == "Anonymous:") mapping->anonymous = kibibytes * 1024;
  }
  if (mapping) Add(*mapping, kinds);
  return kinds;
}

}  // namespace modal::snapshot

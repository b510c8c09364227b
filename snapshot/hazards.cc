#include "snapshot/hazards.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"
#include "snapshot/tar.h"

namespace modal::snapshot {
namespace {

// The tables of proc(5), and the column with the time of the last change in seconds: that of
// creation, if there was no other.
struct SystemVTable {
  const char* name;
  const char* what;
  size_t changed;
};
constexpr std::array<SystemVTable, 3> kSystemV = {
    {{"sem", "semaphores", 9}, {"msg", "message queues", 13}, {"shm", "shared memory", 13}}};
constexpr int64_t kSecond = 1'000'000'000;
constexpr size_t kLongestTable = size_t{1} << 20;

std::string ReadAll(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  std::array<char, 4096> piece;
  while (file && text.size() < kLongestTable) {
    const ssize_t got = ::read(file.get(), piece.data(), piece.size());
    if (got <= 0) break;
    text.append(piece.data(), static_cast<size_t>(got));
  }
  return text;
}

std::vector<std::string> WordsOf(const std::string& line) {
  std::vector<std::string> words = Split(line, ' ');
  std::erase_if(words, [](const std::string& word) { return word.empty(); });
  return words;
}

// Whether any was made or changed since then. Clocks of whole seconds: in the same one counts.
bool HasNew(const std::string& table, size_t column, int64_t since_ns) {
  for (const std::string& line : Split(table, '\n')) {
    const std::vector<std::string> words = WordsOf(line);
    const auto changed = words.size() > column ? ParseUnsigned(words[column]) : std::nullopt;
    if (changed && static_cast<int64_t>(*changed) >= since_ns / kSecond) return true;
  }
  return false;
}

// SQLite's file format: a mark, and at 18 which journal is written, 1 being that of rollback.
bool IsDatabaseWithRollback(const std::string& path) {
  constexpr std::string_view kMark("SQLite format 3\0", 16);
  constexpr size_t kJournal = 18;
  constexpr char kRollback = 1;
  const UniqueFd file(
      ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
  std::array<char, 20> head{};
  if (!file || ::pread(file.get(), head.data(), head.size(), 0) != ssize_t{head.size()}) {
    return false;
  }
  return std::string_view(head.data(), kMark.size()) == kMark && head[kJournal] == kRollback;
}

}  // namespace

Result<void> FindHazard(const HazardSpec& spec, const ChangedFiles& travels,
                        const std::vector<std::string>& open) {
  for (const SystemVTable& table : kSystemV) {
    if (HasNew(ReadAll(Concat(spec.root, "/proc/sysvipc/", table.name)), table.changed,
               spec.since_ns)) {
      return Error(Concat("the start has made System V ", table.what,
                          ", which cannot travel with a snapshot"));
    }
  }
  for (const ChangedFile& file : travels.files) {
    const std::string path = "/" + file.path;
    if (std::find(open.begin(), open.end(), path) == open.end()) continue;
    if (!IsDatabaseWithRollback(spec.root + path)) continue;
    return Error(Concat(QuotedName(path), ": an SQLite database that is held open would not take ",
                        "writes after it has travelled with a snapshot; put it on a volume, or ",
                        "use its write-ahead log (pragma journal_mode=wal)"));
  }
  return {};
}

}  // namespace modal::snapshot

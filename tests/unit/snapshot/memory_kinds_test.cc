#include "snapshot/memory_kinds.h"

#include <doctest/doctest.h>

#include <fstream>
#include <sstream>
#include <string>

namespace modal::snapshot {
namespace {

std::string Mapping(const std::string& head, int resident, int anonymous) {
  return head + "\nSize:             4096 kB\nRss:              " + std::to_string(resident) +
         " kB\nPss:                 1 kB\nAnonymous:           " + std::to_string(anonymous) +
         " kB\nVmFlags: rd wr mr\n";
}

constexpr uint64_t kKiB = 1024;

TEST_CASE("each mapping counts as what it is") {
  const std::string text =
      Mapping("55d0-55d1 r-xp 00001000 fe:00 42      /usr/bin/python3.11", 300, 0) +
      Mapping("55d1-55d2 rw-p 00002000 fe:00 42      /usr/bin/python3.11", 50, 40) +
      Mapping("55d2-55d3 rw-p 00000000 00:00 0       [heap]", 700, 700) +
      Mapping("7f00-7f01 rw-p 00000000 00:00 0 ", 1000, 999) +
      Mapping("7f01-7f02 rw-p 00000000 00:00 0       [anon: glibc: malloc]", 24, 24) +
      Mapping("7f02-7f03 rw-s 00000000 00:01 77      /memfd:board (deleted)", 12, 0) +
      Mapping("7f03-7f04 rw-s 00000000 00:01 78      /dev/zero (deleted)", 4, 0) +
      Mapping("7f04-7f05 r--s 00000000 fe:00 43      /usr/lib/gconv-modules.cache", 28, 0) +
      Mapping("7f05-7f06 rw-p 00000000 00:01 79      /dev/shm/a file", 9, 4) +
      Mapping("7ffc-7ffd rw-p 00000000 00:00 0       [stack]", 84, 84) +
      Mapping("7ffe-7fff r-xp 00000000 00:00 0       [vdso]", 4, 0);
  const MemoryKinds kinds = ParseSmaps(text);
  CHECK(kinds.heap == 700 * kKiB);
  CHECK(kinds.stack == 84 * kKiB);
  CHECK(kinds.anonymous == 1024 * kKiB);
  CHECK(kinds.file_private == 44 * kKiB);
  CHECK(kinds.shared == 21 * kKiB);
  CHECK(kinds.file == 338 * kKiB);
  MemoryKinds twice = kinds;
  twice += kinds;
  CHECK(twice.heap == 2 * kinds.heap);
  CHECK(twice.file == 2 * kinds.file);
}

TEST_CASE("what is no smaps is nothing, and what is cut off counts as far as it goes") {
  for (const std::string text :
       {"", "\n\n", "Rss: 5 kB\n", "nonsense", "a-b", "a-b rw-p", "-", "Rss:\nAnonymous: x kB"}) {
    const MemoryKinds kinds = ParseSmaps(text);
    CHECK(kinds.heap + kinds.stack + kinds.file_private + kinds.shared + kinds.file == 0);
  }
  CHECK(ParseSmaps("1-2 rw-p 0 0:0 0 [heap]\nRss: 8 kB").heap == 8 * kKiB);
  CHECK(ParseSmaps("1-2 rw-p 0 0:0 5 /f\nRss: 1 kB\nAnonymous: 9 kB\n").file == 0);
}

TEST_CASE("this process's own memory is all accounted for") {
  std::ostringstream text;
  text << std::ifstream("/proc/self/smaps").rdbuf();
  const MemoryKinds kinds = ParseSmaps(text.str());
  CHECK(kinds.stack > 0);
  CHECK(kinds.file > 0);
  CHECK(kinds.heap + kinds.anonymous > 0);
}

}  // namespace
}  // namespace modal::snapshot

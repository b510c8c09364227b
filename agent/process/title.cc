#include "agent/process/title.h"

#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>

namespace modal::process {
namespace {

// The kernel puts the words of the command line and then those of the environment one behind the
// other; /proc/PID/cmdline goes on into the latter if the last byte of the former is not zero.
struct Room {
  char* begin = nullptr;
  char* end = nullptr;
};

Room& OwnRoom() {
  static Room room;
  return room;
}

}  // namespace

void KeepArguments(int argc, char** argv) {
  if (argc < 1) return;
  Room& room = OwnRoom();
  room.begin = room.end = argv[0];
  const auto grow = [&room](char* word) {
    if (word == room.end) room.end = word + ::strlen(word) + 1;
  };
  std::for_each(argv, argv + argc, grow);
  for (char** word = environ; word != nullptr && *word != nullptr; ++word) grow(*word);
}

void SetTitle(const char* title) {
  (void)::prctl(PR_SET_NAME, title);
  const Room& room = OwnRoom();
  if (room.begin == room.end) return;
  const size_t size = static_cast<size_t>(room.end - room.begin);
  ::memset(room.begin, 0, size);
  ::memcpy(room.begin, title, std::min(::strlen(title), size - 1));
}

}  // namespace modal::process

#include "snapshot/held_files.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "agent/base/check.h"
#include "agent/base/passed_descriptors.h"
#include "agent/base/sanitized.h"
#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"
#include "agent/process/process_table.h"
#include "tests/unit/snapshot/child_process.h"
#include "tests/unit/snapshot/file_tree.h"

namespace modal::snapshot {
namespace {

using testing::FileTree;

// ThreadSanitizer maps a file without a name in each process.
constexpr bool kHoldsMore = kThreadSanitizer;

// Of a process that holds nothing of ours but what `work` leaves it: "unknown", "touches" the file
// "carried", or "free".
std::string LookAt(const FileTree& place, const std::function<void()>& work) {
  return InChild([&]() -> std::string {
    const pid_t holder = ::getpid();
    HeldChild child([&](const std::function<void()>& ready) {
      // What the test's own process has open may be anything.
      const UniqueFd nothing(::open("/dev/null", O_RDWR));
      for (const int fd : {0, 1, 2}) ::dup2(nothing.get(), fd);
      MODAL_CHECK(::chdir(place.path().c_str()) == 0);
      work();
      ready();
    });
    const Result<std::vector<process::ProcessInfo>> all = process::ListProcesses();
    for (const process::ProcessInfo& one : *all) {
      if (one.parent != holder || one.state == 'Z') continue;
      const std::optional<HeldFiles> held = HeldFiles::Look(one.pid);
      if (!held) return "unknown";
      ChangedFiles changed;
      changed.files = {{"elsewhere", 1}, {"carried", 1}};
      return held->HasOneOf(place.path(), changed) ? "touches" : "free";
    }
    return "nobody";
  });
}

void Bind(const std::string& name, size_t extra) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  name.copy(address.sun_path, sizeof address.sun_path - 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() + extra);
  MODAL_CHECK(::bind(fd, reinterpret_cast<const sockaddr*>(&address), size) == 0);
}

int Open(const FileTree& place, const std::string& name) {
  const int fd = ::open(place.At(name).c_str(), O_RDWR | O_NONBLOCK);
  MODAL_CHECK(fd >= 0);
  return fd;
}

TEST_CASE("descriptors that touch no file of the container are known to be free of that" *
          doctest::skip(kHoldsMore)) {
  const FileTree place;
  place.File("other", "x");
  CHECK(LookAt(place, [&] {
          int ends[2];
          MODAL_CHECK(::pipe(ends) == 0);
          MODAL_CHECK(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
          MODAL_CHECK(::socket(AF_INET, SOCK_STREAM, 0) >= 0);
          MODAL_CHECK(::epoll_create1(0) >= 0);
          MODAL_CHECK(::memfd_create("memory", 0) >= 0);
          MODAL_CHECK(::open("/dev/urandom", O_RDONLY) >= 0);
          MODAL_CHECK(::open("/", O_RDONLY | O_DIRECTORY) >= 0);
          const int other = Open(place, "other");
          MODAL_CHECK(::mmap(nullptr, 1, PROT_READ, MAP_PRIVATE, other, 0) != MAP_FAILED);
          MODAL_CHECK(::mmap(nullptr, 1, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0) !=
                      MAP_FAILED);
          Bind(std::string(1, '\0') + "modal-held-files-test", 0);
        }) == "free");
}

TEST_CASE("what is open or mapped of files that travel is told" * doctest::skip(kHoldsMore)) {
  const FileTree place;
  place.File("carried", "x");
  SUBCASE("open") {
    CHECK(LookAt(place, [&] { Open(place, "carried"); }) == "touches");
  }
  SUBCASE("mapped") {
    CHECK(LookAt(place, [&] {
            const int fd = Open(place, "carried");
            MODAL_CHECK(::mmap(nullptr, 1, PROT_READ, MAP_PRIVATE, fd, 0) != MAP_FAILED);
            ::close(fd);
          }) == "touches");
  }
  SUBCASE("by a child, which its end lets go") {
    CHECK(LookAt(place, [&] {
            (void)new HeldChild([&](const std::function<void()>& ready) {
              Open(place, "carried");
              ready();
            });
          }) == "touches");
  }
}

TEST_CASE("whatever CRIU changes files for is not known to be free of that") {
  const FileTree place;
  place.File("file", "x");
  const auto is_unknown = [&](const std::function<void()>& work) {
    return LookAt(place, work) == "unknown";
  };
  SUBCASE("a socket with a path") {
    CHECK(is_unknown([&] { Bind(place.At("socket"), 1); }));
  }
  SUBCASE("a socket with a relative path") {
    CHECK(is_unknown([] { Bind("socket", 1); }));
  }
  SUBCASE("a FIFO") {
    place.Fifo("fifo");
    CHECK(is_unknown([&] { Open(place, "fifo"); }));
  }
  SUBCASE("a file without a name") {
    CHECK(is_unknown([&] {
      Open(place, "file");
      place.Remove("file");
    }));
  }
  SUBCASE("one that is only mapped") {
    CHECK(is_unknown([&] {
      const int fd = Open(place, "file");
      MODAL_CHECK(::mmap(nullptr, 1, PROT_READ, MAP_PRIVATE, fd, 0) != MAP_FAILED);
      ::close(fd);
      place.Remove("file");
    }));
  }
  SUBCASE("a lock") {
    CHECK(is_unknown([&] { MODAL_CHECK(::flock(Open(place, "file"), LOCK_EX) == 0); }));
  }
  SUBCASE("a working folder without a name") {
    CHECK(is_unknown([&] {
      place.Folder("gone");
      MODAL_CHECK(::chdir(place.At("gone").c_str()) == 0);
      place.Remove("gone");
    }));
  }
  SUBCASE("a terminal") {
    CHECK(is_unknown([] { MODAL_CHECK(::open("/dev/ptmx", O_RDWR | O_NOCTTY) >= 0); }));
  }
  SUBCASE("a descriptor on its way") {
    CHECK(is_unknown([&] {
      int ends[2];
      MODAL_CHECK(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
      const std::byte byte{};
      const int file = Open(place, "file");
      MODAL_CHECK(SendWithDescriptors(ends[0], std::span(&byte, 1), std::array{file}) == 1);
    }));
  }
}

TEST_CASE("what a tree that is gone held is not known") {
  CHECK_FALSE(HeldFiles::Look(0x7ffffff0));
}

}  // namespace
}  // namespace modal::snapshot

// With real userfaultfds, of child processes that do what CRIU and a restored process do.
#include "snapshot/page_server.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <functional>
#include <span>
#include <thread>

#include "agent/base/check.h"
#include "agent/base/passed_descriptors.h"
#include "agent/base/strings.h"
#include "snapshot/page_sums.h"
#include "snapshot/page_worker.h"
#include "snapshot/userfaultfd.h"
#include "tests/unit/snapshot/file_tree.h"
#include "tests/unit/snapshot/page_images.h"

namespace modal::snapshot {
namespace {

using namespace testing;

constexpr uint64_t kPages = 2048;
constexpr uint64_t kBytes = kPages * kPage;
constexpr int kPid = 1000;  // by which CRIU knows the process: any number

// Every page of the file begins with its number, from 1, and ends with it.
std::string PageOf(uint64_t number) {
  std::string page(kPage, static_cast<char>(number % 251 + 1));
  std::memcpy(page.data(), &number, sizeof number);
  std::memcpy(page.data() + kPage - sizeof number, &number, sizeof number);
  return page;
}

uint64_t NumberAt(const std::byte* page) {
  uint64_t first = 0;
  uint64_t last = 0;
  std::memcpy(&first, page, sizeof first);
  std::memcpy(&last, page + kPage - sizeof last, sizeof last);
  return first == last ? first : ~uint64_t{0};
}

struct Place {
  Place() {
    memory = static_cast<std::byte*>(
        ::mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    MODAL_CHECK(memory != MAP_FAILED);
    images.Folder("images");
    folder.Reset(::open(images.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    address.sun_family = AF_UNIX;
    const std::string path = images.At(kPagesSocket);
    std::memcpy(address.sun_path, path.data(), path.size());
    listener.Reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    MODAL_CHECK(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    MODAL_CHECK(::listen(listener.get(), 1) == 0);
    int pair[2];
    MODAL_CHECK(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    supervisor.Reset(pair[0]);
    channel.Reset(pair[1]);
    MODAL_CHECK(::pipe2(pair, O_CLOEXEC) == 0);
    told.Reset(pair[0]);
    telling.Reset(pair[1]);
    Images({{0, kPages}});
  }
  ~Place() {
    if (process > 0) {
      ::kill(process, SIGKILL);
      ::waitpid(process, nullptr, 0);
    }
    ::munmap(memory, kBytes);
  }

  // Pages of our memory, by their numbers there.
  void Images(const std::vector<MapEntry>& pages, uint64_t not_inherited = 0) {
    std::vector<MapEntry> entries = pages;
    std::string content;
    for (MapEntry& entry : entries) {
      for (uint64_t i = 0; i < entry.pages; ++i) content += PageOf(entry.address + i + 1);
      entry.address = Address(entry.address);
    }
    images.File("images/pagemap-1000.img", PageMapImage(7, entries));
    images.File("images/pages-7.img", content);
    images.Remove("images/sums-7.img");
    MODAL_CHECK(WritePageSums(images.At("images")).ok());
    std::vector<Mapping> mappings{{Address(0), Address(kPages)}};
    if (not_inherited > 0) {
      mappings[0].start = Address(not_inherited);
      mappings.push_back({Address(0), Address(not_inherited), 1 << 18});
    }
    images.File("images/mm-1000.img", MemoryImage(mappings));
  }
  uint64_t Address(uint64_t page) const {
    return reinterpret_cast<uint64_t>(memory) + page * kPage;
  }

  struct Part {
    uint64_t events = UserfaultfdEvents();
    bool says_finished = true;
  };
  // A child that CRIU has restored does `work` and tells what came of it.
  void Start(const std::function<std::string(std::byte* memory)>& work) { Start(work, Part{}); }
  void Start(const std::function<std::string(std::byte* memory)>& work, Part part) {
    process = ::fork();
    MODAL_CHECK(process >= 0);
    if (process != 0) return;
    listener.Reset();
    supervisor.Reset();
    const UniqueFd criu(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    MODAL_CHECK(::connect(criu.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    MODAL_CHECK(::mmap(memory, kBytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == memory);
    Hand(criu.get(), part.events);
    const int32_t zombie = -1234;
    const int32_t finished = 0x52535446;
    MODAL_CHECK(::send(criu.get(), &zombie, sizeof zombie, 0) == sizeof zombie);
    if (part.says_finished) {
      MODAL_CHECK(::send(criu.get(), &finished, sizeof finished, 0) == sizeof finished);
      Tell(work(memory));
      ::_exit(0);
    }
    ::_exit(1);
  }
  void Hand(int criu, uint64_t events) const {
    const UniqueFd fd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = events;
    MODAL_CHECK(::ioctl(fd.get(), UFFDIO_API, &api) == 0);
    uffdio_register all{};
    all.range = {Address(0), kBytes};
    all.mode = UFFDIO_REGISTER_MODE_MISSING;
    MODAL_CHECK(::ioctl(fd.get(), UFFDIO_REGISTER, &all) == 0);
    const int32_t pid = kPid;
    MODAL_CHECK(::send(criu, &pid, sizeof pid, 0) == sizeof pid);
    const std::byte byte{};
    MODAL_CHECK(SendWithDescriptors(criu, std::span(&byte, 1), std::array{fd.get()}) == 1);
  }
  void Tell(const std::string& text) const {
    MODAL_CHECK(::write(telling.get(), text.data(), text.size()) ==
                static_cast<ssize_t>(text.size()));
  }
  std::string Hear() {
    std::string text(4096, '\0');
    const ssize_t got = ::read(told.get(), text.data(), text.size());
    MODAL_CHECK(got >= 0);
    text.resize(static_cast<size_t>(got));
    return text;
  }
  bool HasTold() const {
    pollfd polled{told.get(), POLLIN, 0};
    return ::poll(&polled, 1, 0) > 0;
  }

  // "": all was well.
  std::string Serve() {
    server = std::make_unique<PageServer>(std::move(listener), std::move(folder), channel.get());
    const Result<void> served = server->Serve();
    return served ? "" : served.error().message();
  }

  FileTree images;
  sockaddr_un address{};
  UniqueFd folder;
  UniqueFd listener;
  UniqueFd supervisor;
  UniqueFd channel;
  UniqueFd told;
  UniqueFd telling;
  std::byte* memory = nullptr;
  pid_t process = -1;
  std::unique_ptr<PageServer> server;
};

bool IsPossible() {
  const Result<uint64_t> features = ProbeUserfaultfd();
  if (!features) MESSAGE("skipped: ", features.error().message());
  return features.ok();
}

// The first page that is not what it should be.
std::string Compare(const std::byte* memory, uint64_t first, uint64_t pages, uint64_t number) {
  for (uint64_t i = 0; i < pages; ++i) {
    const uint64_t seen = NumberAt(memory + (first + i) * kPage);
    const uint64_t wanted = number == 0 ? 0 : number + i;
    if (seen != wanted) return Concat("page ", first + i, " is ", seen, " instead of ", wanted);
  }
  return "whole";
}

TEST_CASE_FIXTURE(Place, "all memory comes back, and what was never used is zero") {
  if (!IsPossible()) return;
  Images({{1, 10}, {100, 1000}, {1500, 500}});
  Start([](std::byte* at) {
    std::string seen = Compare(at, 1500, 500, 1501);
    if (seen == "whole") seen = Compare(at, 100, 1000, 101);
    if (seen == "whole") seen = Compare(at, 11, 89, 0);
    if (seen == "whole") seen = Compare(at, 2000, 48, 0);
    return seen == "whole" ? Compare(at, 1, 10, 2) : seen;
  });
  CHECK(Serve() == "");
  CHECK(Hear() == "whole");
  CHECK(server->counts().pages == 1510);
}

TEST_CASE_FIXTURE(Place, "memory that nobody touches comes, too") {
  if (!IsPossible()) return;
  Start([](std::byte*) { return std::string("asleep") + std::to_string(::pause()); });
  CHECK(Serve() == "");
  CHECK(server->counts().pages == kPages);
  CHECK(server->counts().faults == 0);
}

TEST_CASE_FIXTURE(Place, "what is thrown away, unmapped or moved meanwhile does not come back") {
  if (!IsPossible()) return;
  Start([](std::byte* at) -> std::string {
    constexpr uint64_t kPart = 256;
    const auto part = [at](uint64_t number) { return at + number * kPart * kPage; };
    // From the end: the other end is filled meanwhile.
    MODAL_CHECK(::madvise(part(7), kPart * kPage, MADV_DONTNEED) == 0);
    MODAL_CHECK(::munmap(part(6), kPart * kPage) == 0);
    MODAL_CHECK(::mprotect(part(4) + 16 * kPage, 16 * kPage, PROT_READ) == 0);
    void* const moved = ::mremap(part(5), kPart * kPage, 2 * kPart * kPage, MREMAP_MAYMOVE);
    MODAL_CHECK(moved != MAP_FAILED);
    const auto* there = static_cast<const std::byte*>(moved);
    std::string seen = Compare(there, 0, kPart, 5 * kPart + 1);
    if (seen != "whole") return "moved: " + seen;
    seen = Compare(there, kPart, kPart, 0);
    if (seen != "whole") return "grown: " + seen;
    seen = Compare(at, 7 * kPart, kPart, 0);
    if (seen != "whole") return "thrown away: " + seen;
    MODAL_CHECK(::mmap(part(6), kPart * kPage, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == part(6));
    seen = Compare(at, 6 * kPart, kPart, 0);
    if (seen != "whole") return "mapped anew: " + seen;
    return Compare(at, 0, 5 * kPart, 1);
  });
  CHECK(Serve() == "");
  CHECK(Hear() == "whole");
}

TEST_CASE_FIXTURE(Place, "children that are forked meanwhile have what their parent has") {
  if (!IsPossible()) return;
  Images({{0, kPages}}, 16);
  Start([](std::byte* at) -> std::string {
    const auto in_child = [](const std::function<std::string()>& work) {
      const pid_t child = ::fork();
      MODAL_CHECK(child >= 0);
      if (child == 0) ::_exit(work() == "whole" ? 0 : 1);
      return child;
    };
    at[100 * kPage] = std::byte{7};
    const pid_t child = in_child([&]() -> std::string {
      const pid_t grandchild = in_child([&] { return Compare(at, 1000, kPages - 1000, 1001); });
      int status = 0;
      MODAL_CHECK(::waitpid(grandchild, &status, 0) == grandchild);
      if (status != 0 || at[100 * kPage] != std::byte{7}) return "wrong";
      // What a child does not inherit as it is was no child's to fill.
      if (Compare(at, 0, 1, 0) != "whole" && Compare(at, 0, 1, 1) != "whole") return "wrong";
      return Compare(at, 101, kPages - 101, 102);
    });
    const std::string seen = Compare(at, 0, 100, 1);
    int status = 0;
    MODAL_CHECK(::waitpid(child, &status, 0) == child);
    return status == 0 ? seen : Concat("the child ends with ", status);
  });
  CHECK(Serve() == "");
  CHECK(Hear() == "whole");
}

TEST_CASE_FIXTURE(Place, "threads that touch, move and throw away at once see what is theirs") {
  if (!IsPossible()) return;
  Start([](std::byte* at) -> std::string {
    constexpr uint64_t kPart = kPages / 4;
    std::vector<std::string> seen(4);
    std::vector<std::thread> threads;
    for (uint64_t part = 0; part < 4; ++part) {
      threads.emplace_back([&, part] {
        std::byte* mine = at + part * kPart * kPage;
        for (uint64_t i = 0; i < 16; ++i) {
          constexpr uint64_t kStep = kPart / 16;
          std::byte* const piece = mine + i * kStep * kPage;
          if (i % 4 == 1) MODAL_CHECK(::madvise(piece, kStep * kPage, MADV_DONTNEED) == 0);
          if (i % 4 == 3) {
            void* const there = ::mremap(piece, kStep * kPage, 2 * kStep * kPage, MREMAP_MAYMOVE);
            MODAL_CHECK(there != MAP_FAILED);
            seen[part] =
                Compare(static_cast<std::byte*>(there), 0, kStep, part * kPart + i * kStep + 1);
          } else {
            seen[part] =
                Compare(mine, i * kStep, kStep, i % 4 == 1 ? 0 : part * kPart + i * kStep + 1);
          }
          if (seen[part] != "whole") return;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const std::string& one : seen) {
      if (one != "whole") return one;
    }
    return "whole";
  });
  CHECK(Serve() == "");
  CHECK(Hear() == "whole");
}

TEST_CASE_FIXTURE(Place, "a process that dies needs no memory any more") {
  if (!IsPossible()) return;
  Start([](std::byte*) -> std::string {
    ::raise(SIGKILL);
    return "";
  });
  CHECK(Serve() == "");
}

TEST_CASE_FIXTURE(Place, "without the events that it needs it fills nothing") {
  if (!IsPossible()) return;
  Start([](std::byte* at) { return Compare(at, 0, 1, 1); }, {.events = 0});
  CHECK(Serve() == "CRIU has not asked to be told of forks and the like");
  CHECK_FALSE(HasTold());
}

TEST_CASE_FIXTURE(Place, "damaged images are an Error, and whoever touches memory waits") {
  if (!IsPossible()) return;
  std::string wanted;
  SUBCASE("the map") {
    images.File("images/pagemap-1000.img", "no map");
    wanted = "pagemap-1000.img: the map of its pages is damaged";
  }
  SUBCASE("the mappings") {
    images.File("images/mm-1000.img", "none");
    wanted = "pagemap-1000.img: the list of its mappings is damaged";
  }
  SUBCASE("the pages") {
    images.File("images/pages-7.img", PageOf(1));
    wanted = Concat("pages-7.img: 4096 bytes instead of ", kBytes);
  }
  SUBCASE("checksums") {
    images.File("images/sums-7.img", "12345678");
    wanted = "sums-7.img: not of as many blocks as there are";
  }
  SUBCASE("one byte") {
    std::fstream file(images.At("images/pages-7.img"), std::ios::in | std::ios::out);
    file.seekp(4000);
    file.put(0x55);
    wanted = "pages-7.img: is damaged, its checksum differs";
  }
  SUBCASE("no pages") {
    images.Remove("images/pages-7.img");
    wanted = "pages-7.img: No such file or directory";
  }
  Start([](std::byte* at) { return Compare(at, 0, 1, 1); });
  CHECK(Serve() == wanted);
  CHECK_FALSE(HasTold());
}

TEST_CASE_FIXTURE(Place, "pages that are cut off while they are read are an Error") {
  if (!IsPossible()) return;
  const std::string path = images.At("images/pages-7.img");
  Start([path](std::byte* at) -> std::string {
    const std::string first = Compare(at, kPages - 1, 1, kPages);
    MODAL_CHECK(::truncate(path.c_str(), 0) == 0);
    return first + "; " + Compare(at, 0, kPages, 1);
  });
  const std::string problem = Serve();
  // All may have been in before it was cut off.
  if (problem == "") {
    CHECK(Hear() == "whole; whole");
  } else {
    CHECK(problem == "pages-7.img: shorter than it was");
    CHECK_FALSE(HasTold());
  }
}

TEST_CASE_FIXTURE(Place, "a CRIU that ends too soon, or never comes, is an Error") {
  if (!IsPossible()) return;
  SUBCASE("too soon") {
    Start([](std::byte*) { return std::string(); }, {.says_finished = false});
    CHECK(Serve() == "CRIU has ended");
  }
  SUBCASE("never") {
    supervisor.Reset();
    CHECK(Serve() == "CRIU has not come");
  }
}

// The process -------------------------------------------------------------------------------------

// Of which the holder is a child of ours, too.
pid_t StartPageWorker(Place& place) {
  const pid_t pid = ::fork();
  MODAL_CHECK(pid >= 0);
  if (pid == 0) {
    place.supervisor.Reset();
    // First out of the way of each other.
    const int channel = ::fcntl(place.channel.get(), F_DUPFD, 100);
    const int listener = ::fcntl(place.listener.get(), F_DUPFD, 100);
    const int folder = ::fcntl(place.folder.get(), F_DUPFD, 100);
    MODAL_CHECK(::dup2(channel, kPagesChannelFd) >= 0 && ::dup2(listener, kPagesListenerFd) >= 0 &&
                ::dup2(folder, kPagesFolderFd) >= 0);
    MODAL_CHECK(::syscall(SYS_close_range, 6, ~0U, 0) == 0);
    std::string name = kPagesArgv0;
    std::vector<char*> arguments{name.data()};
    ::_exit(RunPageWorker(arguments));
  }
  place.channel.Reset();
  place.listener.Reset();
  return pid;
}

PagesReport Report(const Place& place) {
  PagesReport report{};
  MODAL_CHECK(::recv(place.supervisor.get(), &report, sizeof report, 0) == sizeof report);
  return report;
}

int EndOf(pid_t pid) {
  int status = 0;
  MODAL_CHECK(::waitpid(pid, &status, 0) == pid);
  return status;
}

TEST_CASE_FIXTURE(Place, "a page server tells what it has done, and both its processes end") {
  if (!IsPossible()) return;
  const pid_t worker = StartPageWorker(*this);
  const PagesReport holder = Report(*this);
  REQUIRE(holder.kind == PagesReport::Kind::kHolder);
  listener.Reset();
  Start([](std::byte* at) { return Compare(at, 0, kPages, 1); });
  const PagesReport done = Report(*this);
  CHECK(done.kind == PagesReport::Kind::kDone);
  CHECK(done.pages == kPages);
  CHECK(Hear() == "whole");
  CHECK(EndOf(worker) == 0);
  CHECK(EndOf(holder.pid) == 0);
}

TEST_CASE_FIXTURE(Place, "when a page server dies, nobody reads what has not come as zeroes") {
  if (!IsPossible()) return;
  const pid_t worker = StartPageWorker(*this);
  const PagesReport holder = Report(*this);
  REQUIRE(holder.kind == PagesReport::Kind::kHolder);
  // Never told that all is in place, it fills only what is touched.
  int gate[2];
  REQUIRE(::pipe2(gate, O_CLOEXEC) == 0);
  const UniqueFd closed(gate[0]);
  UniqueFd open(gate[1]);
  process = ::fork();
  REQUIRE(process >= 0);
  if (process == 0) {
    open.Reset();
    const UniqueFd criu(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    MODAL_CHECK(::connect(criu.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    MODAL_CHECK(::mmap(memory, kBytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == memory);
    Hand(criu.get(), UserfaultfdEvents());
    Tell(Compare(memory, 0, 1, 1));
    char byte = 0;
    (void)::read(closed.get(), &byte, 1);
    Tell(Compare(memory, 1, 1, 2));
    ::_exit(0);
  }
  CHECK(Hear() == "whole");
  REQUIRE(::kill(worker, SIGKILL) == 0);
  CHECK(WTERMSIG(EndOf(worker)) == SIGKILL);
  open.Reset();
  // It waits for its second page, and does so until it is killed.
  pollfd polled{told.get(), POLLIN, 0};
  CHECK(::poll(&polled, 1, 100) == 0);
  REQUIRE(::kill(process, SIGKILL) == 0);
  CHECK(WTERMSIG(EndOf(std::exchange(process, -1))) == SIGKILL);
  CHECK_FALSE(HasTold());
  supervisor.Reset();
  CHECK(EndOf(holder.pid) == 0);
}

TEST_CASE_FIXTURE(Place, "after a failure both its processes stay until the tree is gone") {
  if (!IsPossible()) return;
  images.File("images/pagemap-1000.img", "no map");
  const pid_t worker = StartPageWorker(*this);
  const PagesReport holder = Report(*this);
  Start([](std::byte* at) { return Compare(at, 0, 1, 1); });
  const PagesReport failed = Report(*this);
  CHECK(failed.kind == PagesReport::Kind::kFailed);
  CHECK(std::string(failed.reason) == "pagemap-1000.img: the map of its pages is damaged");
  CHECK(::waitpid(worker, nullptr, WNOHANG) == 0);
  CHECK(::waitpid(holder.pid, nullptr, WNOHANG) == 0);
  CHECK_FALSE(HasTold());
  supervisor.Reset();
  CHECK(EndOf(worker) == 0);
  CHECK(EndOf(holder.pid) == 0);
}

}  // namespace
}  // namespace modal::snapshot

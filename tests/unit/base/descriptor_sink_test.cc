#include "agent/base/descriptor_sink.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <functional>
#include <future>
#include <string>
#include <vector>

#include "agent/base/strings.h"

namespace modal {
namespace {

struct Ends {
  UniqueFd read;
  UniqueFd write;
};

Ends NewPipe() {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

Ends SocketPair() {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const int size = 4096;
  REQUIRE(::setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// Bytes come through as they are: no CR before an LF.
Ends RawTerminal() {
  int master = -1;
  int slave = -1;
  termios raw{};
  ::cfmakeraw(&raw);
  REQUIRE(::openpty(&master, &slave, nullptr, &raw, nullptr) == 0);
  return {UniqueFd(master), UniqueFd(slave)};
}

std::string ReadSome(int fd) {
  std::array<char, 4096> buffer;
  const ssize_t size = ::read(fd, buffer.data(), buffer.size());
  return {buffer.data(), static_cast<size_t>(std::max<ssize_t>(size, 0))};
}

bool IsReadable(int fd, int milliseconds) {
  pollfd readable{fd, POLLIN, 0};
  return ::poll(&readable, 1, milliseconds) == 1 && (readable.revents & POLLIN);
}

std::string ReadAvailable(int fd) {
  std::string out;
  while (IsReadable(fd, 0)) out += ReadSome(fd);
  return out;
}

// A line of `size` bytes, newline included, that says which one it is.
std::string Line(size_t number, size_t size = 100) {
  std::string line = Concat("line ", number, " ");
  line.resize(size - 1, '.');
  return line + '\n';
}

// Writes lines until one does not fit into the descriptor any more; how many there were, with it.
size_t WriteUntilPending(DescriptorSink& sink) {
  size_t written = 0;
  while (!sink.pending()) sink.Write(Line(written++));
  return written;
}

// Reads `bytes`, flushing the sink all the while. (A terminal hands over in its own time.)
std::string ReadAll(DescriptorSink& sink, int fd, size_t bytes) {
  std::string all;
  while (all.size() < bytes) {
    sink.Flush();
    REQUIRE(IsReadable(fd, 10'000));
    all += ReadSome(fd);
  }
  CHECK_FALSE(sink.pending());
  return all;
}

// The numbers of the lines in `text`, which is nothing but whole lines.
std::vector<size_t> NumbersOf(const std::string& text) {
  std::vector<size_t> numbers;
  for (size_t at = 0; at < text.size(); at += 100) {
    const std::string line = text.substr(at, 100);
    const size_t number = static_cast<size_t>(std::atol(line.c_str() + 5));
    REQUIRE(line == Line(number));
    numbers.push_back(number);
  }
  return numbers;
}

// Runs `body` in a thread in which these system calls fail with `error`, as on a kernel that has
// not got them, or in a sandbox.
void Without(std::initializer_list<long> calls, int error, const std::function<void()>& body) {
  std::vector<sock_filter> filter{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const long call : calls) {
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(call), 0, 1));
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)));
  }
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const auto run = [&] {
    const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
    REQUIRE(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    REQUIRE(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    body();
  };
  std::async(std::launch::async, run).get();
}

const std::initializer_list<long> kNeitherNowaitNorOpen{SYS_pwritev2, SYS_openat,
#ifdef SYS_open
                                                        SYS_open
#endif
};

// In every way in which a sink can get at its descriptor: as here; on a kernel without
// RWF_NOWAIT for it; and there without /proc as well.
void InEveryWay(const std::function<void()>& body) {
  SUBCASE("as it is here") { body(); }
  SUBCASE("with a kernel that does not know pwritev2") { Without({SYS_pwritev2}, ENOSYS, body); }
  SUBCASE("with a kernel whose pipes do not know RWF_NOWAIT") {
    Without({SYS_pwritev2}, EOPNOTSUPP, body);
  }
  SUBCASE("with neither RWF_NOWAIT nor /proc") { Without(kNeitherNowaitNorOpen, ENOSYS, body); }
}

// More than descriptor and sink can hold: what comes out in the end are whole lines, in order, and
// all that are missing were counted.
void CheckFlood(const Ends& ends) {
  const int flags = ::fcntl(ends.write.get(), F_GETFL);
  DescriptorSink sink(ends.write.get());
  constexpr size_t kLines = 5000;  // 500 kB
  for (size_t i = 0; i < kLines; ++i) sink.Write(Line(i));
  CHECK(sink.pending());
  const uint64_t lost = sink.lost_lines();
  CHECK(lost > 0);

  const std::vector<size_t> numbers =
      NumbersOf(ReadAll(sink, ends.read.get(), (kLines - lost) * 100));
  CHECK(numbers.size() == kLines - lost);
  CHECK(numbers.size() >= DescriptorSink::kMostKept / 100);
  CHECK(std::is_sorted(numbers.begin(), numbers.end()));
  CHECK(sink.lost_lines() == lost);

  sink.Write("and on it goes\n");
  CHECK_FALSE(sink.pending());
  CHECK(ReadAll(sink, ends.read.get(), 15) == "and on it goes\n");
  // O_NONBLOCK belongs to the description, which the workload shares.
  CHECK(::fcntl(ends.write.get(), F_GETFL) == flags);
  CHECK((flags & O_NONBLOCK) == 0);
}

TEST_CASE("a pipe that nobody reads never blocks us; lines are kept, then lost and counted") {
  InEveryWay([] { CheckFlood(NewPipe()); });
}

TEST_CASE("a socket that nobody reads never blocks us") { CheckFlood(SocketPair()); }

TEST_CASE("a terminal that nobody reads never blocks us") { CheckFlood(RawTerminal()); }

TEST_CASE("a terminal that was halted (^S) never blocks us") {
  const Ends ends = RawTerminal();
  REQUIRE(::tcflow(ends.write.get(), TCOOFF) == 0);
  DescriptorSink sink(ends.write.get());
  sink.Write(Line(1));
  CHECK(sink.pending());
  REQUIRE(::tcflow(ends.write.get(), TCOON) == 0);
  CHECK(ReadAll(sink, ends.read.get(), 100) == Line(1));
}

TEST_CASE("a terminal on which every write could wait gets nothing, and the loss is counted") {
  const Ends ends = RawTerminal();
  REQUIRE(::tcflow(ends.write.get(), TCOOFF) == 0);  // a write that waits would wait for ever
  Without(kNeitherNowaitNorOpen, ENOSYS, [&] {
    DescriptorSink sink(ends.write.get());
    for (size_t i = 0; i < 3; ++i) sink.Write(Line(i));
    CHECK_FALSE(sink.pending());
    CHECK(sink.lost_lines() == 3);
  });
}

TEST_CASE("a line that only a part of fitted comes out whole") {
  InEveryWay([] {
    const Ends ends = NewPipe();
    DescriptorSink sink(ends.write.get());
    const std::string long_line = Line(1, 3 * DescriptorSink::kMostKept);
    sink.Write(long_line);
    CHECK(sink.pending());
    sink.Write("does not fit any more\n");
    CHECK(sink.lost_lines() == 1);
    CHECK((ReadAll(sink, ends.read.get(), long_line.size()) == long_line));
  });
}

TEST_CASE("writing goes on as soon as there is room, without a flush") {
  InEveryWay([] {
    const Ends ends = NewPipe();
    DescriptorSink sink(ends.write.get());
    const size_t written = WriteUntilPending(sink);
    std::string all = ReadAvailable(ends.read.get());
    sink.Write(Line(written));
    CHECK_FALSE(sink.pending());
    all += ReadAvailable(ends.read.get());
    CHECK(NumbersOf(all).size() == written + 1);
    CHECK(sink.lost_lines() == 0);
  });
}

TEST_CASE("a descriptor that was made non-blocking by somebody else is no different") {
  const Ends ends = NewPipe();
  REQUIRE(::fcntl(ends.write.get(), F_SETFL, O_NONBLOCK) == 0);
  DescriptorSink sink(ends.write.get());
  const size_t written = WriteUntilPending(sink);
  CHECK(NumbersOf(ReadAll(sink, ends.read.get(), written * 100)).size() == written);
}

// As in the agent, which has every signal blocked: a SIGPIPE must not end it.
void WithSignalsBlocked(const std::function<void()>& body) {
  std::async(std::launch::async, [&] {
    sigset_t all;
    sigfillset(&all);
    REQUIRE(::pthread_sigmask(SIG_BLOCK, &all, nullptr) == 0);
    body();
  }).get();
}

TEST_CASE("once the reader of a pipe is gone every line is counted as lost, and none is kept") {
  const auto check = [] {
    WithSignalsBlocked([] {
      Ends ends = NewPipe();
      DescriptorSink sink(ends.write.get());
      WriteUntilPending(sink);
      sink.Write("one more\n");
      sink.Write("and another\n");
      CHECK(sink.lost_lines() == 0);
      ends.read.Reset();
      sink.Flush();
      CHECK_FALSE(sink.pending());
      CHECK(sink.lost_lines() == 3);
      sink.Write("into the void\n");
      CHECK(sink.lost_lines() == 4);
      CHECK_FALSE(sink.pending());
    });
  };
  InEveryWay(check);
}

TEST_CASE("a pipe whose reader was gone from the start swallows everything") {
  InEveryWay([] {
    WithSignalsBlocked([] {
      Ends ends = NewPipe();
      ends.read.Reset();
      DescriptorSink sink(ends.write.get());
      sink.Write("one\n");
      sink.Write("two\n");
      CHECK(sink.lost_lines() == 2);
      CHECK_FALSE(sink.pending());
    });
  });
}

TEST_CASE("a socket whose reader is gone sends no SIGPIPE") {
  // SIGPIPE is not blocked here: it would end this program.
  Ends ends = SocketPair();
  DescriptorSink sink(ends.write.get());
  ends.read.Reset();
  sink.Write("one\n");
  CHECK(sink.lost_lines() == 1);
  CHECK_FALSE(sink.pending());
}

TEST_CASE("a regular file takes everything at once") {
  const UniqueFd file(::memfd_create("log", MFD_CLOEXEC));
  DescriptorSink sink(file.get());
  std::string expected;
  for (size_t i = 0; i < 3000; ++i) {
    sink.Write(Line(i));
    expected += Line(i);
  }
  CHECK_FALSE(sink.pending());
  std::string all(expected.size() + 1, '\0');
  CHECK(::pread(file.get(), all.data(), all.size(), 0) == static_cast<ssize_t>(expected.size()));
  all.pop_back();
  CHECK((all == expected));
}

// The largest size of a file that this process may write; SIGXFSZ is blocked meanwhile.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before_) == 0);
    const rlimit limit{bytes, before_.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }
  ~FileSizeLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST_CASE("a file that cannot grow now may grow later: lines are kept until then") {
  WithSignalsBlocked([] {
    const UniqueFd file(::memfd_create("log", MFD_CLOEXEC));
    DescriptorSink sink(file.get());
    {
      const FileSizeLimit limit(150);
      for (size_t i = 0; i < 10; ++i) sink.Write(Line(i));
      CHECK(sink.pending());
      struct stat info {};
      REQUIRE(::fstat(file.get(), &info) == 0);
      CHECK(info.st_size == 150);
    }
    sink.Flush();
    CHECK_FALSE(sink.pending());
    CHECK(sink.lost_lines() == 0);
    std::string all(2000, '\0');
    REQUIRE(::pread(file.get(), all.data(), all.size(), 0) == 1000);
    CHECK(all.substr(900, 100) == Line(9));
  });
}

TEST_CASE("a full device keeps what it can and counts the rest") {
  const UniqueFd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  REQUIRE(full);
  DescriptorSink sink(full.get());
  const size_t fits = DescriptorSink::kMostKept / 100;
  for (size_t i = 0; i < fits + 7; ++i) sink.Write(Line(i));
  CHECK(sink.pending());
  CHECK(sink.lost_lines() == 7);
}

TEST_CASE("a descriptor that is closed loses every line and disturbs nobody") {
  const Ends ends = NewPipe();
  const int closed = ::fcntl(ends.write.get(), F_DUPFD_CLOEXEC, 0);
  REQUIRE(::close(closed) == 0);
  DescriptorSink sink(closed);
  sink.Write("one\n");
  sink.Write("two\n");
  sink.Flush();
  sink.FlushFor(1000);
  CHECK_FALSE(sink.pending());
  CHECK(sink.lost_lines() == 2);
}

TEST_CASE("a descriptor that cannot be written loses every line") {
  const UniqueFd path(::open("/", O_PATH | O_CLOEXEC));
  DescriptorSink sink(path.get());
  sink.Write("one\n");
  CHECK_FALSE(sink.pending());
  CHECK(sink.lost_lines() == 1);
}

TEST_CASE("last words reach a reader that reads") {
  InEveryWay([] {
    const Ends ends = NewPipe();
    DescriptorSink sink(ends.write.get());
    size_t written = WriteUntilPending(sink);
    for (int i = 0; i < 500; ++i) sink.Write(Line(written++));
    CHECK(sink.lost_lines() == 0);
    std::string expected;
    for (size_t i = 0; i < written; ++i) expected += Line(i);
    auto reader = std::async(std::launch::async, [&] {
      std::string all;
      std::array<char, 1000> buffer;
      while (all.size() < expected.size()) {
        const ssize_t size = ::read(ends.read.get(), buffer.data(), buffer.size());
        if (size <= 0) break;
        all.append(buffer.data(), static_cast<size_t>(size));
      }
      return all;
    });
    sink.FlushFor(60'000);
    CHECK_FALSE(sink.pending());
    CHECK((reader.get() == expected));
  });
}

TEST_CASE("last words wait for nobody who does not read, or is gone") {
  WithSignalsBlocked([] {
    Ends ends = NewPipe();
    DescriptorSink sink(ends.write.get());
    WriteUntilPending(sink);
    sink.FlushFor(0);
    CHECK(sink.pending());
    ends.read.Reset();
    sink.FlushFor(60'000);
    CHECK_FALSE(sink.pending());
  });
}

}  // namespace
}  // namespace modal

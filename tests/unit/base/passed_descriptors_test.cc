#include "agent/base/passed_descriptors.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <vector>

namespace modal {
namespace {

struct Pair {
  explicit Pair(int type) {
    int pair[2];
    REQUIRE(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair) == 0);
    ours.Reset(pair[0]);
    theirs.Reset(pair[1]);
  }
  ReceivedDescriptors Receive(int flags = MSG_DONTWAIT) {
    ReceivedDescriptors received =
        ReceiveWithDescriptors(theirs.get(), std::as_writable_bytes(std::span(buffer)), flags);
    if (received.size >= 0) text.assign(buffer.data(), static_cast<size_t>(received.size));
    return received;
  }
  ssize_t Send(const std::string& what, std::span<const int> descriptors, int flags = 0) const {
    return SendWithDescriptors(ours.get(), std::as_bytes(std::span(what)), descriptors, flags);
  }

  UniqueFd ours, theirs;
  std::array<char, 8> buffer{};
  std::string text;  // received last
};

ino_t FileOf(const UniqueFd& fd) {
  struct stat facts {};
  REQUIRE(::fstat(fd.get(), &facts) == 0);
  return facts.st_ino;
}

TEST_CASE("descriptors arrive in their order, close-on-exec, and the sender keeps his") {
  for (const int type : {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM}) {
    Pair pair(type);
    std::vector<UniqueFd> files;
    std::vector<int> numbers;
    for (size_t i = 0; i < kMostPassed; ++i) {
      files.emplace_back(::memfd_create("passed", 0));
      numbers.push_back(files.back().get());
    }
    CHECK(pair.Send("hello", numbers) == 5);
    const ReceivedDescriptors received = pair.Receive();
    CHECK(received.size == 5);
    CHECK(pair.text == "hello");
    REQUIRE(received.descriptors.size() == kMostPassed);
    for (size_t i = 0; i < kMostPassed; ++i) {
      CHECK(received.descriptors[i].get() != numbers[i]);
      CHECK(FileOf(received.descriptors[i]) == FileOf(files[i]));
      CHECK(::fcntl(received.descriptors[i].get(), F_GETFD) == FD_CLOEXEC);
    }
  }
}

TEST_CASE("a message without descriptors is a message") {
  Pair pair(SOCK_SEQPACKET);
  CHECK(pair.Send("a", {}) == 1);
  CHECK(pair.Receive().descriptors.empty());
  CHECK(pair.text == "a");
}

TEST_CASE("the size is that of the message with MSG_TRUNC, 0 at the end, and -1 with errno") {
  Pair pair(SOCK_SEQPACKET);
  CHECK(pair.Send("longer than its place", {}) == 21);
  CHECK(ReceiveWithDescriptors(pair.theirs.get(), std::as_writable_bytes(std::span(pair.buffer)),
                               MSG_DONTWAIT | MSG_TRUNC)
            .size == 21);
  CHECK(pair.Receive().size == -1);
  CHECK(errno == EAGAIN);
  CHECK(pair.Send("a", std::array{-1}) == -1);
  CHECK(errno == EBADF);
  pair.ours.Reset();
  CHECK(pair.Receive().size == 0);
}

TEST_CASE("what nobody asked for is closed with what was received") {
  Pair pair(SOCK_STREAM);
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
  const UniqueFd out(ends[0]);
  UniqueFd in(ends[1]);
  CHECK(pair.Send("a", std::array{in.get()}) == 1);
  in.Reset();
  char byte = 0;
  CHECK(::read(out.get(), &byte, 1) == -1);  // it is held, on its way
  { CHECK(pair.Receive().descriptors.size() == 1); }
  CHECK(::read(out.get(), &byte, 1) == 0);
}

}  // namespace
}  // namespace modal

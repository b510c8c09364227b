#include "agent/base/status_board.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <string>
#include <thread>

namespace modal {
namespace {

struct Status {
  uint64_t number;
  char name[16];
};

constexpr size_t kSize = sizeof(BoardLayout<Status>);

UniqueFd Duplicate(int fd) { return UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 0)); }

Status Named(uint64_t number, std::string_view name) {
  Status status{};
  status.number = number;
  SetBoardText(status.name, name);
  return status;
}

BoardWriter<Status> NewWriter() {
  Result<BoardMapping> mapping = BoardMapping::CreateToWrite("test", kSize);
  REQUIRE(mapping);
  return BoardWriter<Status>(*std::move(mapping));
}

template <class T>
BoardReader<T> ReaderOf(int fd) {
  Result<BoardMapping> mapping = BoardMapping::OpenReadOnly(Duplicate(fd), sizeof(BoardLayout<T>));
  REQUIRE(mapping);
  return BoardReader<T>(*std::move(mapping));
}

TEST_CASE("what the writer publishes, a reader with a mapping of its own reads") {
  BoardWriter<Status> writer = NewWriter();
  const BoardReader<Status> reader = ReaderOf<Status>(writer.mapping().fd());
  for (const uint64_t number : {1, 2, 3}) {
    writer.Publish(Named(number, "one"));
    const std::optional<Status> read = reader.Read();
    REQUIRE(read);
    CHECK(read->number == number);
    CHECK(BoardText(read->name) == "one");
  }
}

TEST_CASE("a board may be made by its reader, and written by whoever gets the descriptor") {
  Result<BoardMapping> ours = BoardMapping::CreateToRead("test", kSize);
  REQUIRE(ours);
  Result<BoardMapping> theirs = BoardMapping::OpenWritable(Duplicate(ours->fd()), kSize);
  REQUIRE(theirs);
  BoardWriter<Status> writer(*std::move(theirs));
  const BoardReader<Status> reader(*std::move(ours));
  writer.Publish(Named(7, "theirs"));
  REQUIRE(reader.Read());
  CHECK(reader.Read()->number == 7);
}

TEST_CASE("a board on which nothing was published yet reads as zeros") {
  BoardWriter<Status> writer = NewWriter();
  const std::optional<Status> read = ReaderOf<Status>(writer.mapping().fd()).Read();
  REQUIRE(read);
  CHECK(read->number == 0);
  CHECK(BoardText(read->name) == "");
}

TEST_CASE("a read is never torn, however busy the writer is") {
  struct Wide {
    std::array<uint64_t, 128> same;
    char odd[3];  // not a multiple of any word
  };
  constexpr uint64_t kPublishes = 100'000;
  Result<BoardMapping> mapping = BoardMapping::CreateToWrite("test", sizeof(BoardLayout<Wide>));
  REQUIRE(mapping);
  BoardWriter<Wide> writer(*std::move(mapping));
  const BoardReader<Wide> reader = ReaderOf<Wide>(writer.mapping().fd());

  std::atomic<bool> done = false;
  std::thread thread([&] {
    Wide wide{};
    for (uint64_t number = 1; number <= kPublishes; ++number) {
      wide.same.fill(number);
      wide.odd[0] = wide.odd[2] = static_cast<char>(number);
      writer.Publish(wide);
    }
    done = true;
  });
  uint64_t torn = 0;
  uint64_t backwards = 0;
  uint64_t last = 0;
  while (!done) {
    const std::optional<Wide> read = reader.Read();
    if (!read) continue;  // gave up: the writer was too busy
    for (const uint64_t number : read->same) torn += number != read->same[0];
    torn += read->odd[0] != static_cast<char>(read->same[0]) || read->odd[2] != read->odd[0];
    backwards += read->same[0] < last;
    last = read->same[0];
  }
  thread.join();
  CHECK(torn == 0);
  CHECK(backwards == 0);
  REQUIRE(reader.Read());
  CHECK(reader.Read()->same[127] == kPublishes);
}

TEST_CASE("whoever gets the descriptor of our board can neither write nor resize nor unseal it") {
  BoardWriter<Status> writer = NewWriter();
  const UniqueFd theirs = Duplicate(writer.mapping().fd());
  CHECK(::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, theirs.get(), 0) == MAP_FAILED);
  CHECK_FALSE(BoardMapping::OpenWritable(Duplicate(theirs.get()), kSize));
  CHECK(::pwrite(theirs.get(), "x", 1, 0) == -1);
  CHECK(::ftruncate(theirs.get(), 0) == -1);
  CHECK(::ftruncate(theirs.get(), static_cast<off_t>(kSize * 100)) == -1);
  CHECK(::fcntl(theirs.get(), F_ADD_SEALS, F_SEAL_WRITE) == -1);

  const Result<BoardMapping> mapped = BoardMapping::OpenReadOnly(Duplicate(theirs.get()), kSize);
  REQUIRE(mapped);
  CHECK(::mprotect(mapped->data(), kSize, PROT_READ | PROT_WRITE) == -1);

  writer.Publish(Named(5, "still ours"));
  CHECK(ReaderOf<Status>(theirs.get()).Read()->number == 5);
}

TEST_CASE("the writer of a board that we made cannot resize it under us") {
  const Result<BoardMapping> ours = BoardMapping::CreateToRead("test", kSize);
  REQUIRE(ours);
  const UniqueFd theirs = Duplicate(ours->fd());
  CHECK(::ftruncate(theirs.get(), 0) == -1);
  CHECK(::ftruncate(theirs.get(), static_cast<off_t>(kSize * 100)) == -1);
  CHECK(::fcntl(theirs.get(), F_ADD_SEALS, F_SEAL_WRITE) == -1);
}

TEST_CASE("a descriptor that is no sealed board of the right size is refused") {
  const auto refused = [](UniqueFd fd) {
    REQUIRE(fd);
    const Result<BoardMapping> to_read = BoardMapping::OpenReadOnly(Duplicate(fd.get()), kSize);
    const Result<BoardMapping> to_write = BoardMapping::OpenWritable(std::move(fd), kSize);
    CHECK_FALSE(to_read);
    CHECK_FALSE(to_write);
    return to_read ? "" : to_read.error().message();
  };
  const auto memory = [](size_t size, int seals) {
    UniqueFd fd(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    REQUIRE(::ftruncate(fd.get(), static_cast<off_t>(size)) == 0);
    REQUIRE(::fcntl(fd.get(), F_ADD_SEALS, seals) == 0);
    return fd;
  };
  constexpr int kAll = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  CHECK(refused(memory(kSize, 0)) == "status board: not sealed");
  CHECK(refused(memory(kSize, kAll & ~F_SEAL_SHRINK)) == "status board: not sealed");
  CHECK(refused(memory(kSize, F_SEAL_SHRINK)) == "status board: not sealed");
  CHECK(refused(memory(kSize - 1, kAll)) == "status board: too small");
  CHECK(refused(memory(0, kAll)) == "status board: too small");
  refused(UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC)));
  refused(UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)));
  CHECK_FALSE(BoardMapping::OpenReadOnly(UniqueFd(), kSize));
}

TEST_CASE("a board larger than expected is as good") {
  const Result<BoardMapping> large = BoardMapping::CreateToRead("test", kSize * 3);
  REQUIRE(large);
  CHECK(BoardMapping::OpenReadOnly(Duplicate(large->fd()), kSize));
}

TEST_CASE("a writer that died half-way gives nothing, and its successor mends the board") {
  Result<BoardMapping> ours = BoardMapping::CreateToRead("test", kSize);
  REQUIRE(ours);
  Result<BoardMapping> theirs = BoardMapping::OpenWritable(Duplicate(ours->fd()), kSize);
  REQUIRE(theirs);
  auto* layout = static_cast<BoardLayout<Status>*>(theirs->data());
  const BoardReader<Status> reader(*std::move(ours));
  layout->sequence.store(12345);  // odd, and it stays so
  CHECK_FALSE(reader.Read());

  BoardWriter<Status> successor(*std::move(theirs));
  successor.Publish(Named(9, "mended"));
  REQUIRE(reader.Read());
  CHECK(reader.Read()->number == 9);
}

TEST_CASE("a mapping that was moved is still there, once") {
  BoardWriter<Status> first = NewWriter();
  first.Publish(Named(1, "first"));
  const UniqueFd fd = Duplicate(first.mapping().fd());
  BoardWriter<Status> moved(std::move(first));
  BoardWriter<Status> assigned = NewWriter();
  assigned = std::move(moved);
  assigned.Publish(Named(2, "assigned"));
  CHECK(ReaderOf<Status>(fd.get()).Read()->number == 2);
}

TEST_CASE("text on a board is cut to fit and ends with a NUL") {
  char text[4] = {'x', 'x', 'x', 'x'};
  SetBoardText(text, "abcdef");
  CHECK(std::string_view(text) == "abc");
  SetBoardText(text, "a");
  CHECK(std::string_view(text, 4) == std::string_view("a\0\0\0", 4));
  SetBoardText(text, std::string_view());
  CHECK(BoardText(text) == "");
}

TEST_CASE("text whose NUL is missing ends where its array ends") {
  const char text[4] = {'a', 'b', 'c', 'd'};
  CHECK(BoardText(text) == "abcd");
}

}  // namespace
}  // namespace modal

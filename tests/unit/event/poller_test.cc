#include "agent/event/poller.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "agent/base/unique_fd.h"
#include "tests/support/run_loop.h"

namespace modal::event {
namespace {

using test::RunUntil;

struct Pair {
  Pair() {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    ours.Reset(ends[0]);
    theirs.Reset(ends[1]);
  }
  UniqueFd ours;
  UniqueFd theirs;
};

struct Fixture {
  std::unique_ptr<Poller> Watch(int fd) {
    Result<std::unique_ptr<Poller>> poller = Poller::Watch(loop, fd, [this](Poller::Ready ready) {
      ++calls;
      last = ready;
    });
    REQUIRE(poller);
    return *std::move(poller);
  }
  void Turn(int times = 1) {
    for (int i = 0; i < times; ++i) loop.RunOnce();
  }

  Loop loop;
  int calls = 0;
  Poller::Ready last{};
};

TEST_CASE_FIXTURE(Fixture, "what can be read is reported until it has been read") {
  const Pair pair;
  const auto poller = Watch(pair.ours.get());
  poller->WaitFor(true, false);
  Turn(3);
  CHECK(calls == 0);

  REQUIRE(::write(pair.theirs.get(), "ab", 2) == 2);
  Turn(3);
  CHECK(calls == 3);
  CHECK(last.readable);
  CHECK_FALSE(last.writable);

  char buffer[2];
  REQUIRE(::read(pair.ours.get(), buffer, 2) == 2);
  Turn(3);
  CHECK(calls == 3);
}

TEST_CASE_FIXTURE(Fixture, "only what is waited for is reported") {
  const Pair pair;
  const auto poller = Watch(pair.ours.get());
  REQUIRE(::write(pair.theirs.get(), "a", 1) == 1);
  Turn();
  CHECK(calls == 0);

  poller->WaitFor(false, true);
  Turn();
  CHECK(calls == 1);
  CHECK(last.writable);
  CHECK_FALSE(last.readable);

  poller->WaitFor(true, true);
  Turn();
  CHECK(calls == 2);
  CHECK(last.writable);
  CHECK(last.readable);

  poller->WaitFor(false, false);
  Turn(3);
  CHECK(calls == 2);
}

TEST_CASE_FIXTURE(Fixture, "a poller that waits for nothing keeps no loop running") {
  const Pair pair;
  const auto poller = Watch(pair.ours.get());
  loop.Run();
  poller->WaitFor(true, false);
  poller->WaitFor(false, false);
  loop.Run();
  CHECK(calls == 0);
}

TEST_CASE_FIXTURE(Fixture, "the end of a stream is reported as readable") {
  Pair pair;
  const auto poller = Watch(pair.ours.get());
  poller->WaitFor(true, false);
  pair.theirs.Reset();
  Turn();
  CHECK(calls == 1);
  CHECK(last.readable);
}

TEST_CASE_FIXTURE(Fixture,
                  "an error is reported as readable and writable, until it is dealt with") {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  UniqueFd read(ends[0]);
  const UniqueFd write(ends[1]);
  const auto poller = Watch(write.get());
  while (::write(write.get(), "0123456789abcdef", 16) > 0) {  // full: not writable
  }
  poller->WaitFor(false, true);
  Turn(2);
  CHECK(calls == 0);
  read.Reset();
  Turn();
  CHECK(calls == 1);
  CHECK(last.readable);
  CHECK(last.writable);
  Turn(2);
  CHECK(calls == 3);
  poller->WaitFor(false, false);
  Turn(2);
  CHECK(calls == 3);
}

TEST_CASE_FIXTURE(Fixture, "a poller may wait for something else, or nothing, from its callback") {
  const Pair pair;
  std::unique_ptr<Poller> poller;
  Result<std::unique_ptr<Poller>> watched =
      Poller::Watch(loop, pair.ours.get(), [&](Poller::Ready ready) {
        ++calls;
        last = ready;
        poller->WaitFor(ready.writable, false);
      });
  REQUIRE(watched);
  poller = *std::move(watched);
  REQUIRE(::write(pair.theirs.get(), "a", 1) == 1);
  poller->WaitFor(false, true);
  Turn();
  CHECK(calls == 1);
  CHECK(last.writable);
  Turn();
  CHECK(calls == 2);
  CHECK(last.readable);
  Turn(3);
  CHECK(calls == 2);
}

TEST_CASE_FIXTURE(Fixture, "a poller may be destroyed by its own callback") {
  Pair pair;
  std::unique_ptr<Poller> poller;
  const std::string captured(1000, 'x');
  Result<std::unique_ptr<Poller>> watched =
      Poller::Watch(loop, pair.ours.get(), [&, captured](Poller::Ready) {
        ++calls;
        poller.reset();
        CHECK(captured.back() == 'x');  // the function lives until it returns
      });
  REQUIRE(watched);
  poller = *std::move(watched);
  poller->WaitFor(true, true);
  SUBCASE("because of data") { REQUIRE(::write(pair.theirs.get(), "a", 1) == 1); }
  SUBCASE("because of the end") { pair.theirs.Reset(); }
  Turn(3);
  CHECK(calls == 1);
}

TEST_CASE_FIXTURE(Fixture, "of two that are ready, the first to be called may destroy the other") {
  const Pair one;
  const Pair two;
  REQUIRE(::write(one.theirs.get(), "a", 1) == 1);
  REQUIRE(::write(two.theirs.get(), "a", 1) == 1);
  std::unique_ptr<Poller> pollers[2];
  for (const int i : {0, 1}) {
    auto watched = Poller::Watch(loop, (i == 0 ? one : two).ours.get(), [&, i](Poller::Ready) {
      ++calls;
      pollers[1 - i].reset();
      pollers[i]->WaitFor(false, false);
    });
    REQUIRE(watched);
    pollers[i] = *std::move(watched);
    pollers[i]->WaitFor(true, false);
  }
  Turn(3);
  CHECK(calls == 1);
}

TEST_CASE_FIXTURE(Fixture, "a destroyed poller leaves its descriptor open") {
  const Pair pair;
  auto poller = Watch(pair.ours.get());
  poller->WaitFor(true, false);
  REQUIRE(::write(pair.theirs.get(), "a", 1) == 1);
  poller.reset();
  Turn(2);
  CHECK(calls == 0);
  char byte = 0;
  CHECK(::read(pair.ours.get(), &byte, 1) == 1);

  SUBCASE("which can be watched again") {
    poller = Watch(pair.ours.get());
    poller->WaitFor(true, false);
    REQUIRE(::write(pair.theirs.get(), "b", 1) == 1);
    CHECK(RunUntil(loop, [this] { return calls > 0; }));
  }
}

TEST_CASE_FIXTURE(Fixture, "what cannot be watched is refused") {
  const UniqueFd file(::memfd_create("file", MFD_CLOEXEC));
  const auto watch = [this](int fd) { return Poller::Watch(loop, fd, [](Poller::Ready) {}); };
  const auto regular = watch(file.get());
  REQUIRE_FALSE(regular);
  CHECK(regular.error().code() == EPERM);
  const auto closed = watch(987);
  REQUIRE_FALSE(closed);
  CHECK(closed.error().code() == EBADF);
  CHECK_FALSE(watch(-1));
}

}  // namespace
}  // namespace modal::event

#include "lifecycle/output_pump.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "tests/support/fake_log.h"
#include "tests/support/run_loop.h"

namespace modal::lifecycle {
namespace {

struct Fixture {
  Fixture() {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    REQUIRE(::fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0);
    write.Reset(ends[1]);
    Result<std::unique_ptr<OutputPump>> started =
        OutputPump::Start(loop, log.log, "warm", UniqueFd(ends[0]), [this] {
          ++ended;
          if (destroy_at_end) pump.reset();
        });
    REQUIRE(started);
    pump = *std::move(started);
  }
  void Say(const std::string& text) {
    REQUIRE(::write(write.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  }

  event::Loop loop;
  test::FakeLog log;
  UniqueFd write;
  int ended = 0;
  bool destroy_at_end = false;
  std::unique_ptr<OutputPump> pump;
};

TEST_CASE_FIXTURE(Fixture, "each line is logged under the hook's name") {
  Say("one\ntwo words\r\n\nthr");
  loop.RunOnce();
  CHECK(log.lines() == std::vector<std::string>{
                           "info  hook.output  hook=warm  line=one",
                           "info  hook.output  hook=warm  line=\"two words\"",
                           "info  hook.output  hook=warm  line=\"\"",
                       });
  Say("ee\n");
  loop.RunOnce();
  CHECK(log.lines().back() == "info  hook.output  hook=warm  line=three");
  CHECK(ended == 0);
}

TEST_CASE_FIXTURE(Fixture,
                  "the end of the pipe is told once, after a last line without a newline") {
  Say("last words");
  write.Reset();
  REQUIRE(test::RunUntil(loop, [this] { return ended > 0; }));
  for (int i = 0; i < 3; ++i) loop.RunOnce();
  CHECK(ended == 1);
  CHECK(log.lines() ==
        std::vector<std::string>{"info  hook.output  hook=warm  line=\"last words\""});
}

TEST_CASE_FIXTURE(Fixture, "a pump may be destroyed when its pipe has ended") {
  destroy_at_end = true;
  Say("one\n");
  write.Reset();
  REQUIRE(test::RunUntil(loop, [this] { return ended > 0; }));
  loop.RunOnce();
  CHECK(ended == 1);
  CHECK_FALSE(pump);
}

TEST_CASE_FIXTURE(Fixture, "what is there can be taken before the loop turns") {
  Say("one\ntwo\n");
  pump->ReadAvailable();
  CHECK(log.lines().size() == 2);
  pump->ReadAvailable();
  CHECK(log.lines().size() == 2);

  Say("three");
  write.Reset();
  pump->ReadAvailable();
  pump->ReadAvailable();
  CHECK(log.lines().size() == 3);
  CHECK(ended == 0);
  REQUIRE(test::RunUntil(loop, [this] { return ended > 0; }));
  CHECK(ended == 1);
  CHECK(log.lines().size() == 3);
}

TEST_CASE_FIXTURE(Fixture, "a line that is too long comes in pieces") {
  Say(std::string(OutputPump::kLongestLine + 10, 'x') + "\n");
  loop.RunOnce();
  REQUIRE(log.lines().size() == 2);
  CHECK(log.lines()[1] == "info  hook.output  hook=warm  line=xxxxxxxxxx");
}

TEST_CASE_FIXTURE(Fixture, "a flood is taken in helpings, so that others get their turn") {
  REQUIRE(::fcntl(write.get(), F_SETPIPE_SZ, 1 << 20) > 0);
  std::string flood;
  while (flood.size() < 512 * 1024) flood += "another line of the flood\n";
  Say(flood);
  loop.RunOnce();
  CHECK(log.lines().size() > 0);
  CHECK(log.lines().size() < 65536 / 26 + 2);
  const size_t all = flood.size() / 26;
  CHECK(test::RunUntil(loop, [&] { return log.lines().size() == all; }));
}

TEST_CASE_FIXTURE(Fixture, "a destroyed pump closes its pipe") {
  pump.reset();
  loop.RunOnce();
  struct stat info {};
  REQUIRE(::fstat(write.get(), &info) == 0);
  pollfd hung_up{write.get(), POLLOUT, 0};
  REQUIRE(::poll(&hung_up, 1, 0) == 1);
  CHECK((hung_up.revents & POLLERR) != 0);
  CHECK(ended == 0);
}

}  // namespace
}  // namespace modal::lifecycle

#include "agent/event/before_wait.h"

#include <doctest/doctest.h>

#include "agent/event/uv_clock.h"

namespace modal::event {
namespace {

TEST_CASE("it runs once a turn, after what was ready has been handled") {
  Loop loop;
  UvClock clock(loop);
  const auto alive = clock.After(std::chrono::hours(1), [] {});
  std::string order;
  const auto first = clock.After(Milliseconds(0), [&order] { order += 'a'; });
  const auto second = clock.After(Milliseconds(0), [&order] { order += 'b'; });
  const BeforeWait before_wait(loop, [&order] { order += '.'; });
  loop.RunOnce();
  CHECK(order == "ab.");
  loop.RunOnce();
  CHECK(order == "ab..");
}

TEST_CASE("it keeps no loop alive") {
  Loop loop;
  int runs = 0;
  const BeforeWait before_wait(loop, [&runs] { ++runs; });
  loop.Run();  // returns, since nothing is left to wait for
  CHECK(runs <= 1);
}

TEST_CASE("it may destroy itself, and then is silent") {
  Loop loop;
  UvClock clock(loop);
  const auto alive = clock.After(std::chrono::hours(1), [] {});
  int runs = 0;
  std::unique_ptr<BeforeWait> before_wait;
  before_wait = std::make_unique<BeforeWait>(loop, [&before_wait, &runs] {
    ++runs;
    before_wait.reset();
  });
  loop.RunOnce();
  loop.RunOnce();
  CHECK(runs == 1);
}

}  // namespace
}  // namespace modal::event

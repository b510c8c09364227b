#include "agent/event/uv_clock.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "agent/base/unique_fd.h"
#include "agent/event/poller.h"
#include "tests/support/run_loop.h"

namespace modal::event {
namespace {

using namespace std::chrono_literals;
using test::RunUntil;

struct Fixture {
  Loop loop;
  UvClock clock{loop};
  std::vector<int> fired;

  std::function<void()> Note(int number) {
    return [this, number] { fired.push_back(number); };
  }
};

TEST_CASE_FIXTURE(Fixture, "timers fire in the order of their times, each once") {
  const auto third = clock.After(9ms, Note(3));
  const auto first = clock.After(1ms, Note(1));
  const auto second = clock.After(5ms, Note(2));
  loop.Run();
  CHECK(fired == std::vector{1, 2, 3});
}

TEST_CASE_FIXTURE(Fixture, "timers without a delay fire in the order in which they were set") {
  std::vector<std::unique_ptr<Timer>> timers;
  for (int i = 0; i < 5; ++i) timers.push_back(clock.After(i == 2 ? -1ms : 0ms, Note(i)));
  CHECK(fired.empty());
  loop.Run();
  CHECK(fired == std::vector{0, 1, 2, 3, 4});
}

TEST_CASE_FIXTURE(Fixture, "a timer that was destroyed never fires") {
  for (const Milliseconds delay : {0ms, 1ms}) {
    fired.clear();
    auto gone = clock.After(delay, Note(1));
    const auto other = clock.After(delay, Note(2));
    gone.reset();
    loop.Run();
    CHECK(fired == std::vector{2});
  }
}

TEST_CASE_FIXTURE(Fixture, "a timer that another one destroys when both are due never fires") {
  for (const Milliseconds delay : {0ms, 1ms}) {
    fired.clear();
    std::unique_ptr<Timer> second;
    const auto first = clock.After(delay, [&] {
      fired.push_back(1);
      second.reset();
    });
    second = clock.After(delay, Note(2));
    // Both are due when the loop gets to look.
    const Clock::TimePoint due = clock.Now() + delay + 1ms;
    while (clock.Now() < due) {
    }
    loop.Run();
    CHECK(fired == std::vector{1});
  }
}

TEST_CASE_FIXTURE(Fixture, "a timer may be destroyed, or set anew, by its own callback") {
  for (const Milliseconds delay : {0ms, 1ms}) {
    fired.clear();
    const std::string captured(1000, 'x');
    std::unique_ptr<Timer> timer;
    std::function<void()> again = [&, captured] {
      fired.push_back(static_cast<int>(captured.size()));
      timer.reset();
      if (fired.size() < 3) timer = clock.After(delay, again);
      CHECK(captured.back() == 'x');  // the function lives until it returns
    };
    timer = clock.After(delay, again);
    loop.Run();
    CHECK(fired == std::vector{1000, 1000, 1000});
  }
}

TEST_CASE_FIXTURE(Fixture, "timers without a delay that set each other starve nobody") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const UniqueFd read(ends[0]);
  const UniqueFd write(ends[1]);
  bool is_ready = false;
  auto poller = Poller::Watch(loop, read.get(), [&](Poller::Ready) { is_ready = true; });
  REQUIRE(poller);
  (*poller)->WaitFor(true, false);
  REQUIRE(::write(write.get(), "x", 1) == 1);

  int turns = 0;
  std::unique_ptr<Timer> timer;
  const std::function<void()> again = [&] {
    if (++turns == 1000 || is_ready) return loop.Stop();
    timer = clock.After(0ms, again);
  };
  timer = clock.After(0ms, again);
  loop.Run();
  CHECK(is_ready);
  CHECK(turns < 1000);
}

TEST_CASE_FIXTURE(Fixture, "a delay counts from now, not from when the loop woke up last") {
  const Clock::TimePoint busy_until = clock.Now() + 20ms;
  while (clock.Now() < busy_until) {
  }
  const Clock::TimePoint set = clock.Now();
  Clock::TimePoint fired_at{};
  const auto timer = clock.After(10ms, [&] { fired_at = clock.Now(); });
  loop.Run();
  CHECK(fired_at - set >= 9ms);  // the loop counts in whole milliseconds
}

TEST_CASE_FIXTURE(Fixture, "a loop without anything to wait for returns") {
  loop.Run();
  const auto timer = clock.After(0ms, Note(1));
  loop.Run();
  loop.Run();
  CHECK(fired == std::vector{1});
}

TEST_CASE_FIXTURE(Fixture, "a stopped loop returns and can be run again") {
  const auto stopping = clock.After(0ms, [this] { loop.Stop(); });
  const auto later = clock.After(1ms, Note(2));
  loop.Run();
  CHECK(fired.empty());
  CHECK(RunUntil(loop, [this] { return fired.size() == 1; }));
}

}  // namespace
}  // namespace modal::event

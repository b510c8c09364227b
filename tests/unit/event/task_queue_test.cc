#include "agent/event/task_queue.h"

#include <doctest/doctest.h>

#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "agent/event/uv_clock.h"
#include "agent/event/waker.h"
#include "tests/support/run_loop.h"

using namespace modal;

namespace {

// Without anything to wait for a loop does nothing at all.
struct LivingLoop : event::Loop {  // its members go first
  event::UvClock clock{*this};
  std::unique_ptr<Timer> alive = clock.After(Milliseconds(3'600'000), [] {});
};

}  // namespace

TEST_CASE("a waker wakes its loop from another thread, once for many calls or more") {
  LivingLoop loop;
  int woken = 0;
  event::Waker waker(loop, [&] { ++woken; });
  loop.RunOnce();
  CHECK(woken == 0);
  std::thread other([&] {
    for (int i = 0; i < 100; ++i) waker.Wake();
  });
  other.join();
  CHECK(test::RunUntil(loop, [&] { return woken > 0; }));
  loop.RunOnce();
  CHECK(woken == 1);
  waker.Wake();
  CHECK(test::RunUntil(loop, [&] { return woken == 2; }));
}

TEST_CASE("a waker keeps no loop alive, and may be destroyed when it wakes") {
  event::Loop loop;
  int woken = 0;
  std::optional<event::Waker> waker;
  waker.emplace(loop, [&] {
    ++woken;
    waker.reset();
  });
  loop.Run();  // returns
  event::UvClock clock(loop);
  const auto alive = clock.After(Milliseconds(3'600'000), [] {});
  waker->Wake();
  CHECK(test::RunUntil(loop, [&] { return woken == 1; }));
}

TEST_CASE("tasks are done on the loop, in order, each once") {
  LivingLoop loop;
  event::TaskQueue tasks(loop);
  constexpr int kThreads = 4;
  constexpr int kTasks = 1000;
  const std::thread::id here = std::this_thread::get_id();
  std::vector<int> seen[kThreads];
  int elsewhere = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < kTasks; ++i) {
        tasks.Post([&, thread, i] {
          if (std::this_thread::get_id() != here) ++elsewhere;
          seen[thread].push_back(i);
        });
      }
    });
  }
  const auto done = [&] {
    size_t count = 0;
    for (const auto& list : seen) count += list.size();
    return count == size_t{kThreads} * kTasks;
  };
  CHECK(test::RunUntil(loop, done));
  for (std::thread& thread : threads) thread.join();
  loop.RunOnce();
  CHECK(elsewhere == 0);
  for (const auto& list : seen) {
    REQUIRE(list.size() == kTasks);
    for (int i = 0; i < kTasks; ++i) CHECK(list[static_cast<size_t>(i)] == i);
  }
}

TEST_CASE("a task may post another, and what is left when the queue ends is dropped") {
  LivingLoop loop;
  auto tasks = std::make_unique<event::TaskQueue>(loop);
  int done = 0;
  tasks->Post([&] {
    ++done;
    tasks->Post([&] { ++done; });
  });
  CHECK(test::RunUntil(loop, [&] { return done == 2; }));
  const auto kept = std::make_shared<int>(0);
  tasks->Post([kept, &done] { ++done; });
  tasks.reset();
  loop.RunOnce();
  CHECK(done == 2);
  CHECK(kept.use_count() == 1);
}

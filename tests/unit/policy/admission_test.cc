#include "agent/policy/admission.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

namespace modal::policy {
namespace {

using namespace std::chrono_literals;
using Entry = Admission::Entry;

constexpr Clock::TimePoint kStart{1000h};

TEST_CASE("so many enter, so many more wait, and the rest is refused") {
  Places places(2, 1, 1);
  Admission door(places, 0);
  Waiter a, b, c, d;
  CHECK(door.Arrive(a, kStart) == Entry::kEntered);
  CHECK(door.Arrive(b, kStart) == Entry::kEntered);
  CHECK(door.Arrive(c, kStart) == Entry::kWaiting);
  CHECK(door.Arrive(d, kStart) == Entry::kFull);
  CHECK(places.in_flight() == 2);
  CHECK(places.waiting() == 1);
  CHECK(c.waits());
  CHECK_FALSE(d.waits());
  CHECK(door.first() == &c);
  CHECK_FALSE(door.NextTurn().entered);

  door.Leave();
  const Admission::Turn turn = door.NextTurn();
  CHECK(turn.entered == &c);
  CHECK_FALSE(c.waits());
  CHECK_FALSE(door.NextTurn().entered);
  CHECK(places.in_flight() == 2);
  CHECK(places.waiting() == 0);
}

TEST_CASE("without a limit everybody enters, and is counted") {
  Places places(0, 0, 1);
  Admission door(places, 0);
  Waiter waiter;
  for (int i = 0; i < 1000; ++i) CHECK(door.Arrive(waiter, kStart) == Entry::kEntered);
  CHECK(places.in_flight() == 1000);
  for (int i = 0; i < 1000; ++i) door.Leave();
  CHECK(places.in_flight() == 0);
  CHECK_FALSE(door.NextTurn().wake);
}

TEST_CASE("without a queue nobody waits") {
  Places places(1, 0, 1);
  Admission door(places, 0);
  Waiter a, b;
  CHECK(door.Arrive(a, kStart) == Entry::kEntered);
  CHECK(door.Arrive(b, kStart) == Entry::kFull);
  door.Leave();
  CHECK(door.Arrive(b, kStart) == Entry::kEntered);
}

TEST_CASE("who waits is served in the order of arrival, whoever gives up in between") {
  Places places(1, 5, 1);
  Admission door(places, 0);
  Waiter held, waiters[5];
  door.Arrive(held, kStart);
  for (Waiter& waiter : waiters) CHECK(door.Arrive(waiter, kStart) == Entry::kWaiting);
  door.Abandon(waiters[0]);
  door.Abandon(waiters[2]);
  door.Abandon(waiters[4]);
  door.Abandon(waiters[4]);
  CHECK(places.waiting() == 2);
  CHECK(door.first() == &waiters[1]);
  CHECK_FALSE(door.NextTurn().entered);
  for (Waiter* expected : {&waiters[1], &waiters[3]}) {
    door.Leave();
    CHECK(door.NextTurn().entered == expected);
  }
  CHECK_FALSE(door.first());
  CHECK(places.waiting() == 0);
}

TEST_CASE("nobody who comes later takes a free place from those who wait") {
  Places places(1, 2, 2);
  Admission here(places, 0);
  Admission there(places, 1);
  Waiter held, first, late;
  here.Arrive(held, kStart);
  there.Arrive(first, kStart);
  here.Leave();
  CHECK(here.Arrive(late, kStart + 1s) == Entry::kWaiting);
  CHECK(here.NextTurn().wake == 1u);
  here.Abandon(late);
  CHECK(there.NextTurn().entered == &first);
}

TEST_CASE("a thread that gives a place back and has no waiter wakes the one that has") {
  Places places(1, 2, 3);
  Admission here(places, 0);
  Admission idle(places, 1);
  Admission there(places, 2);
  Waiter held, waiter;
  here.Arrive(held, kStart);
  there.Arrive(waiter, kStart);
  here.Leave();
  const Admission::Turn turn = here.NextTurn();
  CHECK_FALSE(turn.entered);
  CHECK(turn.wake == 2u);
  CHECK(there.NextTurn().entered == &waiter);
  CHECK_FALSE(there.NextTurn().wake);
  there.Leave();
}

TEST_CASE("a woken thread whose waiter has gone passes the place on") {
  Places places(1, 2, 3);
  Admission a(places, 0), b(places, 1), c(places, 2);
  Waiter held, on_b, on_c;
  a.Arrive(held, kStart);
  b.Arrive(on_b, kStart);
  c.Arrive(on_c, kStart + 1s);
  a.Leave();
  CHECK(a.NextTurn().wake == 1u);
  b.Abandon(on_b);
  CHECK(b.NextTurn().wake == 2u);
  CHECK(c.NextTurn().entered == &on_c);
  CHECK_FALSE(b.NextTurn().wake);  // the wake-up that came late
  c.Leave();
}

TEST_CASE("the longest waiter is served first, on whichever thread, but for a little patience") {
  Places places(1, 4, 2);
  Admission a(places, 0), b(places, 1);
  Waiter held, own, other;
  a.Arrive(held, kStart);
  SUBCASE("another thread's came much earlier") {
    b.Arrive(other, kStart);
    a.Arrive(own, kStart + kPatience + 1ns);
    a.Leave();
    CHECK(a.NextTurn().wake == 1u);
    CHECK(b.NextTurn().entered == &other);
    b.Leave();
    CHECK(b.NextTurn().wake == 0u);
    CHECK(a.NextTurn().entered == &own);
  }
  SUBCASE("another thread's came a little earlier") {
    b.Arrive(other, kStart);
    a.Arrive(own, kStart + kPatience);
    a.Leave();
    CHECK(a.NextTurn().entered == &own);
    a.Leave();
    CHECK(a.NextTurn().wake == 1u);
    CHECK(b.NextTurn().entered == &other);
  }
}

TEST_CASE("when the first of a queue has gone, the next one's arrival counts") {
  Places places(1, 4, 2);
  Admission a(places, 0), b(places, 1);
  Waiter held, early, middle, late;
  a.Arrive(held, kStart);
  b.Arrive(early, kStart);
  a.Arrive(middle, kStart + 5s);
  b.Arrive(late, kStart + 10s);
  SUBCASE("with a place") {
    a.Leave();
    CHECK(a.NextTurn().wake == 1u);
    CHECK(b.NextTurn().entered == &early);
    b.Leave();
  }
  SUBCASE("without one") {
    b.Abandon(early);
    a.Leave();
  }
  CHECK(b.NextTurn().wake == 0u);
  CHECK(a.NextTurn().entered == &middle);
  a.Leave();
  CHECK(a.NextTurn().wake == 1u);
  CHECK(b.NextTurn().entered == &late);
}

TEST_CASE("limits can be changed while there are waiters") {
  Places places(1, 3, 1);
  Admission door(places, 0);
  Waiter held, a, b, late;
  door.Arrive(held, kStart);
  door.Arrive(a, kStart);
  door.Arrive(b, kStart);
  SUBCASE("more places") {
    places.SetLimits(3, 3);
    CHECK(door.NextTurn().entered == &a);
    CHECK(door.NextTurn().entered == &b);
    CHECK_FALSE(door.NextTurn().entered);
  }
  SUBCASE("no limit any more") {
    places.SetLimits(0, 0);
    CHECK(door.NextTurn().entered == &a);
    CHECK(door.NextTurn().entered == &b);
    CHECK(door.Arrive(late, kStart) == Entry::kEntered);
  }
  SUBCASE("fewer places") {
    places.SetLimits(3, 3);
    CHECK(door.NextTurn().entered == &a);
    CHECK(door.NextTurn().entered == &b);
    places.SetLimits(1, 0);
    door.Leave();
    door.Leave();
    CHECK(door.Arrive(late, kStart) == Entry::kFull);
    door.Leave();
    CHECK(door.Arrive(late, kStart) == Entry::kEntered);
  }
}

TEST_CASE("the time of a clock that has just begun counts too") {
  Places places(1, 1, 2);
  Admission a(places, 0), b(places, 1);
  Waiter held, waiter;
  a.Arrive(held, Clock::TimePoint{});
  b.Arrive(waiter, Clock::TimePoint{});
  a.Leave();
  CHECK(a.NextTurn().wake == 1u);
  CHECK(b.NextTurn().entered == &waiter);
}

// Threads as gateways have them: each sleeps unless it was woken or has something to do.
class Crowd {
 public:
  static constexpr uint32_t kThreads = 4;
  static constexpr int kRequests = 20'000;  // of each thread

  Crowd(uint32_t max, uint32_t queue) : places_(max, queue, kThreads) {}

  void Run() {
    std::vector<std::thread> threads;
    for (uint32_t i = 0; i < kThreads; ++i) threads.emplace_back([this, i] { Serve(i); });
    for (std::thread& thread : threads) thread.join();
  }

  std::atomic<int> served{0}, refused{0}, gave_up{0};
  std::atomic<uint32_t> inside{0}, most{0};
  Places& places() { return places_; }

 private:
  struct Bell {
    std::mutex mutex;
    std::condition_variable rung;
    bool ringing = false;
  };
  struct Person {
    Waiter waiter;
  };

  void Ring(uint32_t thread) {
    const std::lock_guard lock(bells_[thread].mutex);
    bells_[thread].ringing = true;
    bells_[thread].rung.notify_one();
  }

  // Without a wake-up that it is owed, this waits for ever.
  void Sleep(uint32_t thread) {
    std::unique_lock lock(bells_[thread].mutex);
    bells_[thread].rung.wait(lock, [&] { return bells_[thread].ringing; });
    bells_[thread].ringing = false;
  }

  void Enter() {
    const uint32_t now = ++inside;
    uint32_t seen = most;
    while (now > seen && !most.compare_exchange_weak(seen, now)) {
    }
  }

  void Serve(uint32_t thread) {
    Admission door(places_, thread);
    std::mt19937 random(thread);
    std::deque<Person> people(64);
    std::vector<Person*> free;
    std::vector<Person*> waiting;
    for (Person& person : people) free.push_back(&person);
    int with_server = 0;
    int left = kRequests;
    const auto give_away = [&] {
      while (true) {
        const Admission::Turn turn = door.NextTurn();
        if (turn.wake) Ring(*turn.wake);
        if (!turn.entered) return;
        Enter();
        ++with_server;
        const auto found = std::find_if(waiting.begin(), waiting.end(), [&](Person* person) {
          return &person->waiter == turn.entered;
        });
        free.push_back(*found);
        waiting.erase(found);
      }
    };
    while (left > 0 || with_server > 0 || !waiting.empty()) {
      const uint32_t dice = random() % 8;
      if (dice < 4 && left > 0 && !free.empty()) {
        --left;
        Person* const person = free.back();
        switch (door.Arrive(person->waiter,
                            Clock::TimePoint(std::chrono::microseconds(kRequests - left)))) {
          case Entry::kEntered:
            Enter();
            ++with_server;
            break;
          case Entry::kWaiting:
            free.pop_back();
            waiting.push_back(person);
            break;
          case Entry::kFull:
            ++refused;
            break;
        }
      } else if (dice < 7 && with_server > 0) {
        --with_server;
        --inside;
        ++served;
        door.Leave();
        give_away();
      } else if (dice == 7 && !waiting.empty() && random() % 4 == 0) {
        const size_t at = random() % waiting.size();
        door.Abandon(waiting[at]->waiter);
        free.push_back(waiting[at]);
        waiting.erase(waiting.begin() + static_cast<ptrdiff_t>(at));
        ++gave_up;
        give_away();
      } else if (with_server == 0 && !waiting.empty() && (left == 0 || random() % 2 == 0)) {
        // Nothing to do but to wait for the others.
        Sleep(thread);
        give_away();
      }
    }
  }

  Places places_;
  std::array<Bell, kThreads> bells_;
};

TEST_CASE("four threads lose no wake-up, no place and nobody") {
  for (const uint32_t max : {1u, 3u, 16u}) {
    CAPTURE(max);
    Crowd crowd(max, 40);
    crowd.Run();
    CHECK(crowd.served + crowd.refused + crowd.gave_up == Crowd::kThreads * Crowd::kRequests);
    CHECK(crowd.served > 0);
    CHECK(crowd.most <= max);
    CHECK(crowd.places().in_flight() == 0);
    CHECK(crowd.places().waiting() == 0);
  }
}

}  // namespace
}  // namespace modal::policy

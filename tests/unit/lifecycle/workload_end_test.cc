#include "lifecycle/workload_end.h"

#include <doctest/doctest.h>
#include <signal.h>

#include "tests/support/fake_clock.h"
#include "tests/support/fake_process_tree.h"

namespace modal::lifecycle {
namespace {

using namespace std::chrono_literals;
using Signals = std::vector<int>;

struct Fixture {
  std::unique_ptr<WorkloadEnd> End(int signal = SIGTERM) {
    return std::make_unique<WorkloadEnd>(clock, tree, hook_sessions, signal, 30s,
                                         [this] { ++ended; });
  }

  test::FakeClock clock;
  test::FakeProcessTree tree;
  std::vector<pid_t> hook_sessions{20};
  int ended = 0;
};

TEST_CASE_FIXTURE(Fixture, "everything gets the stop signal but what hooks have left running") {
  tree.Add(10);
  tree.Add(11, 10);
  tree.Add(12);  // has made itself a session of its own
  tree.Add(20);
  const auto end = End(SIGINT);
  CHECK(tree.SentTo(10) == Signals{SIGINT});
  CHECK(tree.SentTo(11) == Signals{SIGINT});
  CHECK(tree.SentTo(12) == Signals{SIGINT});
  CHECK(tree.SentTo(20).empty());
  clock.Advance(1s);
  CHECK(ended == 0);

  tree.Remove(10);
  tree.Remove(11);
  end->ChildrenCollected();
  clock.Turn();
  CHECK(ended == 0);
  tree.Remove(12);
  end->ChildrenCollected();
  CHECK(ended == 0);  // not from inside
  clock.Turn();
  CHECK(ended == 1);
  clock.Advance(1h);
  CHECK(ended == 1);
  CHECK(tree.SentTo(20).empty());
}

TEST_CASE_FIXTURE(Fixture, "a workload of which nothing is left ends on the next turn") {
  tree.Add(20);
  const auto end = End();
  CHECK(ended == 0);
  clock.Turn();
  CHECK(ended == 1);
  CHECK(clock.pending() == 0);
}

TEST_CASE_FIXTURE(Fixture, "a process that is no child of ours is seen to go all the same") {
  tree.Add(11, 10);
  const auto end = End();
  clock.Advance(1s);
  tree.Remove(11);
  clock.Advance(50ms);
  CHECK(ended == 1);
}

TEST_CASE_FIXTURE(Fixture,
                  "what is left after the timeout is killed, again and again until it is gone") {
  tree.Add(10);
  const auto end = End();
  clock.Advance(29999ms);
  CHECK(tree.SentTo(10) == Signals{SIGTERM});
  clock.Advance(1ms);
  CHECK(tree.SentTo(10) == Signals{SIGTERM, SIGKILL});

  // It had forked a moment before.
  tree.Remove(10);
  tree.Add(11, 10);
  clock.Advance(50ms);
  CHECK(tree.SentTo(11) == Signals{SIGKILL});
  CHECK(ended == 0);
  tree.Remove(11);
  clock.Advance(50ms);
  CHECK(ended == 1);
}

TEST_CASE_FIXTURE(Fixture, "an end that is given up calls nobody and kills nobody") {
  tree.Add(10);
  auto end = End();
  end.reset();
  clock.Advance(1h);
  CHECK(tree.SentTo(10) == Signals{SIGTERM});
  CHECK(ended == 0);
}

}  // namespace
}  // namespace modal::lifecycle

#include "healthcheck/port_wait.h"

#include <doctest/doctest.h>

#include "tests/support/fake_clock.h"
#include "tests/support/fake_socket_table.h"

namespace modal::health {
namespace {

using test::FakeClock;
using test::FakeSocketOwners;
using test::FakeSocketTable;
using test::ListenerOn;
using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;

ListeningSocket V6Only(ListeningSocket listener) {
  listener.v6_only = true;
  return listener;
}

TEST_CASE("a listener counts as open when the outside can reach its address") {
  FakeSocketOwners owners;
  const auto judge = [&](const std::string& address) {
    return JudgePort({ListenerOn(address, 8000)}, 8000, {}, false, owners).state;
  };
  CHECK(judge("0.0.0.0") == PortState::kOpen);
  CHECK(judge("::") == PortState::kOpen);
  CHECK(judge("172.17.0.2") == PortState::kOpen);
  CHECK(judge("fd00::2") == PortState::kOpen);
  CHECK(judge("::ffff:172.17.0.2") == PortState::kOpen);
  CHECK(judge("127.0.0.1") == PortState::kLoopbackOnly);
  CHECK(judge("127.3.4.5") == PortState::kLoopbackOnly);
  CHECK(judge("::1") == PortState::kLoopbackOnly);
  CHECK(judge("::ffff:127.0.0.1") == PortState::kLoopbackOnly);
}

TEST_CASE("behind a gateway a listener on loopback is open") {
  FakeSocketOwners owners;
  const PortVerdict verdict = JudgePort({ListenerOn("127.0.0.1", 8000)}, 8000, {}, true, owners);
  CHECK(verdict.state == PortState::kOpen);
  CHECK_FALSE(verdict.v6_only);
  CHECK(JudgePort({ListenerOn("::1", 8000)}, 8000, {}, true, owners).v6_only);
}

TEST_CASE("an open port says when IPv4 clients cannot reach it") {
  FakeSocketOwners owners;
  const auto v6_only = [&](const ListeningSocket& listener) {
    return JudgePort({listener}, 8000, {}, false, owners).v6_only;
  };
  CHECK_FALSE(v6_only(ListenerOn("0.0.0.0", 8000)));
  CHECK_FALSE(v6_only(ListenerOn("::", 8000)));
  CHECK_FALSE(v6_only(ListenerOn("::ffff:172.17.0.2", 8000)));
  CHECK(v6_only(V6Only(ListenerOn("::", 8000))));
  CHECK(v6_only(ListenerOn("fd00::2", 8000)));
}

TEST_CASE("of several listeners the most reachable one decides") {
  FakeSocketOwners owners;
  const PortVerdict verdict =
      JudgePort({ListenerOn("127.0.0.1", 8000, 1), V6Only(ListenerOn("::", 8000, 2)),
                 ListenerOn("172.17.0.2", 8000, 3)},
                8000, {}, false, owners);
  CHECK(verdict.state == PortState::kOpen);
  CHECK(verdict.socket.inode == 3);
  CHECK_FALSE(verdict.v6_only);
  CHECK(owners.asked == std::vector<uint64_t>{3});
}

TEST_CASE("another port, or a listener from before the launch, leaves the port closed") {
  FakeSocketOwners owners;
  CHECK(JudgePort({ListenerOn("0.0.0.0", 8001)}, 8000, {}, false, owners).state ==
        PortState::kClosed);
  CHECK(JudgePort({ListenerOn("0.0.0.0", 8000, 7)}, 8000, {7}, false, owners).state ==
        PortState::kClosed);
  CHECK(owners.asked.empty());
}

TEST_CASE("where sockets have no inode, no listener is mistaken for an older one") {
  FakeSocketOwners owners;
  owners.otherwise = SocketOwners::Answer::kUnknown;
  CHECK(JudgePort({ListenerOn("0.0.0.0", 8000, 0)}, 8000, {0}, false, owners).state ==
        PortState::kOpen);
}

TEST_CASE("a listener of somebody else is foreign, one that cannot be told counts as ours") {
  FakeSocketOwners owners;
  owners.answers[1] = SocketOwners::Answer::kForeign;
  owners.answers[2] = SocketOwners::Answer::kUnknown;
  const ListeningSocket foreign = ListenerOn("0.0.0.0", 8000, 1);
  const ListeningSocket unknown = ListenerOn("172.17.0.2", 8000, 2);
  CHECK(JudgePort({foreign}, 8000, {}, false, owners).state == PortState::kForeign);
  CHECK(JudgePort({unknown}, 8000, {}, false, owners).state == PortState::kOpen);
  CHECK(JudgePort({foreign, unknown}, 8000, {}, false, owners).socket.inode == 2);
}

// Looks take no time, unless Spend() says so.
class BusyClock : public Clock {
 public:
  TimePoint Now() const override { return clock_.Now() + spent_; }
  std::unique_ptr<Timer> After(Milliseconds delay, std::function<void()> expired) override {
    return clock_.After(delay, std::move(expired));
  }
  void Spend(Milliseconds time) { spent_ += time; }
  void Advance(Milliseconds by) { clock_.Advance(by); }
  size_t pending() const { return clock_.pending(); }

 private:
  FakeClock clock_;
  Milliseconds spent_{};
};

using Gravity = PortWait::Gravity;

// A PortWait for port 8000 with all around it.
struct Waiting {
  BusyClock clock;
  FakeSocketTable table;
  FakeSocketOwners owners;
  std::vector<PortVerdict> opened;
  std::vector<std::pair<Gravity, std::string>> notes;
  PortWait wait;

  explicit Waiting(std::set<uint64_t> before = {}, bool loopback_is_enough = false)
      : wait(
            clock, table, owners, {8000, loopback_is_enough, std::move(before)},
            [this](const PortVerdict& verdict) { opened.push_back(verdict); },
            [this](Gravity gravity, const std::string& note) {
              notes.emplace_back(gravity, note);
            }) {}
};

TEST_CASE("a port that is open already is seen inside Start") {
  Waiting test;
  test.table.listeners = {ListenerOn("0.0.0.0", 8000)};
  test.wait.Start();
  REQUIRE(test.opened.size() == 1);
  CHECK(test.opened[0].socket.local.ToString() == "0.0.0.0:8000");
  CHECK(test.notes.empty());
}

TEST_CASE("a port that opens is seen a millisecond later, once, and then nobody looks any more") {
  Waiting test;
  test.wait.Start();
  test.clock.Advance(300ms);
  CHECK(test.opened.empty());
  test.table.listeners = {ListenerOn("0.0.0.0", 8000)};
  test.clock.Advance(1ms);
  CHECK(test.opened.size() == 1);
  CHECK(test.clock.pending() == 0);
  const int asked = test.table.listeners_asked;
  test.clock.Advance(10s);
  test.wait.LookNow();
  CHECK(test.opened.size() == 1);
  CHECK(test.table.listeners_asked == asked);
}

TEST_CASE("looks become rarer with the time waited, never rarer than every 20 ms") {
  Waiting test;
  test.wait.Start();
  const auto looks_within = [&](Milliseconds time) {
    const int before = test.table.listeners_asked;
    test.clock.Advance(time);
    return test.table.listeners_asked - before;
  };
  CHECK(looks_within(1s) == 1000);
  const int second_to_fifth = looks_within(4s);
  CHECK(second_to_fifth > 4000 / 10);
  CHECK(second_to_fifth < 4000 / 2);
  test.clock.Advance(60s);
  CHECK(looks_within(1s) == 50);
}

TEST_CASE("waiting takes a tenth of a processor at most where looking is expensive") {
  Waiting test;
  SUBCASE("every look takes 3 ms") {
    test.table.on_asked = [&] { test.clock.Spend(3ms); };
    test.wait.Start();
    test.clock.Advance(10ms);
    const int before = test.table.listeners_asked;
    test.clock.Advance(300ms);
    CHECK(test.table.listeners_asked - before <= 10);
  }
  SUBCASE("looks that were interrupted for 50 ms say nothing about the next") {
    test.wait.Start();
    test.clock.Advance(10ms);
    int interrupted = 0;
    test.table.on_asked = [&] {
      if (++interrupted <= 7) test.clock.Spend(50ms);
    };
    const int before = test.table.listeners_asked;
    test.clock.Advance(20ms);
    CHECK(test.table.listeners_asked - before == 20);
  }
}

TEST_CASE("destroying a wait ends it, also from its own callback") {
  FakeClock clock;
  FakeSocketTable table;
  FakeSocketOwners owners;
  std::unique_ptr<PortWait> wait;
  int opened = 0;
  const auto on_open = [&](const PortVerdict&) {
    ++opened;
    wait.reset();
  };
  wait = std::make_unique<PortWait>(clock, table, owners, PortWait::Options{8000, false, {}},
                                    on_open, nullptr);
  wait->Start();
  SUBCASE("from outside") {
    wait.reset();
    table.listeners = {ListenerOn("0.0.0.0", 8000)};
    clock.Advance(1s);
    CHECK(opened == 0);
  }
  SUBCASE("when the port opens") {
    table.listeners = {ListenerOn("0.0.0.0", 8000)};
    clock.Advance(1s);
    CHECK(opened == 1);
    CHECK(wait == nullptr);
  }
  CHECK(clock.pending() == 0);
}

TEST_CASE("a listener on loopback is named at once, and the wait goes on") {
  Waiting test;
  test.table.listeners = {ListenerOn("127.0.0.1", 8000)};
  test.wait.Start();
  test.clock.Advance(500ms);
  REQUIRE(test.notes.size() == 1);
  CHECK(test.notes[0].first == Gravity::kWrong);
  CHECK(test.wait.note() ==
        "listening on 127.0.0.1:8000, which nothing outside this container can reach; bind "
        "0.0.0.0");
  test.table.listeners = {ListenerOn("0.0.0.0", 8000)};
  test.clock.Advance(1ms);
  CHECK(test.opened.size() == 1);
}

TEST_CASE("a foreign listener is named with its user") {
  Waiting test;
  test.owners.otherwise = SocketOwners::Answer::kForeign;
  ListeningSocket listener = ListenerOn("0.0.0.0", 8000);
  listener.uid = 33;
  test.table.listeners = {listener};
  test.wait.Start();
  test.clock.Advance(100ms);
  CHECK(test.opened.empty());
  REQUIRE(test.notes.size() == 1);
  CHECK(test.notes[0].first == Gravity::kWrong);
  CHECK(test.wait.note() ==
        "port 8000 is taken: a process that the agent did not start (uid 33) listens on "
        "0.0.0.0:8000");
}

TEST_CASE("a port for IPv6 only is open, and that is said") {
  Waiting test;
  test.table.listeners = {V6Only(ListenerOn("::", 8000))};
  test.wait.Start();
  CHECK(test.opened.size() == 1);
  REQUIRE(test.notes.size() == 1);
  CHECK(test.notes[0].first == Gravity::kWrong);
  CHECK(test.notes[0].second ==
        "listening on [::]:8000 for IPv6 only: IPv4 clients cannot reach it");
}

TEST_CASE("other ports of the workload are named, looked for rarely or when asked") {
  Waiting test;
  CHECK(test.wait.note() == "nothing listens on port 8000");
  test.wait.Start();
  test.table.listeners = {ListenerOn("0.0.0.0", 3000)};
  CHECK(test.table.all_listeners_asked == 0);
  SUBCASE("after a tenth of a second") {
    test.clock.Advance(100ms);
    CHECK(test.table.all_listeners_asked == 1);
    test.clock.Advance(1s);
    CHECK(test.table.all_listeners_asked <= 11);
  }
  SUBCASE("when asked") { test.wait.LookNow(); }
  CHECK(test.wait.note() ==
        "nothing listens on port 8000, but the workload listens on 0.0.0.0:3000; bind port 8000 "
        "or pass --port 3000");
  REQUIRE(test.notes.size() == 1);
  CHECK(test.notes[0].first == Gravity::kWrong);

  test.table.listeners.clear();
  test.wait.LookNow();
  CHECK(test.wait.note() == "nothing listens on port 8000");
  REQUIRE(test.notes.size() == 2);
  CHECK(test.notes[1].first == Gravity::kUsual);
}

TEST_CASE("what is said of other ports fits what is known of them") {
  Waiting test({5});
  test.wait.Start();
  const auto note = [&](std::vector<ListeningSocket> listeners) {
    test.table.listeners = std::move(listeners);
    test.wait.LookNow();
    return test.wait.note();
  };
  test.owners.answers[9] = SocketOwners::Answer::kForeign;
  test.owners.answers[10] = SocketOwners::Answer::kUnknown;

  CHECK(note({ListenerOn("0.0.0.0", 22, 9)}) == "nothing listens on port 8000");
  CHECK(note({ListenerOn("0.0.0.0", 22, 5)}) == "nothing listens on port 8000");
  CHECK(note({ListenerOn("0.0.0.0", 8000, 5)}) ==
        "nothing listens on port 8000 except what stood there before the start, on 0.0.0.0:8000");
  CHECK(note({ListenerOn("127.0.0.1", 3000)}) ==
        "nothing listens on port 8000, but the workload listens on 127.0.0.1:3000; bind "
        "0.0.0.0:8000");
  CHECK(note({ListenerOn("::", 3000, 10)}) ==
        "nothing listens on port 8000, but since the start something listens on [::]:3000; bind "
        "port 8000 or pass --port 3000");
  CHECK(note({ListenerOn("127.0.0.1", 9229, 1), ListenerOn("0.0.0.0", 3000, 2),
              ListenerOn("0.0.0.0", 3000, 3)}) ==
        "nothing listens on port 8000, but the workload listens on 127.0.0.1:9229 and "
        "0.0.0.0:3000; bind port 8000 or pass --port 3000");
  CHECK(note({ListenerOn("0.0.0.0", 1), ListenerOn("0.0.0.0", 2), ListenerOn("0.0.0.0", 3),
              ListenerOn("0.0.0.0", 4), ListenerOn("0.0.0.0", 6)}) ==
        "nothing listens on port 8000, but the workload listens on 0.0.0.0:1, 0.0.0.0:2, "
        "0.0.0.0:3 and 2 more; bind port 8000 or pass --port 1");
}

TEST_CASE("behind a gateway a port on loopback is one to pass") {
  Waiting test({}, true);
  test.wait.Start();
  test.table.listeners = {ListenerOn("127.0.0.1", 3000)};
  test.wait.LookNow();
  CHECK(test.wait.note() ==
        "nothing listens on port 8000, but the workload listens on 127.0.0.1:3000; bind port 8000 "
        "or pass --port 3000");
}

TEST_CASE("a note about a listener that is gone does not stay") {
  Waiting test;
  test.table.listeners = {ListenerOn("127.0.0.1", 8000)};
  test.wait.Start();
  test.table.listeners.clear();
  test.clock.Advance(1ms);
  CHECK(test.wait.note() == "nothing listens on port 8000");
  REQUIRE(test.notes.size() == 2);
  CHECK(test.notes[1].first == Gravity::kUsual);
}

TEST_CASE("a table that cannot be read becomes a note, and the wait goes on") {
  Waiting test;
  test.table.error = Error("sock_diag: no");
  test.wait.Start();
  test.clock.Advance(10ms);
  CHECK(test.wait.note() == "cannot tell whether port 8000 is open: sock_diag: no");
  CHECK(test.notes.size() == 1);
  test.table.error.reset();
  test.table.listeners = {ListenerOn("0.0.0.0", 8000)};
  test.clock.Advance(1ms);
  CHECK(test.opened.size() == 1);
}

}  // namespace
}  // namespace modal::health

// Waits until the application port has a listener that the outside can reach.
//
// JudgePort() decides and knows no kernel; PortWait looks at the socket table and says once when
// the port is open. What it sees meanwhile (a listener on loopback only, other ports of the
// workload, somebody else's listener) it keeps as a note for the log, for `status` and for the
// error at the startup timeout.
//
// How often it looks: the time between two looks is a 500th of the time waited so far, from 1 ms to
// 20 ms. So a server that is up within a second is seen half a millisecond after it listens, as a
// rule, and no start is made longer by more than a 500th (or 1 ms). Where a look is expensive (tens
// of thousands of sockets in /proc/net/tcp) the pause is at least ten times as long as a look took,
// up to 50 ms, and leaves the processor to the server that is starting.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "healthcheck/socket_table.h"

namespace modal::health {

enum class PortState {
  kClosed,        // nothing listens
  kOpen,          // reachable from outside
  kLoopbackOnly,  // only from inside
  kForeign,       // somebody else listens there
};

struct PortVerdict {
  PortState state = PortState::kClosed;
  ListeningSocket socket;  // what the verdict is about, unless kClosed
  bool v6_only = false;    // kOpen or kLoopbackOnly, but not for IPv4 clients
};

// `before`: inodes of listeners that stood before the launch; they do not count.
// `loopback_is_enough`: a gateway stands in front. `owners` is asked about candidates only; a
// listener whose owner cannot be told counts as ours. Of several the most reachable one decides.
PortVerdict JudgePort(const std::vector<ListeningSocket>& listeners, uint16_t port,
                      const std::set<uint64_t>& before, bool loopback_is_enough,
                      SocketOwners& owners);

class PortWait {
 public:
  // Whether a note is about what every start looks like, or about what somebody has to change.
  enum class Gravity { kUsual, kWrong };
  struct Options {
    uint16_t port;
    bool loopback_is_enough = false;
    std::set<uint64_t> before;
  };

  // `on_open` runs once, from the loop or from inside Start() or LookNow(), and may destroy the
  // PortWait. `on_note` runs each time the note changes, with the new text (one sentence for
  // people), also when it changes back to "nothing listens on port 8000" (kUsual), and for what
  // should be said of an open port ("for IPv6 only"); it must not destroy the PortWait.
  PortWait(Clock& clock, SocketTable& table, SocketOwners& owners, Options options,
           std::function<void(const PortVerdict&)> on_open,
           std::function<void(Gravity, const std::string&)> on_note);

  void Start();
  // Looks at once, at other ports too (something may have changed: a child ended, a hook returned;
  // or the last word is wanted, at the startup timeout).
  void LookNow();
  // What was found instead of an open port: "nothing listens on port 8000, but the workload listens
  // on 0.0.0.0:3000; bind port 8000 or pass --port 3000", "listening on 127.0.0.1:8000, which
  // nothing outside this container can reach; bind 0.0.0.0". Never empty: at first "nothing listens
  // on port 8000".
  const std::string& note() const { return note_; }

 private:
  enum class Depth { kQuick, kThorough };  // thorough: other ports too
  struct Survey {
    Gravity gravity;
    std::string note;
  };

  void Look(Depth depth);
  void Open(const PortVerdict& verdict);
  Survey LookElsewhere();
  bool IsSurveyDue(Depth depth) const;
  void SetNote(PortState state, Gravity gravity, std::string note);
  Milliseconds NextInterval() const;

  Clock& clock_;
  SocketTable& table_;
  SocketOwners& owners_;
  Options options_;
  std::function<void(const PortVerdict&)> on_open_;
  std::function<void(Gravity, const std::string&)> on_note_;
  Clock::TimePoint started_{};
  Clock::TimePoint surveyed_{};
  // What the last looks took. The cheapest one counts: a look that was long because the machine was
  // busy with something else (the server that starts) says nothing about the next one.
  std::array<Clock::TimePoint::duration, 8> costs_{};
  size_t looks_ = 0;
  PortState note_state_ = PortState::kClosed;
  std::string note_;
  bool done_ = false;
  std::unique_ptr<Timer> timer_;
};

}  // namespace modal::health

// Waits until the application port has a listener that the outside can reach.
//
// JudgePort() decides and knows no kernel; PortWait looks at the socket table, at first every
// millisecond, and says once when the port is open. What it sees meanwhile (a listener on loopback
// only, other ports of the workload, somebody else's listener) it keeps as a note for the log, for
// `status` and for the error at the startup timeout.
#pragma once

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
  bool v6_only = false;    // kOpen, but not for IPv4 clients
};

// `before`: inodes of listeners that stood before the launch; they do not count.
// `loopback_is_enough`: a gateway stands in front. `owners` is asked about candidates only.
PortVerdict JudgePort(const std::vector<ListeningSocket>& listeners, uint16_t port,
                      const std::set<uint64_t>& before, bool loopback_is_enough,
                      SocketOwners& owners);

class PortWait {
 public:
  struct Options {
    uint16_t port;
    bool loopback_is_enough = false;
    std::set<uint64_t> before;
  };

  // `on_open` runs once, from the loop or from inside Start(). `on_note` runs each time the note
  // changes, with the new text (one sentence for people).
  PortWait(Clock& clock, SocketTable& table, SocketOwners& owners, Options options,
           std::function<void(const PortVerdict&)> on_open,
           std::function<void(PortState, const std::string&)> on_note);

  void Start();
  // Looks at once (something may have changed: a child ended, a hook returned).
  void LookNow();
  // What was found instead of an open port: "nothing listens on port 8000, but the workload listens
  // on 0.0.0.0:3000", "listening on 127.0.0.1:8000, which nothing outside this container can
  // reach; bind 0.0.0.0".
  const std::string& note() const { return note_; }

 private:
  void Look();
  void SetNote(PortState state, std::string note);
  Milliseconds NextInterval() const;

  Clock& clock_;
  SocketTable& table_;
  SocketOwners& owners_;
  Options options_;
  std::function<void(const PortVerdict&)> on_open_;
  std::function<void(PortState, const std::string&)> on_note_;
  Clock::TimePoint started_{};
  std::string note_;
  bool done_ = false;
  std::unique_ptr<Timer> timer_;
};

}  // namespace modal::health

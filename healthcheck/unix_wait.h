// Waits until a server listens on a unix socket (--upstream unix:PATH).
//
// The kernel tells of such a listener in no way that works everywhere, so a connection is made and
// closed at once: a server may see it, once. The time between two looks is as for a port (see
// port_wait.h).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "agent/base/clock.h"

namespace modal::health {

// Nothing if somebody listens there, else a sentence: "nothing listens on unix:/run/app.sock".
std::optional<std::string> CheckUnixListens(const std::string& path);

class UnixWait {
 public:
  // `on_open` runs once, from the loop or from inside Start() or LookNow(), and may destroy the
  // UnixWait. `on_note` runs each time that what was found instead changes; it must not.
  UnixWait(Clock& clock, std::string path, std::function<void()> on_open,
           std::function<void(const std::string&)> on_note);

  void Start();
  void LookNow();

 private:
  Clock& clock_;
  std::string path_;
  std::function<void()> on_open_;
  std::function<void(const std::string&)> on_note_;
  Clock::TimePoint started_{};
  std::string note_;
  std::unique_ptr<Timer> timer_;
};

}  // namespace modal::health

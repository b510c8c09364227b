// One GET to a server, for its status: the HTTP part of a health check.
//
// `on_done` runs once, from the loop, never from inside the constructor; it may destroy the Probe.
// Destroying the Probe earlier cancels it. The body of the answer is not read, and nothing the
// server sends makes the Probe hold more than a few hundred bytes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "agent/base/clock.h"
#include "agent/event/listener.h"
#include "agent/event/loop.h"
#include "agent/event/stream.h"

namespace modal::http {

struct ProbeResult {
  int status = 0;     // 200 to 599, or 101; 0: there was no answer, see `error`
  std::string error;  // "connect: Connection refused", "no answer within 2000 ms"

  bool healthy() const { return status >= 200 && status < 400; }
};

class Probe {
 public:
  // `path` starts with '/' and is sent as it is; one with a space or a control character in it is
  // reported as an error. `loop` and `clock` outlive the Probe.
  Probe(event::Loop& loop, Clock& clock, const SocketAddress& address, std::string_view path,
        Milliseconds timeout, std::function<void(const ProbeResult&)> on_done);
  // Over this stream, connected or connecting; an Error is what the probe then finds.
  Probe(Clock& clock, Result<std::unique_ptr<event::Stream>> stream, uint16_t port,
        std::string_view path, Milliseconds timeout,
        std::function<void(const ProbeResult&)> on_done);
  // `address` numeric: "127.0.0.1" or "::1".
  Probe(event::Loop& loop, Clock& clock, std::string_view address, uint16_t port,
        std::string_view path, Milliseconds timeout,
        std::function<void(const ProbeResult&)> on_done);
  ~Probe();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace modal::http

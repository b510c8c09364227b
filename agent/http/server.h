// An HTTP/1.1 server on the loop: listeners, connections, limits, counters.
//
// Give it a WholeHandler to be called once for each whole request (bodies up to `max_body`), or an
// ExchangeHandler (exchange.h) to stream. Handlers run on the loop and must not block. What clients
// do wrong is answered here and never reaches a handler.
//
//   http::ServerOptions options;
//   options.max_body = 0;
//   http::Server server(loop, clock, options, [](const http::Request& request, http::Responder
//   responder) {
//     if (request.path == "/livez") return responder.Send({200, "text/plain", "ok\n"});
//     responder.Send(http::ErrorResponse(404, "not_found", "..."));
//   });
//   server.Serve(std::move(listening_socket));
//
// With no connection open it sets no timer. At `max_connections`, or out of descriptors, the
// connection that has been waiting longest without a request gives way to a new one; only if all
// are busy is the new one answered 503.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "agent/base/clock.h"
#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/event/loop.h"
#include "agent/http/message.h"

namespace modal::http {

class Exchange;
class ExchangeHandler;

struct ServerOptions {
  size_t max_head = size_t{64} * 1024;  // request line and headers: 431, or 414 if it is the target
  size_t max_headers = 256;             // number of headers: 431
  uint64_t max_body = uint64_t{64} * 1024;  // 413
  size_t max_connections = 1024;            // open at the same time
  Milliseconds header_timeout{10'000};      // from the first byte of a head to its last: 408
  Milliseconds body_timeout{10'000};        // without a byte of the body: 408
  Milliseconds idle_timeout{75'000};        // without a request: closed
  Milliseconds write_timeout{30'000};       // the client takes nothing of the answer: closed
};

struct ServerStats {
  uint64_t connections_accepted = 0;
  uint64_t connections_refused = 0;    // shed at a limit, new ones and those that gave way to them
  uint64_t connections_timed_out = 0;  // header, body or write timeout; not idle ones
  uint32_t connections_open = 0;
  uint32_t connections_busy = 0;  // of these: with a request that is not answered, or an answer
                                  // that is not out
  uint64_t bytes_received = 0;
  uint64_t bytes_sent = 0;
  uint64_t requests = 0;      // heads that were well-formed
  uint64_t bad_requests = 0;  // refused here: 400, 408, 413, 414, 431, 505 ...
};

// The right to answer one request, once; may be kept and used later. Destroyed unused, it answers
// 500. If the client has gone by then, nothing happens. The Request it came with is good until
// then.
class Responder {
 public:
  explicit Responder(Exchange& exchange);
  Responder(Responder&& other) noexcept;
  Responder& operator=(Responder&&) = delete;
  ~Responder();

  void Send(const Response& response);
  // False once it was used, and once the client has gone.
  bool is_open() const { return exchange_ != nullptr; }

 private:
  friend class Exchange;
  Exchange* exchange_;
};

using WholeHandler = std::function<void(const Request&, Responder)>;

class Server {
 public:
  // `loop` and `clock` outlive the Server; so does `handler` in the second form.
  Server(event::Loop& loop, Clock& clock, const ServerOptions& options, WholeHandler handler);
  Server(event::Loop& loop, Clock& clock, const ServerOptions& options, ExchangeHandler& handler);
  // Closes everything at once.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Takes connections from a listening socket from now on. May be called for several.
  Result<void> Serve(UniqueFd listener);
  // Closes the listening sockets. Connections stay.
  void StopListening();
  // From now on every answer says "Connection: close". A connection that waits for a request gets
  // that answer to one more, since it may be on its way already; one that begins to wait only now,
  // because the head of its last answer was out before, is closed if none comes soon.
  void CloseGently();

  // Other limits and times from now on; `max_connections` stays, and requests that have begun keep
  // their limits.
  void Configure(const ServerOptions& options);

  const ServerStats& stats() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace modal::http

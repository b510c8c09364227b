// One request and its answer as they pass: the streaming interface of the server.
//
// An ExchangeHandler serves all requests of a server. For each one OnHead() is called first, then
// OnBody() for each piece as it comes, then OnRequestEnd(). The answer may begin at any moment,
// also before the body is whole. Pieces are good only during the call.
//
// Back-pressure: Write() returns false when what is queued has reached the high-water mark;
// OnDrained() follows once it has gone out. PauseBody() stops reading from the client.
//
// An Exchange ends when both the request has been read and the answer finished, or with OnGone()
// when the client has vanished or was cut off (by a timeout, by Abort()). After either it must not
// be touched. `context` belongs to the handler.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "agent/http/message.h"

namespace modal::http {

class Responder;
class ServerConnection;

// The head of an answer that is streamed.
struct ResponseHead {
  int status = 200;
  std::span<const Header> headers =
      {};  // neither Content-Length nor Transfer-Encoding nor Connection
  std::optional<uint64_t> content_length =
      {};  // unknown: chunked, or until the end of the connection
};

class Exchange {
 public:
  explicit Exchange(ServerConnection& connection) : connection_(connection) {}
  ~Exchange();
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  const Request& request() const { return request_; }

  // The whole answer at once.
  void Send(const Response& response);

  // The answer piece by piece: Begin, any number of Write, End. Where the answer to this request
  // has no body (HEAD, 204, 304) what is written is dropped. Writing less than was announced cuts
  // the connection, so that it never looks like a whole answer; more than was announced is a bug.
  void Begin(const ResponseHead& head);
  bool Write(std::string_view data);
  void End(std::span<const Header> trailers = {});
  // An interim answer (103) before Begin.
  void Inform(int status, std::span<const Header> headers);
  // Cuts the connection. OnGone() is not called.
  void Abort();

  void PauseBody();
  void ResumeBody();

  void* context = nullptr;

 private:
  friend class Responder;
  friend class ServerConnection;

  ServerConnection& connection_;
  Request request_;
  Responder* responder_ = nullptr;
};

class ExchangeHandler {
 public:
  virtual ~ExchangeHandler() = default;
  // A client that expects it is sent "100 Continue" after this, unless the answer was begun or the
  // body paused.
  virtual void OnHead(Exchange& exchange) = 0;
  virtual void OnBody(Exchange& exchange, std::string_view data) = 0;
  virtual void OnRequestEnd(Exchange& exchange) = 0;
  virtual void OnDrained(Exchange& exchange) = 0;
  virtual void OnGone(Exchange& exchange) = 0;
};

}  // namespace modal::http

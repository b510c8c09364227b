// One request and its answer as they pass: the streaming interface of the server.
//
// An ExchangeHandler serves all requests of a server. For each one OnHead() is called first, then
// OnBody() for each piece as it comes, then OnRequestEnd(). The answer may begin at any moment,
// also before the body is whole. Pieces are good only during the call.
//
// Back-pressure: Write() returns false when what is queued has reached the high-water mark;
// OnDrained() follows once it has gone out. PauseBody() stops reading from the client.
//
// An Exchange ends with Send(), End() or Abort(), or with OnGone(): the client has vanished or was
// cut off (by a timeout, a limit, bytes that are no HTTP). After that it must not be touched, and
// its handler hears no more of it; what is left of the body is the connection's affair. No callback
// runs inside a call to the Exchange. `context` belongs to the handler.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "agent/event/listener.h"
#include "agent/event/pipe.h"
#include "agent/event/stream.h"
#include "agent/http/message.h"

namespace modal::http {

class Responder;
class ServerConnection;
struct ParseError;

// The head of an answer that is streamed.
struct ResponseHead {
  int status = 200;
  std::string_view reason = {};  // empty: the usual one
  // Neither Content-Length nor Transfer-Encoding nor Connection.
  std::span<const Header> headers = {};
  // More of them as they go on the wire, "Name: value\r\n" each: known to be well-formed.
  std::string_view lines = {};
  bool has_date = false;  // there is a Date among them
  // Unknown: chunked, or until the end of the connection.
  std::optional<uint64_t> content_length = {};
};

// A connection that has been taken from the server, which knows nothing of it any more.
struct DetachedConnection {
  std::unique_ptr<event::Stream> stream;
  std::string unread;  // came after the request
  std::string unsent;  // the client has not taken it yet; goes before anything else
};

class Exchange {
 public:
  Exchange() = default;
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  const Request& request() const { return request_; }
  // Where the client is.
  const SocketAddress& peer() const;

  // The whole answer at once.
  void Send(const Response& response);

  // The answer piece by piece: Begin, any number of Write, End. The head waits for the first piece,
  // so that they go out together; an empty piece sends it alone. Where the answer to this request
  // has no body (HEAD, 204, 304) what is written is dropped. An answer that gets longer or ends
  // shorter than was announced cuts the connection, so that it never looks like a whole one.
  void Begin(const ResponseHead& head);
  bool Write(std::string_view data);
  void End(std::span<const Header> trailers = {});
  // From now on what is written waits for Uncork() or the end of the answer, so that small pieces
  // go out together; more than the high-water mark is not kept waiting.
  void Cork();
  void Uncork();
  // An interim answer (103) before Begin(). Not sent to HTTP/1.0.
  void Inform(int status, std::span<const Header> headers);
  // Cuts the connection.
  void Abort();
  // "101 Switching Protocols" with these header lines has been answered: the connection is the
  // caller's, with the answer in front of what is unsent. Only for a request without a body, after
  // OnHead(). Like the others this ends the Exchange.
  DetachedConnection SwitchProtocols(std::string_view lines);

  void PauseBody();
  void ResumeBody();

  // Large bodies can pass without being copied, if their length is known. From SpliceBody() on the
  // handler hears OnBodyReadable() instead of OnBody() and takes the body from the connection
  // itself, with ReadBodyInto(), as far as it is there. False: not this body, or not from here on.
  bool SpliceBody();
  event::IoResult ReadBodyInto(event::Pipe& pipe);
  // The answer, between Begin() and End(): so many bytes could still be written from a pipe; 0: not
  // this answer, or not now, since what was written before has not gone out.
  uint64_t room_to_splice() const;
  // Writes what is in the pipe, as far as the client takes it. If something is left, OnDrained()
  // follows as after Write().
  void WriteFrom(event::Pipe& pipe);

  void* context = nullptr;

 private:
  friend class Responder;
  friend class ServerConnection;
  friend class WholeExchanges;

  void DetachResponder();
  void Clear();

  ServerConnection* connection_ = nullptr;
  Request request_;
  Responder* responder_ = nullptr;
  std::string collected_;  // the body, where it is handed over whole
};

// A request that does not reach the handler, for what its client did wrong.
struct RefusedRequest {
  const ParseError& error;
  const Request& request;    // as far as it came: parts of it, or nothing, may be missing
  std::string_view version;  // "1.1"; empty if it did not come
  const SocketAddress& peer;
  bool to_head;  // its answer has no body
};

class ExchangeHandler {
 public:
  virtual ~ExchangeHandler() = default;
  // A client that expects it is sent "100 Continue" after this, unless the answer was begun; if the
  // body is paused, once it is resumed.
  virtual void OnHead(Exchange& exchange) = 0;
  virtual void OnBody(Exchange& exchange, std::string_view data) = 0;
  virtual void OnRequestEnd(Exchange& exchange) = 0;
  virtual void OnDrained(Exchange& exchange) = 0;
  virtual void OnGone(Exchange& exchange) = 0;
  virtual void OnBodyReadable(Exchange& /*exchange*/) {}
  // The rest of the body will not come, or is no HTTP. The handler may end the exchange here, with
  // Send() or Abort(); else that is done for it, with OnGone() and OnRefused().
  virtual void OnBadBody(Exchange& /*exchange*/, const ParseError& /*error*/) {}
  // The answer to it, after which the connection ends. Without a handler's word: an
  // ErrorResponse().
  virtual Response OnRefused(const RefusedRequest& refused);
};

}  // namespace modal::http

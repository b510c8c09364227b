// The client's side of one connection to a server: sends requests one after the other and reads
// their answers.
//
// A request is Begin(), any number of Write(), End(); its answer may come at any moment after
// Begin(). The user hears of it from the loop (never from inside a call that it makes):
// OnAnswerHead(), OnAnswerBody() for each piece, OnAnswerEnd(); or OnAnswerFailed(), after which
// nothing more comes. Before either of these two last calls the connection has gone back to its
// owner and must not be touched by the user again. Pieces and heads are good only during the call.
//
// Back-pressure: Write() returns false when what is queued has reached the high-water mark;
// OnRequestDrained() follows. PauseAnswer() stops reading from the server.
//
// An answer is never taken for whole when it is not: a body that is too short, a bad chunk, bytes
// that are no HTTP are failures.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/event/connect.h"
#include "agent/event/stream.h"
#include "agent/http/deadlines.h"
#include "agent/http/exchange.h"
#include "agent/http/outbox.h"
#include "agent/http/response_encoder.h"
#include "agent/http/response_parser.h"

namespace modal::http {

struct ClientOptions {
  Milliseconds connect_timeout{5'000};
  Milliseconds first_byte_timeout{0};  // from the last byte of the request; zero: never
  Milliseconds idle_timeout{75'000};   // no byte moves, in the middle of a request or an answer
  Milliseconds pool_timeout{1'500};    // an idle connection is closed, before the server does it
  size_t max_head = size_t{64} * 1024;
};

enum class ClientFailure {
  kConnect,           // no connection
  kConnectTimeout,    // none in time
  kFirstByteTimeout,  // no answer in time
  kIdleTimeout,       // request or answer stopped half-way
  kClosed,            // closed or broken before the answer was whole
  kBadAnswer,         // what came is no HTTP
};

struct ClientError {
  ClientFailure failure;
  std::string_view message;  // for people; good during the call
  bool answered;             // a byte of the answer has come
  bool was_used;             // the connection has carried another request before
  bool unsent;               // no byte of the request has left
};

class ClientUser {
 public:
  virtual ~ClientUser() = default;
  virtual void OnAnswerInterim(const ReceivedResponse& response) = 0;  // 1xx, but 101
  // With response.switches (101) the user calls TakeOver() or Abandon().
  virtual void OnAnswerHead(const ReceivedResponse& response) = 0;
  virtual void OnAnswerBody(std::string_view data) = 0;
  // All that could be read for now has been handed over.
  virtual void OnAnswerPause() = 0;
  virtual void OnAnswerEnd(std::span<const Header> trailers) = 0;
  virtual void OnAnswerFailed(const ClientError& error) = 0;
  virtual void OnRequestDrained() = 0;
  // After SpliceAnswer(): some of the body can be read.
  virtual void OnAnswerReadable() {}
};

// What the connections of one loop share. Outlives them.
class ClientContext {
 public:
  // What a connection waits for; each has its time.
  enum Wait : size_t { kForConnection, kForFirstByte, kForProgress, kInPool, kInPoolLonger };

  ClientContext(Clock& clock, const ClientOptions& options);
  // From now on; what has begun keeps its limits, but not its times.
  void Configure(const ClientOptions& fresh);

  ClientOptions options;
  Deadlines deadlines;
  BufferStock buffers;
  uint64_t bytes_sent = 0;
  std::vector<char> read_buffer;  // for the moment between a read and its processing
};

class ClientConnection final : private event::StreamListener, private Deadlines::Entry {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    // Call OnTurn() from the loop, before it waits.
    virtual void Schedule(ClientConnection& connection) = 0;
    // The answer is whole, and the connection can be used again.
    virtual void OnIdle(ClientConnection& connection) = 0;
    // Closed, or taken over; may be destroyed from the loop, but not during this call.
    virtual void OnClosed(ClientConnection& connection) = 0;
  };

  // `stream` is connected or connecting.
  ClientConnection(ClientContext& context, Owner& owner, std::unique_ptr<event::Stream> stream);
  ~ClientConnection() override;

  // The head of a request, ready-made up to the line before the empty one. `framing` is kNone,
  // kLength or kChunked; it is for the caller to write as much as the head says.
  void Begin(ClientUser& user, Method method, BodyFraming framing);
  // Where Begin()'s caller writes the head to, before it calls it.
  std::string& head() { return out_.text(); }
  bool Write(std::string_view data);
  void End(std::span<const Header> trailers = {});

  void PauseAnswer();
  void ResumeAnswer();
  // Large bodies can pass without being copied, if their length is known: as in Exchange.
  bool SpliceAnswer();
  // So much of the answer's body has not been read, if its length is known; else 0.
  uint64_t answer_left() const;
  event::IoResult ReadAnswerInto(event::Pipe& pipe);
  // What was written before has gone out, and the request's body is no chunked one.
  bool CanSpliceRequest() const;
  // If something is left in the pipe, OnRequestDrained() follows.
  void WriteFrom(event::Pipe& pipe);
  // The answer may be silent for as long as it likes (a stream of events).
  void AllowSilence() { silence_ = true; }
  // The user wants to hear no more; the connection is closed.
  void Abandon();
  // After 101, from OnAnswerHead(): the connection is the user's.
  DetachedConnection TakeOver();

  void OnTurn();
  bool idle() const { return state_ == State::kIdle; }
  bool closed() const { return state_ == State::kClosed; }
  // Looks whether the server has closed this idle connection, or sent what nobody asked for, since
  // the loop last looked. For requests that cannot be sent twice.
  bool LooksAlive();
  // Closes an idle connection.
  void CloseIdle();

  std::optional<event::Destination> server;  // the owner's, as are these
  size_t index = 0;
  bool scheduled = false;

 private:
  enum class State { kIdle, kBusy, kClosed };

  void OnReady(event::Poller::Ready ready) override;
  void OnDeadline(size_t wait) override;

  void Read();
  void Consume(std::string_view input);
  void EndIfWhole();
  void OnHead();
  void OnEnd();
  void OnEndOfInput();
  bool Flush();
  void FlushSoon();
  void OnBroken();
  void Fail(ClientFailure failure, std::string_view message);
  void Close();
  bool HasMore();
  void Release();
  void UpdateWaits();

  ClientContext& context_;
  Owner& owner_;
  std::unique_ptr<event::Stream> stream_;
  ClientUser* user_ = nullptr;

  State state_ = State::kIdle;
  BodyFraming framing_ = BodyFraming::kNone;
  bool connected_ : 1 = false;  // a byte has gone out, or come in
  bool used_ : 1 = false;       // an answer has been read
  bool ended_ : 1 = false;      // the request is whole
  bool broken_ : 1 = false;     // nothing can be written any more; an answer may be there
  bool answered_ : 1 = false;
  bool paused_ : 1 = false;
  bool blocked_ : 1 = false;
  bool silence_ : 1 = false;
  bool body_due_ : 1 = false;  // the head of the answer says that one follows, and none has come
  bool filled_ : 1 = false;    // the last read took as much as it could
  bool splices_ : 1 = false;   // the user takes the body from the stream itself
  bool restart_wait_ : 1 = false;
  bool longer_ : 1 = false;  // the server keeps idle connections for longer than most
  int interims_ = 0;
  uint64_t sent_before_ = 0;  // bytes of earlier requests
  uint64_t sent_ = 0;

  ResponseParser parser_;
  std::string_view input_;  // being consumed
  Outbox out_;
};

}  // namespace modal::http

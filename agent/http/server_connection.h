// The server's side of one connection: reads requests, hands them to the ExchangeHandler one after
// the other, and writes the answers.
//
// Two things go on at once, each with its own state: the request is being read, and the answer is
// being written. Requests that a client sends ahead wait until the answer before theirs is out. An
// idle connection holds no buffers: what it needs during a request comes from the ServerContext.
//
// The handler is called only from the loop (OnReady, OnDeadline, OnTurn), never from inside a call
// that it makes to an Exchange; whatever would lead there is put off with Owner::Schedule().
#pragma once

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/event/stream.h"
#include "agent/http/deadlines.h"
#include "agent/http/exchange.h"
#include "agent/http/outbox.h"
#include "agent/http/request_parser.h"
#include "agent/http/response_encoder.h"
#include "agent/http/server.h"

namespace modal::http {

// What the connections of one server share. Outlives them.
class ServerContext {
 public:
  // What a connection waits for; each has its time.
  enum Wait : size_t { kForRequest, kForHead, kForBody, kForWrite, kForEnd };

  // A request being served, with everything that it needs.
  struct Active {
    explicit Active(const ParserLimits& limits) : parser(limits) {}
    RequestParser parser;
    Exchange exchange;
  };

  ServerContext(Clock& clock, const ServerOptions& options, ExchangeHandler& handler,
                std::time_t (*wall_time)());

  // From, and back to, small stocks.
  std::unique_ptr<Active> TakeActive();
  void GiveBack(std::unique_ptr<Active> active);

  // For a Date header.
  std::string_view Date();

  void Configure(const ServerOptions& fresh);

  ServerOptions options;
  ExchangeHandler& handler;
  ServerStats stats;
  Deadlines deadlines;
  bool closing = false;  // every answer is the last of its connection
  BufferStock buffers;
  std::vector<char> read_buffer;  // for the moment between a read and its processing

 private:
  std::vector<std::unique_ptr<Active>> spare_actives_;
  std::time_t (*wall_time_)();
  std::time_t date_time_ = -1;
  std::string date_;
};

class ServerConnection final : private event::StreamListener, private Deadlines::Entry {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    // Call OnTurn() from the loop, soon; and if the connection is closed after that, destroy it.
    virtual void Schedule(ServerConnection& connection) = 0;
  };

  ServerConnection(ServerContext& context, Owner& owner, std::unique_ptr<event::Stream> stream,
                   const SocketAddress& peer = {});
  ~ServerConnection() override;

  void OnTurn();
  bool closed() const { return state_ == State::kClosed; }
  bool scheduled() const { return scheduled_; }

  // The connection that can best be spared, if any can: one that lingers, or has waited longest for
  // a request, a head, or (for more than a second) a body.
  static ServerConnection* Dispensable(ServerContext& context);
  // It waits for a request that may have come meanwhile: looks, and takes it in. False: none has.
  bool TakeWaitingRequest();
  // Closes at once.
  void GiveWay();

  const SocketAddress& peer() const { return peer_; }

  // Bytes of memory for what has been read and not consumed, or written and not sent.
  size_t held() const { return pending_.size() + out_.held(); }

  size_t index = 0;  // the owner's

 private:
  friend class Exchange;

  enum class State {
    kIdle,       // no byte of a request yet
    kHead,       // reading one
    kBody,       // the head is with the handler
    kRead,       // the request is whole; its answer is not
    kClosing,    // the last answer is going out
    kLingering,  // it is out and our side is shut; what still comes is thrown away, since closing
                 // on unread bytes would reset the connection, and the answer might be lost
    kClosed,
  };
  enum class Answer { kNone, kBegun, kFinished };

  void OnReady(event::Poller::Ready ready) override;
  void OnDeadline(size_t wait) override;

  // Reading.
  void Read();
  void Settle();
  bool CanConsume() const;
  void Consume();
  void OnHead();
  void OnBody(std::string_view data);
  void OnRequestEnd();
  void OnEndOfInput();
  std::string_view unread() const;
  void Advance(size_t size);
  void KeepUnread();

  // Answering, on behalf of the Exchange.
  void Send(const Response& response);
  void Begin(const ResponseHead& head);
  bool Write(std::string_view data);
  void End(std::span<const Header> trailers);
  void Cork() { corked_ = true; }
  void Uncork();
  void Inform(int status, std::span<const Header> headers);
  void Abort();
  DetachedConnection SwitchProtocols(std::string_view lines);
  bool IsTooLate() const;
  void PauseBody();
  void ResumeBody();
  bool SpliceBody();
  event::IoResult ReadBodyInto(event::Pipe& pipe);
  uint64_t room_to_splice() const;
  void WriteFrom(event::Pipe& pipe);

  std::string& out() { return out_.text(); }
  void AppendAnswerHead(const ResponseHead& head);
  void Put(std::string_view before, std::string_view data, std::string_view after);
  void AppendContinue();
  bool request_is_read() const;
  void AfterCall();
  void Flush();
  void CallOnDrained();
  void CompleteIfOver();

  // Ending.
  void Refuse(const ParseError& error);
  void TellGone();
  void LeaveExchange();
  void Cut();
  void BeginClosing(bool linger);
  void CloseIfFlushed();
  void CloseNow();
  void SetClosed();
  void Schedule();
  void UpdateWaits();
  void CountAsBusy(bool busy);

  ServerContext& context_;
  Owner& owner_;
  std::unique_ptr<event::Stream> stream_;
  SocketAddress peer_;

  State state_ = State::kIdle;
  Answer answer_ = Answer::kNone;
  BodyFraming framing_ = BodyFraming::kNone;

  bool handler_has_it_ : 1 = false;  // the handler knows of the exchange, which is not over
  bool keep_alive_ : 1 = true;       // after this request
  bool continue_due_ : 1 = false;    // the client waits for 100 Continue
  bool paused_ : 1 = false;          // by the handler
  bool blocked_ : 1 = false;         // Write() said to wait
  bool corked_ : 1 = false;          // by the handler, until the end of this answer at most
  bool splices_ : 1 = false;         // the handler takes the body from the stream itself
  bool busy_ : 1 = false;            // counted as such
  bool end_of_input_ : 1 = false;    // the client has shut its side
  bool linger_ : 1 = false;          // bytes may come that nobody reads
  bool settling_ : 1 = false;        // below us on the stack, which will see to the rest
  bool scheduled_ : 1 = false;
  bool restart_wait_ : 1 = true;  // the deadline runs from now

  std::unique_ptr<ServerContext::Active> active_;  // kHead, kBody, kRead
  uint64_t body_read_ = 0;
  uint64_t body_to_write_ = 0;  // kLength: what is still missing

  std::string_view fresh_;  // just read, in the context's buffer
  std::string pending_;     // or kept from before
  size_t pending_taken_ = 0;
  Outbox out_;
};

}  // namespace modal::http

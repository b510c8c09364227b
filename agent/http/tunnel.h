// Joins a client's connection and a server's after an Upgrade, and moves bytes both ways until both
// are over.
//
// What one side sends is written to the other at once; what that does not take is kept, at most
// Tunnel::kHighWater bytes each way, and until it is gone the sender is not read, so that nobody
// notices if it breaks meanwhile. A receiver that takes nothing for a whole `stall_time` is
// therefore taken for lost, and all is cut. A quiet tunnel holds no buffer and lives forever:
// noticing peers that vanished is for TCP keepalive.
//
// An end is passed on as it came, after everything before it: half-closed stays half-closed, and
// what was broken is reset, so that it never looks whole.
//
// A tunnel for WebSockets follows the frames (websocket.h). After a close frame, what its sender
// sends is thrown away; when both have closed, both connections are ended. At a message that is too
// large, or a frame against the rules, both sides get a close frame, each as soon as the frame that
// is being sent to it is whole, and then the end; `close_time` later at most all is cut. Once one
// side has ended, the other may go on as long as it sends something every `end_time`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "agent/base/clock.h"
#include "agent/event/stream.h"
#include "agent/http/websocket.h"

namespace modal::http {

// What the tunnels of one loop share. Outlives them.
struct TunnelContext {
  Clock& clock;
  std::span<char> scratch;  // for the moment between a read and a write; 64 KiB are good
  uint32_t (*random)();     // for masking; RFC 6455 wants it unpredictable
  uint64_t max_message = uint64_t{2} * 1024 * 1024;
  Milliseconds close_time{2'000};
  Milliseconds end_time{10'000};
  Milliseconds stall_time{75'000};  // zero: however long
};

enum class TunnelSide { kClient, kServer };

enum class TunnelEnd {
  kEnded,     // by the two sides
  kBroken,    // one connection broke, or stalled, or ended and the other did not follow
  kTooBig,    // closed with 1009
  kBadFrame,  // closed with 1002
  kClosed,    // by CloseGently()
};

class TunnelObserver {
 public:
  virtual ~TunnelObserver() = default;
  // `size` bytes were written that came from this side (or, in close frames, from the tunnel on its
  // behalf). Must not call the tunnel.
  virtual void OnMoved(TunnelSide from, size_t size) = 0;
  // Both connections are closed. Called once, from the loop and never from inside a call to the
  // tunnel, as the last thing that the tunnel does: it may be destroyed here.
  virtual void OnOver(TunnelEnd end) = 0;
};

class Tunnel {
 public:
  enum class Protocol {
    kWebSocket,
    kOpaque,  // any other: only bytes
  };
  // One of the two connections, with what was already read from it and is the tunnel's to move.
  struct Connection {
    std::unique_ptr<event::Stream> stream;
    std::string read;
  };

  static constexpr size_t kHighWater = size_t{64} * 1024;

  Tunnel(TunnelContext& context, TunnelObserver& observer, Protocol protocol, Connection client,
         Connection server);
  // If it is not over, both connections are reset.
  ~Tunnel();
  Tunnel(const Tunnel&) = delete;
  Tunnel& operator=(const Tunnel&) = delete;

  // Begins to move bytes, with those that were already read. First of all calls, once.
  void Start();

  // Ends it within `at_most` from now. A WebSocket's sides get a close frame with this code, each
  // as soon as the frame that is being sent to it is whole, and may answer and end; what else they
  // send is thrown away. Other protocols know no such word and go on. What is not over in time is
  // cut. May be called again to give more time or less.
  void CloseGently(uint16_t code, Milliseconds at_most);

  bool over() const { return over_; }
  // Bytes of memory for what has been read and not written.
  size_t held() const;

 private:
  // One direction.
  struct Flow {
    enum class State {
      kOpen,
      kFinishing,  // a close frame is to follow the frame that is being sent
      kClosed,     // a close frame has been sent; what comes is thrown away
      kShut,       // the end has been sent; what comes is thrown away
      kBroken,     // the receiver takes nothing more; what comes is thrown away
    };

    TunnelSide from;
    std::optional<WebSocketReader> reader;
    State state = State::kOpen;
    bool ended = false;  // the sender has sent all it will
    std::string out;     // to be written
    size_t out_sent = 0;
    bool moved = false;  // since the timer was set; or what waits has come only since then
    std::string head;    // of a frame, not whole yet: not to be written yet
  };

  // The ears of one connection.
  struct End : event::StreamListener {
    End(Tunnel& its_tunnel, TunnelSide its_side, std::unique_ptr<event::Stream> its_stream)
        : tunnel(its_tunnel), side(its_side), stream(std::move(its_stream)) {}
    void OnReady(event::Poller::Ready ready) override { tunnel.OnReady(side, ready); }

    Tunnel& tunnel;
    TunnelSide side;
    std::unique_ptr<event::Stream> stream;
  };

  // What limits the time that is left.
  enum class Limit {
    kNone,
    kStall,     // whatever waits to be written is to move, now and then
    kProgress,  // something is
    kTotal,
  };

  void OnReady(TunnelSide side, event::Poller::Ready ready);
  void OnTimer();
  void TellOver();

  void Read(Flow& flow);
  void OnEndOf(Flow& flow);
  void OnErrorOf(Flow& flow);
  void Break(Flow& flow);
  void Follow(Flow& flow, std::string_view data);
  void Pass(Flow& flow, std::string_view data);
  void Write(Flow& flow);
  size_t WriteNow(Flow& flow, std::string_view data);
  void PutClose(Flow& flow);

  void Fail(TunnelEnd end, uint16_t code);
  void BeginClosing(uint16_t code);
  void Settle();
  void ShutIfDone(Flow& flow);
  void UpdateWaits();
  void UpdateLimit();
  void SetTimer(Milliseconds delay);
  void Cut();
  void Finish();

  bool IsStalled(const Flow& flow) const { return !flow.out.empty() && !flow.moved; }
  bool Throws(const Flow& flow) const;
  bool Reads(const Flow& flow) const;
  bool HasClosed(const Flow& flow) const;

  Flow& FlowFrom(TunnelSide side) { return side == TunnelSide::kClient ? up_ : down_; }
  Flow& Opposite(const Flow& flow) { return &flow == &up_ ? down_ : up_; }
  End& SourceOf(const Flow& flow) { return &flow == &up_ ? client_ : server_; }
  End& TargetOf(const Flow& flow) { return &flow == &up_ ? server_ : client_; }

  TunnelContext& context_;
  TunnelObserver& observer_;
  const Protocol protocol_;
  End client_;
  End server_;
  Flow up_;    // from the client to the server
  Flow down_;  // and back
  TunnelEnd end_ = TunnelEnd::kEnded;
  uint16_t close_code_ = 0;  // of the close frames that are due
  bool over_ = false;
  Limit limit_ = Limit::kNone;
  std::unique_ptr<Timer> timer_;
};

}  // namespace modal::http

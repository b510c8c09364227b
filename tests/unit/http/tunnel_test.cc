#include "agent/http/tunnel.h"

#include <doctest/doctest.h>
#include <sys/socket.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "agent/event/uv_clock.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_stream.h"
#include "tests/support/tcp_client.h"

using namespace modal;
using namespace std::chrono_literals;
using http::Tunnel;
using http::TunnelEnd;
using http::TunnelSide;
using test::FakePeer;
using Protocol = Tunnel::Protocol;

namespace {

constexpr uint64_t kLimit = 1000;
constexpr uint8_t kContinuation = 0, kBinary = 2, kClose = 8, kPing = 9;

std::string Apply(std::string_view key, std::string_view payload) {
  std::string out(payload);
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<char>(out[i] ^ key[i % key.size()]);
  return out;
}

// A frame as a server sends it, or with a key as a client does (payloads below 64 KiB).
std::string Frame(uint8_t opcode, std::string_view payload, bool final, std::string_view key) {
  const uint8_t mask_bit = key.empty() ? 0 : 0x80;
  std::string out(1, static_cast<char>((final ? 0x80 : 0) | opcode));
  if (payload.size() < 126) {
    out += static_cast<char>(mask_bit | payload.size());
  } else {
    out += static_cast<char>(mask_bit | 126);
    out += static_cast<char>(payload.size() >> 8);
    out += static_cast<char>(payload.size());
  }
  out += key;
  return out += key.empty() ? std::string(payload) : Apply(key, payload);
}
std::string FromServer(uint8_t opcode, std::string_view payload, bool final = true) {
  return Frame(opcode, payload, final, "");
}
std::string FromClient(uint8_t opcode, std::string_view payload, bool final = true) {
  return Frame(opcode, payload, final, "kEy!");
}

std::string Code(uint16_t code, std::string_view reason = "") {
  std::string payload{static_cast<char>(code >> 8), static_cast<char>(code & 0xff)};
  return payload.append(reason);
}

// The close frames of the tunnel.
const std::string kTooBigToClient = FromServer(kClose, Code(1009, "message too big"));
const std::string kTooBigToServer = Frame(kClose, Code(1009, "message too big"), true, "rand");
const std::string kBadToClient = FromServer(kClose, Code(1002, "protocol error"));
const std::string kBadToServer = Frame(kClose, Code(1002, "protocol error"), true, "rand");
const std::string kAwayToClient = FromServer(kClose, Code(1001, "going away"));
const std::string kAwayToServer = Frame(kClose, Code(1001, "going away"), true, "rand");

uint32_t Random() { return 'r' | uint32_t{'a'} << 8 | uint32_t{'n'} << 16 | uint32_t{'d'} << 24; }

std::string Data(size_t size) {
  std::string data(size, '\0');
  for (size_t i = 0; i < size; ++i) data[i] = static_cast<char>(i * 7 + i / 251);
  return data;
}

struct Fixture : http::TunnelObserver {
  explicit Fixture(Protocol protocol, std::string from_client = "", std::string from_server = "") {
    tunnel = std::make_unique<Tunnel>(context, *this, protocol,
                                      Tunnel::Connection{client.Connect(), std::move(from_client)},
                                      Tunnel::Connection{server.Connect(), std::move(from_server)});
    tunnel->Start();
  }

  void OnMoved(TunnelSide from, size_t size) override {
    (from == TunnelSide::kClient ? up : down) += size;
  }
  void OnOver(TunnelEnd how) override {
    CHECK_FALSE(end);
    CHECK(tunnel->over());
    end = how;
    if (destroy_when_over) tunnel.reset();
  }

  // Until nothing moves any more.
  void Run() {
    for (int i = 0; i < 4; ++i) {
      client.Run();
      server.Run();
    }
    clock.Turn();
    CHECK_FALSE(client.spun());
    CHECK_FALSE(server.spun());
  }
  void BothEnd() {
    client.ShutdownWrite();
    server.ShutdownWrite();
    Run();
  }

  test::FakeClock clock;
  std::array<char, 100'000> scratch;
  http::TunnelContext context{clock, scratch, Random, kLimit, 2s, 10s, 60s};
  FakePeer client;
  FakePeer server;
  std::unique_ptr<Tunnel> tunnel;
  std::optional<TunnelEnd> end;
  bool destroy_when_over = false;
  size_t up = 0;
  size_t down = 0;
};

}  // namespace

// ---- Any protocol ----

TEST_CASE("bytes go both ways, those first that were already read") {
  Fixture f(Protocol::kOpaque, "from client, ", "from server, ");
  f.client.Send("more up");
  f.server.Send("more down");
  f.Run();
  CHECK(f.server.received() == "from client, more up");
  CHECK(f.client.received() == "from server, more down");
  CHECK(f.up == 20);
  CHECK(f.down == 22);
  CHECK_FALSE(f.end);
  CHECK(f.tunnel->held() == 0);
  CHECK(f.clock.pending() == 0);
}

TEST_CASE("an end is passed on after everything before it, and the other direction goes on") {
  Fixture f(Protocol::kOpaque);
  f.server.TakeOnly(3);
  f.client.Send("hello");
  f.client.ShutdownWrite();
  f.Run();
  CHECK(f.server.received() == "hel");
  CHECK_FALSE(f.server.at_end());
  f.server.TakeOnly(100);
  f.Run();
  CHECK(f.server.received() == "hello");
  CHECK(f.server.at_end());
  CHECK_FALSE(f.server.closed());
  f.clock.Advance(24h);

  f.server.Send("answer");
  f.server.ShutdownWrite();
  f.Run();
  CHECK(f.client.received() == "answer");
  CHECK(f.client.closed());
  CHECK_FALSE(f.client.reset());
  CHECK(f.server.closed());
  CHECK(f.end == TunnelEnd::kEnded);
}

TEST_CASE("a slow receiver stops the sender; what is kept stays bounded; nothing is lost") {
  for (const Protocol protocol : {Protocol::kOpaque, Protocol::kWebSocket}) {
    Fixture f(protocol);
    f.context.max_message = kLimit;
    std::string data;
    while (data.size() < 1'000'000) data += FromServer(kBinary, Data(kLimit));
    f.client.TakeOnly(10);
    f.server.Send(data);
    f.Run();
    CHECK(f.client.received().size() == 10);
    CHECK_FALSE(f.server.waits_to_read());
    CHECK(f.server.unread() >= data.size() - Tunnel::kHighWater);
    // The other direction is not held up.
    f.client.Send(FromClient(kPing, "x"));
    f.Run();
    CHECK(f.server.received() == FromClient(kPing, "x"));
    size_t rounds = 0;
    while (f.client.received().size() < data.size() && ++rounds < 10'000) {
      f.client.TakeOnly(1009);
      f.Run();
      CHECK(f.tunnel->held() <= Tunnel::kHighWater);
    }
    CHECK(f.client.received() == data);
    f.client.TakeOnly(1);
    f.Run();
    CHECK(f.tunnel->held() == 0);
    CHECK(f.server.waits_to_read());
    CHECK(f.down == data.size());
  }
}

TEST_CASE("a receiver that takes nothing is given up in the end, one that takes little is not") {
  for (const Protocol protocol : {Protocol::kOpaque, Protocol::kWebSocket}) {
    for (const bool takes_little : {false, true}) {
      CAPTURE(takes_little);
      Fixture f(protocol);
      f.client.TakeOnly(10);
      f.server.Send(FromServer(kBinary, Data(kLimit)));
      f.Run();
      // Nobody listens to it now, and so nobody sees this.
      f.server.Break();
      f.Run();
      for (int i = 0; takes_little && i < 10; ++i) {
        f.clock.Advance(59s);
        CHECK_FALSE(f.end);
        f.client.TakeOnly(1);
        f.client.Run();
      }
      f.clock.Advance(59s);
      CHECK_FALSE(f.end);
      f.clock.Advance(61s);
      CHECK(f.end == TunnelEnd::kBroken);
      CHECK(f.client.reset());
      CHECK(f.server.closed());
      CHECK(f.clock.pending() == 0);
    }
  }
}

TEST_CASE("that other bytes go the other way does not help a receiver that takes nothing") {
  Fixture f(Protocol::kOpaque);
  f.client.TakeOnly(10);
  f.server.Send(Data(100));
  for (int i = 0; i < 12 && !f.end; ++i) {
    f.client.Send("x");
    f.Run();
    f.clock.Advance(10s);
  }
  CHECK(f.end == TunnelEnd::kBroken);
}

TEST_CASE("a receiver that was full for a moment only is not given up, nor one without a limit") {
  Fixture f(Protocol::kOpaque);
  const auto fill = [&] {
    f.client.TakeOnly(10);
    f.server.Send(Data(100));
    f.Run();
    CHECK(f.tunnel->held() == 90);
  };
  const auto empty = [&] {
    f.client.TakeOnly(1000);
    f.Run();
    CHECK(f.tunnel->held() == 0);
  };
  SUBCASE("a moment") {
    fill();
    empty();
    f.clock.Advance(60s);
    CHECK(f.clock.pending() == 0);
  }
  SUBCASE("again, just before the time is up") {
    fill();
    empty();
    f.clock.Advance(59s);
    fill();
    f.clock.Advance(2s);
  }
  SUBCASE("no limit") {
    f.context.stall_time = 0s;
    fill();
    f.clock.Advance(24h);
  }
  CHECK_FALSE(f.end);
}

TEST_CASE("when one side breaks, the other is reset") {
  for (const Protocol protocol : {Protocol::kOpaque, Protocol::kWebSocket}) {
    for (const bool client_breaks : {true, false}) {
      Fixture f(protocol);
      FakePeer& broken = client_breaks ? f.client : f.server;
      FakePeer& other = client_breaks ? f.server : f.client;
      broken.Break();
      f.Run();
      CHECK(other.reset());
      CHECK(broken.closed());
      CHECK(f.end == TunnelEnd::kBroken);
      CHECK(f.clock.pending() == 0);
    }
  }
}

TEST_CASE("what a side sent before it was gone still goes out, but does not look whole") {
  // A write to it fails, and only then its last bytes are read. The end that the system reports
  // after them may have been a reset, of which the write has had the error.
  Fixture f(Protocol::kOpaque);
  f.server.Break(EPIPE);
  f.client.Send("too late");
  f.client.Run();
  f.server.Break(0);
  f.server.Send("answer");
  f.server.ShutdownWrite();
  f.Run();
  CHECK(f.client.received() == "answer");
  CHECK(f.client.reset());
  CHECK(f.end == TunnelEnd::kBroken);
}

TEST_CASE("after a close frame, an end is an end even if a write failed") {
  Fixture f(Protocol::kWebSocket);
  f.server.Break(EPIPE);
  f.client.Send(FromClient(kBinary, "too late"));
  f.client.Run();
  f.server.Break(0);
  f.server.Send(FromServer(kClose, Code(1000)));
  f.server.ShutdownWrite();
  f.Run();
  CHECK(f.client.received() == FromServer(kClose, Code(1000)));
  CHECK(f.client.at_end());
  CHECK_FALSE(f.client.reset());
  f.client.ShutdownWrite();
  f.Run();
  CHECK(f.end == TunnelEnd::kBroken);
}

TEST_CASE("who sends to a side that is gone is not listened to forever") {
  Fixture f(Protocol::kOpaque);
  f.server.Send("answer");
  f.server.ShutdownWrite();
  f.Run();
  f.server.Break(EPIPE);
  f.client.Send("too late");
  f.Run();
  f.client.Send("and more");
  f.Run();
  CHECK(f.client.unread() == 0);
  CHECK_FALSE(f.end);
  SUBCASE("it ends") {
    f.client.ShutdownWrite();
    f.Run();
  }
  SUBCASE("it does not end") {
    f.clock.Advance(9999ms);
    CHECK_FALSE(f.end);
    f.clock.Advance(1ms);
  }
  CHECK(f.end == TunnelEnd::kBroken);
  CHECK(f.client.received() == "answer");
  CHECK(f.client.closed());
  CHECK_FALSE(f.client.reset());
  CHECK(f.clock.pending() == 0);
}

TEST_CASE("an opaque tunnel that is closed gently goes on, and is cut in the end") {
  Fixture f(Protocol::kOpaque);
  f.tunnel->CloseGently(1001, 5s);
  f.client.Send("x");
  f.Run();
  CHECK(f.server.received() == "x");
  CHECK(f.client.received().empty());
  SUBCASE("it ends before") {
    f.BothEnd();
    CHECK_FALSE(f.client.reset());
  }
  SUBCASE("it does not") {
    f.clock.Advance(4999ms);
    CHECK_FALSE(f.end);
    f.clock.Advance(1ms);
    CHECK(f.client.reset());
    CHECK(f.server.reset());
  }
  CHECK(f.end == TunnelEnd::kClosed);
  CHECK(f.clock.pending() == 0);
}

TEST_CASE("a destroyed tunnel resets both sides") {
  Fixture f(Protocol::kWebSocket);
  f.tunnel.reset();
  CHECK(f.client.reset());
  CHECK(f.server.reset());
  CHECK_FALSE(f.end);
}

TEST_CASE("the observer may destroy the tunnel when it is over") {
  Fixture f(Protocol::kWebSocket);
  f.destroy_when_over = true;
  SUBCASE("from a connection") { f.BothEnd(); }
  SUBCASE("from an error") {
    f.client.Break();
    f.Run();
  }
  SUBCASE("from a timer") {
    f.tunnel->CloseGently(1001, 1s);
    f.clock.Advance(1s);
  }
  CHECK(f.end);
  CHECK_FALSE(f.tunnel);
}

TEST_CASE("the end is never told from inside a call") {
  Fixture f(Protocol::kOpaque);
  f.tunnel->CloseGently(1001, 0ms);
  CHECK_FALSE(f.end);
  f.clock.Turn();
  CHECK(f.end == TunnelEnd::kClosed);
}

// ---- WebSocket ----

TEST_CASE("frames pass as they are, and a quiet WebSocket needs no timer and no memory") {
  const std::string up = FromClient(kBinary, "question") + FromClient(kPing, "are you there?");
  const std::string down = FromServer(kBinary, Data(kLimit), false) +
                           FromServer(kPing, "and you?") + FromServer(kContinuation, "");
  for (size_t piece = 1; piece < 40; ++piece) {
    Fixture f(Protocol::kWebSocket);
    f.client.ReadInPiecesOf(piece);
    f.server.ReadInPiecesOf(piece);
    f.client.Send(up);
    f.server.Send(down);
    f.Run();
    CHECK(f.server.received() == up);
    CHECK(f.client.received() == down);
    CHECK(f.tunnel->held() == 0);
    CHECK(f.clock.pending() == 0);
    f.clock.Advance(24h);
    CHECK_FALSE(f.end);
  }
}

TEST_CASE("frames that were already read pass, wherever they were cut") {
  const std::string up = FromClient(kBinary, Data(300)) + FromClient(kPing, "x");
  for (size_t cut = 0; cut <= up.size(); ++cut) {
    Fixture f(Protocol::kWebSocket, up.substr(0, cut));
    f.client.Send(up.substr(cut));
    f.Run();
    CHECK(f.server.received() == up);
  }
}

TEST_CASE("closing handshake: both close frames pass, then both connections end") {
  Fixture f(Protocol::kWebSocket);
  const std::string bye = FromClient(kClose, Code(1000, "bye"));
  const std::string answer = FromServer(kClose, Code(1000, "bye"));
  f.client.Send(bye + "what comes after it");
  f.Run();
  CHECK(f.server.received() == bye);
  CHECK_FALSE(f.server.at_end());
  CHECK(f.clock.pending() == 0);
  f.server.Send(answer);
  f.Run();
  CHECK(f.client.received() == answer);
  CHECK(f.client.at_end());
  CHECK(f.server.at_end());
  SUBCASE("and both sides end") { f.BothEnd(); }
  SUBCASE("and both sides just go away") {
    f.client.Break();
    f.server.Break();
    f.Run();
  }
  CHECK(f.end == TunnelEnd::kEnded);
  CHECK_FALSE(f.client.reset());
  CHECK_FALSE(f.server.reset());
  CHECK(f.clock.pending() == 0);
}

TEST_CASE("both sides close at once: each gets the other's close frame") {
  Fixture f(Protocol::kWebSocket);
  f.client.Send(FromClient(kClose, Code(1000)));
  f.server.Send(FromServer(kClose, Code(1001)));
  f.Run();
  CHECK(f.client.received() == FromServer(kClose, Code(1001)));
  CHECK(f.server.received() == FromClient(kClose, Code(1000)));
  f.BothEnd();
  CHECK(f.end == TunnelEnd::kEnded);
}

TEST_CASE("who does not end after the closing handshake is cut, and has had all") {
  Fixture f(Protocol::kWebSocket);
  f.client.Send(FromClient(kClose, ""));
  f.server.Send(FromServer(kClose, ""));
  f.Run();
  f.clock.Advance(9999ms);
  CHECK_FALSE(f.end);
  f.clock.Advance(1ms);
  CHECK(f.end == TunnelEnd::kBroken);
  CHECK_FALSE(f.client.reset());
}

TEST_CASE("an end without a close frame is passed on as it is") {
  std::string begun;
  SUBCASE("between frames") {}
  SUBCASE("in a frame") { begun = FromServer(kBinary, "some data").substr(0, 5); }
  SUBCASE("in a frame's head") { begun = FromServer(kBinary, Data(300)).substr(0, 3); }
  Fixture f(Protocol::kWebSocket);
  f.server.Send(begun);
  f.server.ShutdownWrite();
  f.Run();
  CHECK(f.client.received() == begun);
  CHECK(f.client.at_end());
  CHECK_FALSE(f.client.closed());
  f.client.ShutdownWrite();
  f.Run();
  CHECK(f.end == TunnelEnd::kEnded);
}

TEST_CASE("when one side has ended, the other may go on as long as it sends something") {
  Fixture f(Protocol::kWebSocket);
  f.server.ShutdownWrite();
  f.Run();
  f.clock.Advance(9s);
  f.client.Send(FromClient(kPing, ""));
  f.Run();
  f.clock.Advance(10s);
  CHECK_FALSE(f.end);
  f.clock.Advance(10s);
  CHECK(f.end == TunnelEnd::kBroken);
  CHECK(f.server.reset());
}

TEST_CASE("a message that is too large is closed with 1009 to both sides, whoever sends it") {
  std::string up, down;  // what passes
  std::string up_rest, down_rest;
  SUBCASE("the client, in one frame") {
    up = FromClient(kBinary, Data(kLimit));
    up_rest = FromClient(kBinary, Data(kLimit + 1));
  }
  SUBCASE("the client, in fragments with pings between them") {
    up = FromClient(kBinary, Data(kLimit), false) + FromClient(kPing, Data(125));
    up_rest = FromClient(kContinuation, "x");
  }
  SUBCASE("the server") {
    down = FromServer(kBinary, Data(kLimit - 1), false) + FromServer(kContinuation, "x", false);
    down_rest = FromServer(kContinuation, "x");
  }
  for (const bool they_end : {true, false}) {
    Fixture f(Protocol::kWebSocket);
    f.client.Send(up + up_rest);
    f.server.Send(down + down_rest);
    f.Run();
    CHECK(f.client.received() == down + kTooBigToClient);
    CHECK(f.server.received() == up + kTooBigToServer);
    CHECK(f.client.at_end());
    CHECK(f.server.at_end());
    CHECK_FALSE(f.client.closed());
    CHECK_FALSE(f.end);
    if (they_end) {
      f.client.Send(FromClient(kClose, Code(1009)));
      f.server.Send(FromServer(kClose, Code(1009)));
      f.BothEnd();
    } else {
      for (int i = 0; i < 10; ++i) {
        f.clock.Advance(199ms);
        f.client.Send(Data(100'000));
        f.server.Send(Data(100'000));
        f.Run();
        CHECK(f.client.unread() + f.server.unread() == 0);
      }
      CHECK_FALSE(f.end);
      f.clock.Advance(10ms);
    }
    CHECK(f.client.received() == down + kTooBigToClient);
    CHECK(f.server.received() == up + kTooBigToServer);
    CHECK_FALSE(f.client.reset());
    CHECK_FALSE(f.server.reset());
    CHECK(f.end == TunnelEnd::kTooBig);
    CHECK(f.clock.pending() == 0);
  }
}

TEST_CASE("a frame against the rules is closed with 1002 to both sides") {
  Fixture f(Protocol::kWebSocket);
  SUBCASE("from the client") { f.client.Send(FromServer(kBinary, "not masked")); }
  SUBCASE("from the server") { f.server.Send(FromClient(kBinary, "masked")); }
  f.Run();
  CHECK(f.client.received() == kBadToClient);
  CHECK(f.server.received() == kBadToServer);
  f.BothEnd();
  CHECK(f.end == TunnelEnd::kBadFrame);
}

TEST_CASE("a close frame waits for the end of the frame that is being sent") {
  const std::string frame = FromServer(kBinary, Data(500), false);
  for (size_t cut = 4; cut + 5 < frame.size(); cut += 31) {
    for (const std::string_view then : {"the rest", "an end", "nothing"}) {
      Fixture f(Protocol::kWebSocket);
      f.server.Send(frame.substr(0, cut));
      f.Run();
      f.client.Send(FromClient(kBinary, Data(kLimit + 1)));
      f.Run();
      CHECK(f.client.received() == frame.substr(0, cut));
      CHECK(f.server.received() == kTooBigToServer);
      CHECK(f.server.at_end());
      if (then == "the rest") {
        f.server.Send(frame.substr(cut, 5));
        f.Run();
        CHECK(f.client.received() == frame.substr(0, cut + 5));
        f.server.Send(frame.substr(cut + 5) + FromServer(kContinuation, "never seen"));
        f.Run();
        CHECK(f.client.received() == frame + kTooBigToClient);
        CHECK(f.client.at_end());
      } else if (then == "an end") {
        f.server.ShutdownWrite();
        f.Run();
        CHECK(f.client.received() == frame.substr(0, cut));
        CHECK(f.client.at_end());
      } else {
        f.clock.Advance(2s);
        CHECK(f.client.received() == frame.substr(0, cut));
        CHECK(f.client.reset());
        CHECK_FALSE(f.server.reset());
        CHECK(f.end == TunnelEnd::kTooBig);
      }
    }
  }
}

TEST_CASE("a close frame that does not go out in time ends in a reset") {
  Fixture f(Protocol::kWebSocket);
  f.client.TakeOnly(5);
  f.client.Send(FromServer(kBinary, "not masked"));
  f.Run();
  CHECK(f.client.received() == kBadToClient.substr(0, 5));
  // What comes is thrown away in the meantime.
  f.server.Send(Data(100'000));
  f.Run();
  CHECK(f.server.unread() == 0);
  f.clock.Advance(1999ms);
  CHECK_FALSE(f.end);
  f.clock.Advance(1ms);
  CHECK(f.client.reset());
  CHECK(f.end == TunnelEnd::kBadFrame);
}

TEST_CASE("an end in a frame's head that has not gone out yet gets no close frame behind it") {
  const std::string begun = FromServer(kBinary, Data(300)).substr(0, 3);
  Fixture f(Protocol::kWebSocket);
  f.client.TakeOnly(0);
  f.server.Send(begun);
  f.server.ShutdownWrite();
  f.Run();
  f.client.Send(FromServer(kBinary, "not masked"));
  f.Run();
  CHECK(f.server.received() == kBadToServer);
  f.client.TakeOnly(100);
  f.Run();
  CHECK(f.client.received() == begun);
  CHECK(f.client.at_end());
}

TEST_CASE("closing gently does not give more time to what is being closed for a reason") {
  Fixture f(Protocol::kWebSocket);
  f.client.Send(FromClient(kBinary, Data(kLimit + 1)));
  f.Run();
  f.tunnel->CloseGently(http::kCloseGoingAway, 1h);
  f.clock.Advance(2s);
  CHECK(f.client.received() == kTooBigToClient);
  CHECK(f.end == TunnelEnd::kTooBig);
}

TEST_CASE("closed gently: both sides get 1001, may answer, and end") {
  Fixture f(Protocol::kWebSocket);
  const std::string message = FromServer(kBinary, "a message");
  f.server.Send(message.substr(0, 6));
  f.Run();
  f.tunnel->CloseGently(http::kCloseGoingAway, 5s);
  f.Run();
  CHECK(f.server.received() == kAwayToServer);
  CHECK_FALSE(f.server.at_end());
  CHECK(f.client.received() == message.substr(0, 6));
  f.server.Send(message.substr(6) + message);
  f.Run();
  CHECK(f.client.received() == message + kAwayToClient);
  CHECK_FALSE(f.client.at_end());

  // What they were sending is thrown away; their answers end their connections.
  for (const size_t piece : {1, 1000}) {
    f.client.ReadInPiecesOf(piece);
    f.server.ReadInPiecesOf(piece);
    f.client.Send(FromClient(kBinary, Data(300)));
    f.server.Send(FromServer(kBinary, Data(300)));
    f.Run();
  }
  CHECK_FALSE(f.client.at_end());
  f.client.Send(FromClient(kClose, Code(1001)));
  f.Run();
  CHECK(f.client.at_end());
  CHECK_FALSE(f.server.at_end());
  f.server.Send(FromServer(kClose, Code(1001)));
  f.Run();
  CHECK(f.server.at_end());
  CHECK_FALSE(f.end);
  f.BothEnd();
  CHECK(f.end == TunnelEnd::kClosed);
  CHECK(f.client.received() == message + kAwayToClient);
  CHECK(f.server.received() == kAwayToServer);
  CHECK_FALSE(f.client.reset());
  CHECK(f.clock.pending() == 0);
}

TEST_CASE("closed gently: who does not answer is cut in time, and has had the close frame") {
  Fixture f(Protocol::kWebSocket);
  f.tunnel->CloseGently(http::kCloseGoingAway, 5s);
  f.Run();
  f.clock.Advance(4999ms);
  CHECK_FALSE(f.end);
  SUBCASE("in the time that was given") { f.clock.Advance(1ms); }
  SUBCASE("or earlier, when there is no more time") {
    f.tunnel->CloseGently(http::kCloseGoingAway, 0ms);
    f.clock.Turn();
  }
  CHECK(f.end == TunnelEnd::kClosed);
  CHECK(f.client.received() == kAwayToClient);
  CHECK(f.server.received() == kAwayToServer);
  CHECK_FALSE(f.client.reset());
  CHECK_FALSE(f.server.reset());
}

TEST_CASE("closed gently in a closing handshake: nobody gets two close frames") {
  Fixture f(Protocol::kWebSocket);
  const std::string bye = FromClient(kClose, Code(1000, "bye"));
  SUBCASE("the client's has passed") {
    f.client.Send(bye);
    f.Run();
    f.tunnel->CloseGently(http::kCloseGoingAway, 5s);
  }
  SUBCASE("the client's is being passed") {
    f.client.Send(bye.substr(0, 7));
    f.Run();
    f.tunnel->CloseGently(http::kCloseGoingAway, 5s);
    f.client.Send(bye.substr(7));
  }
  f.Run();
  CHECK(f.server.received() == bye);
  CHECK(f.client.received() == kAwayToClient);
  CHECK(f.client.at_end());
  f.server.Send(FromServer(kClose, Code(1000)));
  f.BothEnd();
  CHECK(f.client.received() == kAwayToClient);
  CHECK(f.end == TunnelEnd::kClosed);
}

TEST_CASE("closed gently: a side that breaks takes nothing from the other") {
  Fixture f(Protocol::kWebSocket);
  f.tunnel->CloseGently(http::kCloseGoingAway, 5s);
  f.server.Break();
  f.Run();
  CHECK(f.client.received() == kAwayToClient);
  CHECK_FALSE(f.client.reset());
  f.client.Send(FromClient(kClose, Code(1001)));
  f.client.ShutdownWrite();
  f.Run();
  CHECK(f.client.at_end());
  CHECK_FALSE(f.client.reset());
  CHECK(f.end == TunnelEnd::kClosed);
}

TEST_CASE("closed gently, both sides sending garbage: it is thrown away") {
  Fixture f(Protocol::kWebSocket);
  f.tunnel->CloseGently(http::kCloseGoingAway, 5s);
  f.client.Send(Data(5000));
  f.server.Send(Data(5000));
  f.Run();
  CHECK(f.client.received() == kAwayToClient);
  CHECK(f.server.received() == kAwayToServer);
  f.clock.Advance(5s);
  CHECK(f.end == TunnelEnd::kClosed);
}

TEST_CASE("the limit and its neighbours, in every cut") {
  for (const size_t size : {kLimit - 1, kLimit, kLimit + 1}) {
    for (const size_t piece : {1, 2, 3, 7, 64, 1000, 2000}) {
      const std::string frame = FromClient(kBinary, Data(size));
      Fixture f(Protocol::kWebSocket);
      f.client.ReadInPiecesOf(piece);
      f.client.Send(frame);
      f.Run();
      CHECK(f.server.received() == (size <= kLimit ? frame : kTooBigToServer));
      CHECK(f.client.received() == (size <= kLimit ? "" : kTooBigToClient));
    }
  }
}

// ---- Over TCP ----

namespace {

// Two connections with a tunnel between them; `client` and `server` are the far ends.
struct OverTcp : http::TunnelObserver {
  OverTcp()
      : listening(*event::ListenOn(*SocketAddress::Parse("127.0.0.1", 0))),
        client(*event::BoundAddress(listening.get())),
        near_client(Accept()),
        server(*event::BoundAddress(listening.get())),
        tunnel(context, *this, Protocol::kOpaque, {std::move(near_client), ""}, {Accept(), ""}) {
    tunnel.Start();
  }
  std::unique_ptr<event::Stream> Accept() {
    UniqueFd fd(::accept4(listening.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    return *event::SocketStream::Open(loop, std::move(fd));
  }
  void OnMoved(TunnelSide, size_t size) override { moved += size; }
  void OnOver(TunnelEnd how) override { end = how; }

  event::Loop loop;
  event::UvClock clock{loop};
  std::array<char, 65536> scratch;
  http::TunnelContext context{clock, scratch, Random, kLimit, 2s, 10s};
  size_t moved = 0;
  std::optional<TunnelEnd> end;
  UniqueFd listening;
  test::TcpClient client;
  std::unique_ptr<event::Stream> near_client;
  test::TcpClient server;
  Tunnel tunnel;
};

}  // namespace

TEST_CASE("over TCP: more than all buffers hold goes both ways, and the ends follow") {
  OverTcp t;
  const std::string piece = Data(32 * 1024);
  std::string all;
  for (int i = 0; i < 500; ++i) {
    all += piece;
    t.client.Send(piece);
    t.server.Send(piece);
    test::RunUntil(t.loop, [&] {
      return t.server.received().size() == all.size() && t.client.received().size() == all.size();
    });
  }
  CHECK(t.server.received() == all);
  CHECK(t.client.received() == all);
  CHECK(t.moved == 2 * all.size());
  t.client.ShutdownWrite();
  test::RunUntil(t.loop, [&] { return t.server.at_end(); });
  CHECK_FALSE(t.server.reset());
  CHECK_FALSE(t.end);
  t.server.Send("last words");
  t.server.ShutdownWrite();
  test::RunUntil(t.loop, [&] { return t.end && t.client.at_end(); });
  CHECK(t.client.received() == all + "last words");
  CHECK_FALSE(t.client.reset());
  CHECK(t.end == TunnelEnd::kEnded);
}

TEST_CASE("over TCP: a slow receiver gets all, and the sender waits for it") {
  OverTcp t;
  const std::string piece = Data(256 * 1024);
  // Fills every buffer on the way, until nothing moves.
  size_t sent = 0;
  for (int quiet = 0; quiet < 100;) {
    const ssize_t size = ::send(t.client.fd(), piece.data() + sent % piece.size(),
                                piece.size() - sent % piece.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (size > 0) sent += static_cast<size_t>(size);
    const size_t before = t.moved;
    t.loop.RunOnce();
    quiet = size > 0 || t.moved != before ? 0 : quiet + 1;
    CHECK(t.tunnel.held() <= Tunnel::kHighWater);
  }
  t.client.ShutdownWrite();
  test::RunUntil(t.loop, [&] { return t.server.at_end(); });
  REQUIRE(t.server.received().size() == sent);
  size_t same = 0;
  while (same < sent && t.server.received()[same] == piece[same % piece.size()]) ++same;
  CHECK(same == sent);
  CHECK_FALSE(t.server.reset());
}

TEST_CASE("over TCP: a reset is passed on as a reset, after what came before it") {
  OverTcp t;
  t.server.Send("half an answ");
  test::RunUntil(t.loop, [&] { return t.client.received() == "half an answ"; });
  t.server.Break();
  test::RunUntil(t.loop, [&] { return t.end && t.client.at_end(); });
  CHECK(t.client.reset());
  CHECK(t.end == TunnelEnd::kBroken);
}

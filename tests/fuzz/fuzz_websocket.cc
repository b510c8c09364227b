// WebSockets. The reader: however the bytes are cut it says the same, what it passes is a prefix of
// what came, and that holds no frame against the rules and no message above the limit. The tunnel:
// each side gets a prefix of what the other sent and at most one close frame of the tunnel's, at a
// boundary; it keeps no more than it should, never spins, and is over in the end.
#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/check.h"
#include "agent/http/tunnel.h"
#include "agent/http/websocket.h"
#include "tests/fuzz/pieces.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_stream.h"

using namespace modal;
using http::WebSocketReader;
using http::WebSocketSender;
using Verdict = WebSocketReader::Verdict;

namespace {

constexpr uint64_t kLimit = 300;

struct Followed {
  size_t passed = 0;
  Verdict verdict = Verdict::kFine;
  uint64_t left = 0;
};

template <class NextSize>
Followed Follow(std::string_view text, WebSocketSender sender, NextSize next_size) {
  WebSocketReader reader(sender, kLimit);
  size_t passed = 0;
  for (size_t given = 0; given < text.size() && reader.verdict() == Verdict::kFine;) {
    given = std::min(text.size(), given + next_size());
    const WebSocketReader::Step step = reader.Next(text.substr(passed, given - passed));
    MODAL_CHECK(step.passed <= given - passed);
    MODAL_CHECK(step.verdict == reader.verdict());
    passed += step.passed;
    if (step.verdict == Verdict::kFine) {
      MODAL_CHECK(given - passed <= WebSocketReader::kMaxHeld);
      MODAL_CHECK(given == passed || reader.at_boundary());
    } else {
      MODAL_CHECK(reader.at_boundary());
      MODAL_CHECK(reader.Next(text.substr(passed)).passed == 0);
    }
  }
  return {passed, reader.verdict(), reader.left()};
}

// Reads what was passed in another, simpler way: a frame after the other.
void CheckFrames(std::string_view passed, const Followed& followed, bool masked) {
  uint64_t message = 0;
  bool in_message = false;
  bool closed = false;
  uint64_t missing = 0;
  while (!passed.empty()) {
    MODAL_CHECK(!closed && passed.size() >= 2);
    const auto byte = [&](size_t i) { return static_cast<uint8_t>(passed[i]); };
    const unsigned opcode = byte(0) & 15u;
    const bool final = byte(0) >= 128;
    MODAL_CHECK((byte(1) >= 128) == masked);
    uint64_t length = byte(1) & 127u;
    size_t head = 2;
    if (length >= 126) {
      const size_t more = length == 126 ? 2 : 8;
      head += more;
      MODAL_CHECK(passed.size() >= head);
      length = 0;
      for (size_t i = 2; i < head; ++i) length = length * 256 + byte(i);
      MODAL_CHECK(more == 2 ? length >= 126 : length > 0xffff);
    }
    if (opcode >= 8) {
      MODAL_CHECK(opcode <= 10 && final && length <= 125);
      if (opcode == 8) closed = true;
    } else {
      MODAL_CHECK(opcode == 0 ? in_message : (!in_message && opcode <= 2));
      message = (opcode == 0 ? message : 0) + length;
      MODAL_CHECK(message <= kLimit);
      in_message = !final;
    }
    const uint64_t size = head + (masked ? 4 : 0) + length;
    if (size > passed.size()) missing = size - passed.size();
    passed.remove_prefix(std::min<uint64_t>(size, passed.size()));
  }
  MODAL_CHECK(missing == followed.left);
  MODAL_CHECK((closed && missing == 0) == (followed.verdict == Verdict::kClosed));
}

struct Over : http::TunnelObserver {
  void OnMoved(http::TunnelSide, size_t size) override { moved += size; }
  void OnOver(http::TunnelEnd how) override {
    MODAL_CHECK(!end);
    end = how;
  }
  std::optional<http::TunnelEnd> end;
  size_t moved = 0;
};

// What one side got is what the reader passes of what the other sent, or the beginning of that, and
// perhaps a close frame after a whole frame.
void CheckReceived(std::string_view got, std::string_view sent, WebSocketSender sender) {
  const size_t same =
      std::mismatch(got.begin(), got.end(), sent.begin(), sent.end()).first - got.begin();
  if (same == got.size()) return;
  // A close frame may begin as what was sent does: look for a boundary before it.
  const size_t from = same - std::min<size_t>(same, 24);
  for (size_t at = from; at <= same; ++at) {
    const Followed before = Follow(sent.substr(0, at), sender, [&] { return at; });
    if (before.passed != at || before.left != 0) continue;
    WebSocketReader reader(sender, kLimit);
    const WebSocketReader::Step step = reader.Next(got.substr(at));
    if (static_cast<uint8_t>(got[at]) != 0x88) continue;
    if (step.verdict == Verdict::kClosed && step.passed == got.size() - at) return;
  }
  MODAL_CHECK(false);
}

// The first byte says how much of the rest comes from the client.
void RunTunnel(test::Pieces& pieces, std::string_view text) {
  if (text.empty()) return;
  const size_t middle = size_t{2} * static_cast<uint8_t>(text[0]);
  text.remove_prefix(1);
  const std::string up(text.substr(0, middle));
  const std::string down(text.substr(up.size()));

  test::FakeClock clock;
  std::array<char, 512> scratch;
  http::TunnelContext context{clock, scratch, [] { return uint32_t{0x5aa5c33c}; }, kLimit};
  Over over;
  test::FakePeer client, server;
  const size_t read_up = std::min(up.size(), pieces.Next());
  const size_t read_down = std::min(down.size(), pieces.Next());
  http::Tunnel tunnel(context, over, http::Tunnel::Protocol::kWebSocket,
                      {client.Connect(), up.substr(0, read_up)},
                      {server.Connect(), down.substr(0, read_down)});
  client.TakeOnly(pieces.Next());
  server.TakeOnly(pieces.Next());
  tunnel.Start();
  client.Send(up.substr(read_up));
  server.Send(down.substr(read_down));

  const size_t close_at = pieces.how() % 3 == 0 ? pieces.Next() % 64 : 1000;
  const size_t most = std::max({read_up, read_down, scratch.size()}) + 300;
  for (size_t i = 0; i < 64; ++i) {
    client.ReadInPiecesOf(pieces.Next());
    server.ReadInPiecesOf(pieces.Next());
    client.TakeOnly(pieces.Next() - 1);
    client.Run();
    server.TakeOnly(pieces.Next() - 1);
    server.Run();
    MODAL_CHECK(tunnel.held() <= 2 * most);
    if (i == close_at) tunnel.CloseGently(1001, Milliseconds(5000));
  }
  client.TakeOnly(1 << 20);
  server.TakeOnly(1 << 20);
  for (int i = 0; i < 4; ++i) {
    client.Run();
    server.Run();
  }
  CheckReceived(server.received(), up, WebSocketSender::kClient);
  CheckReceived(client.received(), down, WebSocketSender::kServer);
  MODAL_CHECK(over.moved == server.received().size() + client.received().size());
  client.ShutdownWrite();
  if (pieces.how() % 2 == 0) server.ShutdownWrite();
  for (int i = 0; i < 4; ++i) {
    client.Run();
    server.Run();
  }
  clock.Advance(Milliseconds(60'000));
  MODAL_CHECK(over.end && client.closed() && server.closed());
  MODAL_CHECK(!client.spun() && !server.spun());
  MODAL_CHECK(clock.pending() == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  test::Pieces pieces(data, size);
  const std::string& text = pieces.text();
  for (const WebSocketSender sender : {WebSocketSender::kClient, WebSocketSender::kServer}) {
    const Followed whole = Follow(text, sender, [&] { return text.size(); });
    const Followed cut = Follow(text, sender, [&] { return pieces.Next(); });
    const Followed bytes = Follow(text, sender, [] { return 1; });
    for (const Followed& other : {cut, bytes}) {
      MODAL_CHECK(other.passed == whole.passed);
      MODAL_CHECK(other.verdict == whole.verdict);
      MODAL_CHECK(other.left == whole.left);
    }
    CheckFrames(std::string_view(text).substr(0, whole.passed), whole,
                sender == WebSocketSender::kClient);
  }
  RunTunnel(pieces, text);
  return 0;
}

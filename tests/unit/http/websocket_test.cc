#include "agent/http/websocket.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

using namespace modal;
using http::WebSocketReader;
using http::WebSocketSender;
using Verdict = WebSocketReader::Verdict;

namespace {

// Frames written by hand from RFC 6455 section 5.2, right or wrong as asked.
constexpr uint8_t kContinuation = 0, kText = 1, kBinary = 2, kClose = 8, kPing = 9, kPong = 10;

struct Frame {
  uint8_t opcode = kText;
  std::string payload;
  bool final = true;
  bool masked = false;
  uint8_t reserved = 0;  // RSV1 is 4
  // How many bytes the length takes: 0 for as few as can be, or 1, 2, 8.
  int length_bytes = 0;
};

std::string Bytes(const Frame& frame) {
  const uint64_t size = frame.payload.size();
  int length_bytes = frame.length_bytes;
  if (length_bytes == 0) length_bytes = size < 126 ? 1 : size < 65536 ? 2 : 8;
  std::string out;
  out += static_cast<char>((frame.final ? 0x80 : 0) | frame.reserved << 4 | frame.opcode);
  const uint8_t mask_bit = frame.masked ? 0x80 : 0;
  if (length_bytes == 1) {
    out += static_cast<char>(mask_bit | size);
  } else {
    out += static_cast<char>(mask_bit | (length_bytes == 2 ? 126 : 127));
    for (int i = length_bytes; i-- > 0;) out += static_cast<char>(size >> (8 * i));
  }
  if (!frame.masked) return out + frame.payload;
  const std::string_view key = "\x11\x22\xf3\x04";
  out += key;
  for (size_t i = 0; i < size; ++i) out += static_cast<char>(frame.payload[i] ^ key[i % 4]);
  return out;
}

Frame Masked(Frame frame) {
  frame.masked = true;
  return frame;
}

// The payload of a close frame.
std::string Code(uint16_t code, std::string_view reason = "") {
  std::string payload{static_cast<char>(code >> 8), static_cast<char>(code & 0xff)};
  return payload.append(reason);
}

constexpr uint64_t kLimit = 1000;

// What a reader passes of `text`, given in pieces of at most `piece` bytes, and what it says.
struct Followed {
  std::string passed;
  Verdict verdict = Verdict::kFine;
  bool at_boundary = false;
  size_t most_held = 0;
};

Followed Follow(std::string_view text, size_t piece, WebSocketSender sender,
                uint64_t limit = kLimit) {
  WebSocketReader reader(sender, limit);
  Followed followed;
  std::string held;
  while (!text.empty() && reader.verdict() == Verdict::kFine) {
    held += text.substr(0, piece);
    text.remove_prefix(std::min(piece, text.size()));
    const WebSocketReader::Step step = reader.Next(held);
    followed.passed += held.substr(0, step.passed);
    held.erase(0, step.passed);
    if (step.verdict == Verdict::kFine)
      followed.most_held = std::max(followed.most_held, held.size());
  }
  followed.verdict = reader.verdict();
  followed.at_boundary = reader.at_boundary();
  return followed;
}

// The same, however it is cut.
Followed FollowAllWays(const std::string& text, WebSocketSender sender, uint64_t limit = kLimit) {
  const Followed whole = Follow(text, text.size(), sender, limit);
  for (size_t piece = 1; piece < text.size() && piece < 300; ++piece) {
    const Followed cut = Follow(text, piece, sender, limit);
    CHECK(cut.passed == whole.passed);
    CHECK(cut.verdict == whole.verdict);
    CHECK(cut.at_boundary == whole.at_boundary);
    CHECK(cut.most_held <= WebSocketReader::kMaxHeld);
  }
  return whole;
}

Followed FromServer(const std::string& text) {
  return FollowAllWays(text, WebSocketSender::kServer);
}
Followed FromClient(const std::string& text) {
  return FollowAllWays(text, WebSocketSender::kClient);
}

std::string Data(size_t size) { return std::string(size, 'd'); }

}  // namespace

TEST_CASE("whole frames of every kind and length pass, in both directions") {
  std::string from_server, from_client;
  for (const Frame& frame : std::vector<Frame>{{kText, ""},
                                               {kText, "hello"},
                                               {kBinary, Data(125)},
                                               {kBinary, Data(126)},
                                               {kPing, ""},
                                               {kPing, Data(125)},
                                               {kPong, "x"},
                                               {kText, "a", false},
                                               {kContinuation, "b", false},
                                               {kContinuation, "", true}}) {
    from_server += Bytes(frame);
    from_client += Bytes(Masked(frame));
  }
  for (const Followed& followed : {FromServer(from_server), FromClient(from_client)}) {
    CHECK(followed.verdict == Verdict::kFine);
    CHECK(followed.at_boundary);
  }
  CHECK(FromServer(from_server).passed == from_server);
  CHECK(FromClient(from_client).passed == from_client);
}

TEST_CASE("a frame with a length of 8 bytes passes") {
  const std::string text = Bytes(Masked({kBinary, Data(70'000)}));
  for (const size_t piece : {size_t{1}, size_t{9}, size_t{4096}, text.size()}) {
    const Followed followed = Follow(text, piece, WebSocketSender::kClient, 70'000);
    CHECK(followed.passed == text);
    CHECK(followed.verdict == Verdict::kFine);
    CHECK(followed.at_boundary);
  }
}

TEST_CASE("a frame's head is kept back until its length is known, and its payload never") {
  WebSocketReader reader(WebSocketSender::kClient, kLimit);
  const std::string text = Bytes(Masked({kBinary, Data(300)}));
  CHECK(reader.Next(std::string_view(text).substr(0, 1)).passed == 0);
  CHECK(reader.Next(std::string_view(text).substr(0, 3)).passed == 0);
  CHECK(reader.at_boundary());
  CHECK(reader.Next(std::string_view(text).substr(0, 4)).passed == 4);
  CHECK_FALSE(reader.at_boundary());
  CHECK(reader.left() == 304);
  CHECK(reader.Next(std::string_view(text).substr(4, 100)).passed == 100);
  CHECK(reader.left() == 204);
  CHECK(reader.Next(std::string_view(text).substr(104)).passed == 204);
  CHECK(reader.at_boundary());
}

TEST_CASE("a message may be exactly as large as the limit, and not one byte larger") {
  const std::string good = Bytes({kBinary, Data(kLimit)});
  CHECK(FromServer(good + good).passed == good + good);
  CHECK(FromServer(good + good).verdict == Verdict::kFine);

  const Followed followed = FromServer(good + Bytes({kBinary, Data(kLimit + 1)}));
  CHECK(followed.verdict == Verdict::kTooBig);
  CHECK(followed.passed == good);
  CHECK(followed.at_boundary);
}

TEST_CASE("the limit is counted over fragments, and control frames between them do not count") {
  const std::string begin = Bytes({kText, Data(kLimit - 10), false}) + Bytes({kPing, Data(125)}) +
                            Bytes({kContinuation, Data(9), false}) + Bytes({kPong, Data(125)});
  SUBCASE("exactly the limit") {
    const std::string text = begin + Bytes({kContinuation, Data(1)}) +
                             Bytes({kText, Data(kLimit)});  // the next starts from zero
    CHECK(FromServer(text).passed == text);
    CHECK(FromServer(text).verdict == Verdict::kFine);
  }
  SUBCASE("one more") {
    const Followed followed = FromServer(begin + Bytes({kContinuation, Data(2)}));
    CHECK(followed.verdict == Verdict::kTooBig);
    CHECK(followed.passed == begin);
  }
  SUBCASE("empty fragments without end, and then one byte too many") {
    std::string text = begin + Bytes({kContinuation, Data(1), false});
    for (int i = 0; i < 20; ++i) text += Bytes({kContinuation, "", false});
    CHECK(FromServer(text).verdict == Verdict::kFine);
    CHECK(FromServer(text + Bytes({kContinuation, "x"})).verdict == Verdict::kTooBig);
  }
}

TEST_CASE("nothing of a frame of 2^63-1 bytes is passed, wherever it stands in its message") {
  const std::string huge = "\x7f\x7f\xff\xff\xff\xff\xff\xff\xff";
  const std::string begin = Bytes({kBinary, Data(5), false});
  CHECK(FromServer('\x82' + huge).verdict == Verdict::kTooBig);
  CHECK(FromServer('\x82' + huge).passed.empty());
  CHECK(FromServer(begin + '\x80' + huge).verdict == Verdict::kTooBig);
  CHECK(FromServer(begin + '\x80' + huge).passed == begin);
}

TEST_CASE("a frame that breaks a rule is not passed, and what was before it is") {
  const std::string good = Bytes({kText, "good"});
  std::string bad;
  SUBCASE("masked by a server") { bad = Bytes(Masked({kText, "x"})); }
  SUBCASE("opcode 3") { bad = Bytes({3, "x"}); }
  SUBCASE("opcode 7") { bad = Bytes({7, "x"}); }
  SUBCASE("opcode 11") { bad = Bytes({11, "x"}); }
  SUBCASE("opcode 15") { bad = Bytes({15, "x"}); }
  SUBCASE("a ping in fragments") { bad = Bytes({kPing, "x", false}); }
  SUBCASE("a close frame in fragments") { bad = Bytes({kClose, "", false}); }
  SUBCASE("a ping of 126 bytes") { bad = Bytes({kPing, Data(126)}); }
  SUBCASE("a close frame with half a code") { bad = Bytes({kClose, "x"}); }
  SUBCASE("a fragment of no message") { bad = Bytes({kContinuation, "x"}); }
  SUBCASE("5 bytes with a length of 2 bytes") { bad = Bytes({kText, "12345", true, false, 0, 2}); }
  SUBCASE("125 bytes with a length of 2 bytes") {
    bad = Bytes({kText, Data(125), true, false, 0, 2});
  }
  SUBCASE("65535 bytes with a length of 8 bytes") {
    bad = Bytes({kText, Data(65535), true, false, 0, 8}).substr(0, 400);
  }
  SUBCASE("a length with the highest bit") { bad = "\x82\x7f\x80" + std::string(7, '\0'); }
  const Followed followed = FromServer(good + bad + good);
  CHECK(followed.verdict == Verdict::kBadFrame);
  CHECK(followed.passed == good);
  CHECK(followed.at_boundary);
}

TEST_CASE("a message may not begin inside another") {
  const std::string begin = Bytes({kText, "x", false}) + Bytes({kPing, ""});
  CHECK(FromServer(begin + Bytes({kText, "y"})).verdict == Verdict::kBadFrame);
  CHECK(FromServer(begin + Bytes({kBinary, "y"})).passed == begin);
}

TEST_CASE("a client that does not mask breaks the rules") {
  CHECK(FromClient(Bytes({kText, "x"})).verdict == Verdict::kBadFrame);
  CHECK(FromClient(Bytes({kPing, ""})).passed.empty());
}

TEST_CASE("reserved bits pass: an extension may have been agreed upon") {
  const std::string text = Bytes(Masked({kText, "deflated", true, false, 4})) +
                           Bytes(Masked({kBinary, "other", true, false, 7}));
  CHECK(FromClient(text).passed == text);
  CHECK(FromClient(text).verdict == Verdict::kFine);
}

TEST_CASE("a close frame is the last that passes") {
  std::string close;
  SUBCASE("without a payload") { close = Bytes({kClose, ""}); }
  SUBCASE("with a code") { close = Bytes({kClose, Code(1000)}); }
  SUBCASE("with a reason") { close = Bytes({kClose, Code(1001, Data(123))}); }
  SUBCASE("between fragments") { close = Bytes({kText, "x", false}) + Bytes({kClose, Code(1000)}); }
  const Followed followed = FromServer(close + Bytes({kText, "more"}));
  CHECK(followed.verdict == Verdict::kClosed);
  CHECK(followed.passed == close);
  CHECK(followed.at_boundary);
}

TEST_CASE("a close frame has closed once all of it has passed") {
  const std::string close = Bytes(Masked({kClose, Code(1000, "bye")}));
  const Followed followed = FromClient(close.substr(0, close.size() - 1));
  CHECK(followed.verdict == Verdict::kFine);
  CHECK_FALSE(followed.at_boundary);
  CHECK(FromClient(close).verdict == Verdict::kClosed);
}

TEST_CASE("a verdict stays, and nothing passes any more") {
  WebSocketReader reader(WebSocketSender::kServer, kLimit);
  CHECK(reader.Next(Bytes({3, ""})).verdict == Verdict::kBadFrame);
  const WebSocketReader::Step step = reader.Next(Bytes({kText, "fine"}));
  CHECK(step.passed == 0);
  CHECK(step.verdict == Verdict::kBadFrame);
}

TEST_CASE("a close frame is made as a server and as a client must send it") {
  std::string out = "before";
  http::AppendCloseFrame(out, http::kCloseTooBig, "message too big");
  CHECK(out == "before" + Bytes({kClose, Code(1009, "message too big")}));

  out.clear();
  http::AppendCloseFrame(out, http::kCloseGoingAway, "bye",
                         http::MaskingKey{0x11, 0x22, 0xf3, 0x04});
  CHECK(out == Bytes(Masked({kClose, Code(1001, "bye")})));
  CHECK(FromClient(out).verdict == Verdict::kClosed);

  out.clear();
  http::AppendCloseFrame(out, http::kCloseProtocolError, "");
  CHECK(out == std::string("\x88\x02\x03\xea", 4));
}

#include "agent/http/websocket.h"

#include <algorithm>

#include "agent/base/check.h"

namespace modal::http {
namespace {

// RFC 6455 section 5.2.
constexpr uint8_t kFinal = 0x80;
constexpr uint8_t kMasked = 0x80;
constexpr uint8_t kOpcode = 0x0f;
constexpr uint8_t kLength = 0x7f;

constexpr uint8_t kContinuation = 0x0;
constexpr uint8_t kBinary = 0x2;
constexpr uint8_t kFirstControl = 0x8;
constexpr uint8_t kClose = 0x8;
constexpr uint8_t kPong = 0xa;

constexpr uint8_t kMaxControlLength = 125;
constexpr uint8_t kLengthIn2Bytes = 126;  // 127: in 8 bytes

uint64_t ReadBigEndian(std::string_view bytes) {
  uint64_t value = 0;
  for (const char byte : bytes) value = value << 8 | static_cast<uint8_t>(byte);
  return value;
}

}  // namespace

WebSocketReader::Step WebSocketReader::Next(std::string_view data) {
  size_t passed = 0;
  while (verdict_ == Verdict::kFine && passed < data.size()) {
    if (left_ > 0) {
      const uint64_t size = std::min<uint64_t>(left_, data.size() - passed);
      left_ -= size;
      passed += size;
    } else {
      const size_t head = Begin(data.substr(passed));
      if (head == 0) break;
      passed += head;
    }
    EndIfWhole();
  }
  return {passed, verdict_};
}

// A frame starts: returns the size of its head up to the length, or 0 if it may not be passed
// (yet).
size_t WebSocketReader::Begin(std::string_view head) {
  if (head.size() < 2) return 0;
  const uint8_t first = static_cast<uint8_t>(head[0]);
  const uint8_t second = static_cast<uint8_t>(head[1]);
  const uint8_t opcode = first & kOpcode;
  const bool final = (first & kFinal) != 0;
  const uint8_t short_length = second & kLength;
  if (((second & kMasked) != 0) != masked_ || !IsAllowed(opcode, final, short_length)) {
    verdict_ = Verdict::kBadFrame;
    return 0;
  }

  size_t more = 0;
  uint64_t length = short_length;
  if (short_length >= kLengthIn2Bytes) {
    more = short_length == kLengthIn2Bytes ? 2 : 8;
    if (head.size() < 2 + more) return 0;
    length = ReadBigEndian(head.substr(2, more));
    const uint64_t least = more == 2 ? kLengthIn2Bytes : uint64_t{0x10000};
    if (length < least || length >> 63 != 0) {
      verdict_ = Verdict::kBadFrame;
      return 0;
    }
  }

  if (opcode < kFirstControl) {
    const uint64_t before = opcode == kContinuation ? message_ : 0;
    if (length > max_message_ - before) {
      verdict_ = Verdict::kTooBig;
      return 0;
    }
    message_ = before + length;
    in_message_ = !final;
  }
  in_close_ = opcode == kClose;
  left_ = length + (masked_ ? sizeof(MaskingKey) : 0);
  return 2 + more;
}

bool WebSocketReader::IsAllowed(uint8_t opcode, bool final, uint8_t length) const {
  if (opcode >= kFirstControl) {
    // A close frame has no payload, or one that starts with a code of two bytes.
    return opcode <= kPong && final && length <= kMaxControlLength &&
           !(opcode == kClose && length == 1);
  }
  return opcode <= kBinary && (opcode == kContinuation) == in_message_;
}

void WebSocketReader::EndIfWhole() {
  if (left_ == 0 && in_close_) verdict_ = Verdict::kClosed;
}

void AppendCloseFrame(std::string& out, uint16_t code, std::string_view reason,
                      std::optional<MaskingKey> key) {
  MODAL_CHECK(reason.size() + 2 <= kMaxControlLength);
  std::string payload{static_cast<char>(code >> 8), static_cast<char>(code & 0xff)};
  payload += reason;
  out += static_cast<char>(kFinal | kClose);
  out += static_cast<char>((key ? kMasked : 0) | payload.size());
  if (key) {
    for (const uint8_t byte : *key) out += static_cast<char>(byte);
    for (size_t i = 0; i < payload.size(); ++i) {
      payload[i] = static_cast<char>(static_cast<uint8_t>(payload[i]) ^ (*key)[i % key->size()]);
    }
  }
  out += payload;
}

}  // namespace modal::http

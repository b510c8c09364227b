// WebSocket frames (RFC 6455), as somebody in the middle needs them: to follow what passes, not to
// read it.
//
// A WebSocketReader follows one direction. It is given the bytes as they come and says how many of
// them may be passed on: all, but for the few of a frame's head that is not whole yet, and never
// anything of a frame that breaks a rule or makes its message too large, since that is decided at
// the head. It keeps no payload. How the bytes are cut makes no difference.
//
//   const WebSocketReader::Step step = reader.Next(bytes);
//   Send(bytes.substr(0, step.passed));
//   if (step.verdict == WebSocketReader::Verdict::kFine) Keep(bytes.substr(step.passed));
//
// What it checks: masked by the client and only by the client, known opcodes, lengths written in as
// few bytes as can be, control frames whole and of at most 125 bytes, fragments in order, and the
// size of a message over all its fragments. The reserved bits pass, as an extension may have been
// agreed upon; with permessage-deflate the size of a message is its compressed size. Payloads are
// not looked at, so neither is UTF-8.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace modal::http {

enum class WebSocketSender { kClient, kServer };

class WebSocketReader {
 public:
  enum class Verdict {
    kFine,
    kClosed,    // a close frame has been passed; nothing after it counts
    kTooBig,    // a message of more than `max_message` bytes: close with 1009
    kBadFrame,  // against the rules: close with 1002
  };
  struct Step {
    size_t passed;  // so many bytes, from the first, may be passed on
    Verdict verdict;
  };

  // At most so many bytes are kept back: a frame's head up to its length, all but one.
  static constexpr size_t kMaxHeld = 9;

  WebSocketReader(WebSocketSender sender, uint64_t max_message)
      : masked_(sender == WebSocketSender::kClient), max_message_(max_message) {}

  // What was not passed is to be given again, with more after it. Once the verdict is not kFine it
  // stays, and nothing is passed any more; what was passed then ends at a boundary.
  Step Next(std::string_view data);

  Verdict verdict() const { return verdict_; }
  // What was passed ends with a whole frame (or is nothing), so that a frame can be put in.
  bool at_boundary() const { return left_ == 0; }
  // So many bytes are missing to the end of the frame that is being passed.
  uint64_t left() const { return left_; }

 private:
  size_t Begin(std::string_view head);
  bool IsAllowed(uint8_t opcode, bool final, uint8_t length) const;
  void EndIfWhole();

  bool masked_;
  uint64_t max_message_;
  Verdict verdict_ = Verdict::kFine;
  uint64_t left_ = 0;        // of the frame being passed, with its masking key
  uint64_t message_ = 0;     // bytes of the message so far
  bool in_message_ = false;  // its last fragment has not begun
  bool in_close_ = false;    // the frame being passed is a close frame
};

// The codes of a close frame that the agent uses.
inline constexpr uint16_t kCloseGoingAway = 1001;
inline constexpr uint16_t kCloseProtocolError = 1002;
inline constexpr uint16_t kCloseTooBig = 1009;

using MaskingKey = std::array<uint8_t, 4>;

// Appends a close frame; with a key, as a client must send it. `reason` has at most 123 bytes.
void AppendCloseFrame(std::string& out, uint16_t code, std::string_view reason,
                      std::optional<MaskingKey> key = std::nullopt);

}  // namespace modal::http

// What requests and answers have in common on the wire: a head, a body framed by length or chunks
// (or by the end of the connection), trailers. The base of RequestParser and ResponseParser, which
// know what a head means. Pure: no socket, no clock.
//
//   while (true) {
//     const MessageParser::Step step = parser.Next(input);
//     input.remove_prefix(step.consumed);
//     switch (step.event) {
//       kMore:   all of `input` was taken, come back with more
//       kHead:   the head is there
//       kBody:   step.data is a piece of the body, within `input`
//       kEnd:    the message is whole, trailers() too; Reset() before the next one
//       kError:  error() says what is wrong; the connection cannot be used any further
//     }
//   }
//
// How the input is cut makes no difference, except to how the body comes in pieces. The head is
// copied (it outlives the input); the body is not. Tokens are read by llhttp with none of its
// lenient flags; what the message means as a whole (framing, Host, target) is decided here.
#pragma once

#include <llhttp.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/http/message.h"

namespace modal::http {

struct ParserLimits {
  size_t max_head = size_t{64} * 1024;
  size_t max_headers = 256;
};

struct ParseError {
  int status = 400;
  std::string_view error = "bad_request";  // a word for programs
  std::string_view message;                // a sentence for people
};

class MessageParser {
 public:
  enum class Event { kMore, kHead, kBody, kEnd, kError };
  struct Step {
    Event event;
    size_t consumed = 0;
    std::string_view data = {};
  };

  MessageParser(const MessageParser&) = delete;
  MessageParser& operator=(const MessageParser&) = delete;

  Step Next(std::string_view input);

  // From kEnd until Reset().
  std::span<const Header> trailers() const { return trailers_.views; }
  const ParseError& error() const { return error_; }

  // Anything but empty lines has come since Reset().
  bool started() const { return started_; }
  // Bytes of the body (kLength) or of this chunk that have not been seen yet.
  uint64_t body_left() const { return body_left_; }
  // Of a body by length: so many bytes of it, at most body_left(), have passed by another way.
  void SkipBody(uint64_t size) { body_left_ -= size; }

 protected:
  enum class Framing { kLength, kChunked, kUntilClose };
  struct Range {
    size_t begin = 0;
    size_t end = 0;
  };

  // An HTTP_REQUEST or an HTTP_RESPONSE.
  MessageParser(llhttp_type_t type, const ParserLimits& limits);
  virtual ~MessageParser() = default;

  // The head is there: reads it, and calls SetFraming(). False when Refuse() has said why not.
  virtual bool FinishHead() = 0;
  // Asked once the lines of the head are there, before FinishHead(): no body follows, whatever they
  // say.
  virtual bool HasNoBody(const llhttp_t&) const { return false; }

  void ResetMessage();
  void SetFraming(Framing framing, uint64_t length = 0);
  bool Refuse(int status, std::string_view error, std::string_view message);

  // Of the head.
  std::string_view text() const { return head_.text; }
  std::string_view text(const Range& range) const {
    return text().substr(range.begin, range.end - range.begin);
  }
  std::span<const Header> headers() const { return head_.views; }
  const llhttp_t& llhttp() const { return llhttp_; }

  // Where in the head; of the first line those that this type of message has.
  Range method_;
  Range target_;
  Range version_;
  Range reason_;

 private:
  enum class State {
    kHead,
    kLength,
    kChunkLine,
    kChunkData,
    kTrailers,
    kUntilClose,
    kEnded,
    kFailed
  };

  // A block of header lines (or a whole head): its bytes, and where in them the fields are. Offsets
  // become views when the block is whole and its bytes have stopped moving.
  struct Block {
    std::string text;
    std::vector<std::pair<Range, Range>> fields;
    std::vector<Header> views;
  };
  // What a callback is adding to.
  enum class Span { kNone, kName, kValue };

  Step NextOfBlock(std::string_view input, Block& block);
  Step NextOfLength(std::string_view input);
  Step NextChunkLine(std::string_view input);
  Step NextOfChunk(std::string_view input);
  Step Execute(std::string_view input, Block* block);
  Step Fail(const ParseError& error);
  Step FailAsLlhttpSays();
  static void MakeViews(Block& block);

  // llhttp's callbacks; `at` lies in the input of the Execute() that is running.
  struct Callbacks;
  size_t OffsetOf(const char* at) const;

  const llhttp_type_t type_;
  const ParserLimits limits_;
  llhttp_t llhttp_;
  State state_ = State::kHead;
  bool started_ = false;

  Block head_;
  Block trailers_;
  ParseError error_;

  // The Execute() that is running.
  const char* input_ = nullptr;
  Block* block_ = nullptr;
  Span span_ = Span::kNone;
  bool complete_ = false;  // what this state waits for has been seen

  uint64_t body_left_ = 0;  // of the body (kLength), or of this chunk (kChunkData)
  size_t chunk_line_ = 0;   // kChunkLine: how much of it there was
};

// What Connection headers say, of what matters here.
struct ConnectionTokens {
  bool close = false;
  bool keep_alive = false;
  bool upgrade = false;

  void Add(std::string_view list);
};

// Without spaces and tabs at its ends.
std::string_view WithoutSpace(std::string_view text);

// The first member of a comma-separated list, which may be empty, and takes it off the list.
std::string_view TakeMember(std::string_view& list);
// Whether `word`, in any case, is one of the list's members; an empty one is not.
bool IsMember(std::string_view word, std::string_view list);

}  // namespace modal::http

// Takes the bytes of HTTP/1.0 and 1.1 requests apart, and refuses what two readers could understand
// differently. Pure: no socket, no clock.
//
//   while (true) {
//     const RequestParser::Step step = parser.Next(input);
//     input.remove_prefix(step.consumed);
//     switch (step.event) {
//       kMore:   all of `input` was taken, come back with more
//       kHead:   request() is there
//       kBody:   step.data is a piece of the body, within `input`
//       kEnd:    the request is whole, trailers() too; Reset() before the next one
//       kError:  error() says how to refuse it; the connection cannot be used any further
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

class RequestParser {
 public:
  enum class Event { kMore, kHead, kBody, kEnd, kError };
  struct Step {
    Event event;
    size_t consumed = 0;
    std::string_view data = {};
  };

  explicit RequestParser(const ParserLimits& limits);
  RequestParser(const RequestParser&) = delete;
  RequestParser& operator=(const RequestParser&) = delete;

  Step Next(std::string_view input);

  // From kHead until Reset().
  const Request& request() const { return request_; }
  // From kEnd until Reset().
  std::span<const Header> trailers() const { return trailers_.views; }
  const ParseError& error() const { return error_; }

  // Anything but empty lines has come since Reset().
  bool started() const { return started_; }

  // For the next request. Keeps its memory for it, unless that is unusually much.
  void Reset();

 private:
  enum class State { kHead, kLength, kChunkLine, kChunkData, kTrailers, kEnded, kFailed };

  struct Range {
    size_t begin = 0;
    size_t end = 0;
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
  // False when error_ says why not.
  bool FinishHead();
  bool ReadRequestLine();
  bool ReadTarget();
  bool ReadHeaders();
  bool Refuse(int status, std::string_view error, std::string_view message);

  // llhttp's callbacks; `at` lies in the input of the Execute() that is running.
  struct Callbacks;
  size_t OffsetOf(const char* at) const;

  const ParserLimits limits_;
  llhttp_t llhttp_;
  State state_ = State::kHead;
  bool started_ = false;

  Block head_;
  Block trailers_;
  Range method_;
  Range target_;
  Range version_;
  Request request_;
  ParseError error_;

  // The Execute() that is running.
  const char* input_ = nullptr;
  Block* block_ = nullptr;
  Span span_ = Span::kNone;
  bool complete_ = false;  // what this state waits for has been seen

  uint64_t body_left_ = 0;  // of the body (kLength), or of this chunk (kChunkData)
  size_t chunk_line_ = 0;   // kChunkLine: how much of it there was
};

}  // namespace modal::http

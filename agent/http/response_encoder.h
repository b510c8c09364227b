// Writes answers: status line, headers, framing. Pure: bytes are appended to a string.
#pragma once

#include <cstdint>
#include <ctime>
#include <span>
#include <string>
#include <string_view>

#include "agent/http/message.h"

namespace modal::http {

// How the client tells where the body of an answer ends.
enum class BodyFraming {
  kNone,        // there is none
  kLength,      // Content-Length
  kChunked,     // Transfer-Encoding: chunked
  kUntilClose,  // HTTP/1.0 and no length: the end of the connection
};

// 204, 304, 1xx, and every answer to HEAD.
bool AnswerHasBody(const Request& request, int status);

// The framing for an answer to `request`, of known length or not.
BodyFraming ChooseFraming(const Request& request, int status, bool length_is_known);

struct AnswerHead {
  int status = 200;
  std::string_view reason;  // empty: the usual one
  std::span<const Header> headers;
  std::string_view lines;  // more headers, ready: "Name: value\r\n" each
  std::string_view date;   // empty: no Date
  BodyFraming framing = BodyFraming::kNone;
  // Content-Length: with kLength the length; with kNone the length that the body of a GET would
  // have had, where that is to be told.
  std::optional<uint64_t> length;
  bool keep_alive = true;
  bool http_1_0 = false;  // the request was
};

// A header whose name is no token, or with a CR, LF or NUL in its value, is left out: it would
// split the answer. So are the headers that are worked out here (Content-Length, Transfer-Encoding,
// Connection, Date).
void AppendHead(std::string& out, const AnswerHead& head);
// 100, 103: a head that another answer follows.
void AppendInterimHead(std::string& out, int status, std::span<const Header> headers);

// The line in front of a chunk; CRLF ends it.
void AppendChunkLine(std::string& out, size_t size);
void AppendChunk(std::string& out, std::string_view data);  // nothing if `data` is empty
void AppendLastChunk(std::string& out, std::span<const Header> trailers);

// "Sat, 31 Jan 2026 12:34:56 GMT"
std::string FormatDate(std::time_t time);

}  // namespace modal::http

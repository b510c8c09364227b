// Runs a RequestParser over a text that arrives in pieces, and writes down all that it says, so
// that two ways of cutting the same text can be compared.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <string_view>

#include "agent/http/request_parser.h"

namespace modal::test {

struct ParsedRequests {
  std::string story;       // one line for each request, "error" lines included
  int status = 0;          // of the error; 0: none
  std::string_view error;  // its sentence
  std::string method, target,
      version;      // with an error: of the request that had it, as far as known
  size_t left = 0;  // bytes after the last whole request, or -- with an error -- not looked at
};

inline void AppendHeaders(std::string& story, std::span<const http::Header> headers) {
  for (const http::Header& header : headers) {
    story.append(" [").append(header.name).append("=").append(header.value).append("]");
  }
}

inline void AppendRequest(std::string& story, const http::Request& request) {
  story.append(request.method_name).append(" ").append(request.target);
  story.append(" path=").append(request.path).append(" query=").append(request.query);
  story.append(" host=").append(request.host);
  if (request.http_1_0) story += " 1.0";
  if (!request.keep_alive) story += " close";
  if (request.expects_continue) story += " expects";
  if (request.wants_upgrade) story += " upgrade";
  if (request.chunked) story += " chunked";
  if (request.content_length) story += " length=" + std::to_string(*request.content_length);
  AppendHeaders(story, request.headers);
}

// `next_size` says how long the next piece is (0 counts as 1).
inline ParsedRequests ParseRequests(std::string_view text, const std::function<size_t()>& next_size,
                                    const http::ParserLimits& limits = {}) {
  using Event = http::RequestParser::Event;
  http::RequestParser parser(limits);
  ParsedRequests result;
  std::string body;
  std::string_view input;  // a copy of the piece, so that reading beyond it is seen
  std::string piece;
  size_t request_ends = 0;
  size_t at = 0;
  for (;;) {
    const http::RequestParser::Step step = parser.Next(input);
    input.remove_prefix(step.consumed);
    at += step.consumed;
    switch (step.event) {
      case Event::kMore: {
        if (at == text.size()) {
          if (!body.empty()) result.story += " unfinished body=" + body;
          result.left = at - request_ends;
          return result;
        }
        piece = text.substr(at, std::max<size_t>(1, next_size()));
        input = piece;
        break;
      }
      case Event::kHead:
        AppendRequest(result.story, parser.request());
        break;
      case Event::kBody:
        body += step.data;
        break;
      case Event::kEnd:
        if (!body.empty()) result.story += " body=" + body;
        if (!parser.trailers().empty()) result.story += " trailers:";
        AppendHeaders(result.story, parser.trailers());
        result.story += "\n";
        body.clear();
        parser.Reset();
        request_ends = at;
        break;
      case Event::kError:
        if (!body.empty()) result.story += " unfinished body=" + body;
        result.status = parser.error().status;
        result.error = parser.error().message;
        result.story += " error " + std::to_string(result.status) + "\n";
        result.method = parser.request_so_far().method_name;
        result.target = parser.request_so_far().target;
        result.version = parser.version();
        return result;
    }
  }
}

}  // namespace modal::test

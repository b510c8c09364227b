// Runs a ResponseParser over a text that arrives in pieces, and writes down all that it says, so
// that two ways of cutting the same text can be compared.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <string_view>

#include "agent/http/response_parser.h"

namespace modal::test {

struct ParsedAnswers {
  std::string story;       // one line for each head or answer
  std::string_view error;  // its sentence; empty: none
  size_t left = 0;         // bytes after the last whole answer
};

inline void AppendAnswer(std::string& story, const http::ReceivedResponse& response) {
  story.append(std::to_string(response.status)).append(" ").append(response.reason);
  if (response.interim) story += " interim";
  if (response.switches) story += " switches";
  if (response.keep_alive) story += " keep";
  if (response.has_body) story += " body";
  if (response.content_length) story += " length=" + std::to_string(*response.content_length);
  if (response.has_date) story += " date";
  if (response.keep_alive_seconds) story += " for=" + std::to_string(*response.keep_alive_seconds);
  for (const http::Header& header : response.headers) {
    story.append(" [").append(header.name).append("=").append(header.value).append("]");
  }
}

// Answers one after the other, all to `method`. With `closes` the server shuts its side after the
// text. `next_size` says how long the next piece is (0 counts as 1).
inline ParsedAnswers ParseAnswers(std::string_view text, const std::function<size_t()>& next_size,
                                  http::Method method = http::Method::kGet, bool closes = false,
                                  const http::ParserLimits& limits = {}) {
  using Event = http::ResponseParser::Event;
  http::ResponseParser parser(limits);
  parser.ExpectAnswerTo(method);
  ParsedAnswers result;
  std::string body;
  std::string piece;  // a copy, so that reading beyond it is seen
  std::string_view input;
  size_t at = 0;
  size_t ends = 0;
  const auto end = [&] {
    if (!body.empty()) result.story += " <" + body + ">";
    for (const http::Header& trailer : parser.trailers()) {
      result.story.append(" {").append(trailer.name).append("=").append(trailer.value).append("}");
    }
    result.story += " end\n";
    body.clear();
    ends = at;
  };
  for (;;) {
    const http::ResponseParser::Step step = parser.Next(input);
    input.remove_prefix(step.consumed);
    at += step.consumed;
    switch (step.event) {
      case Event::kMore:
        if (at < text.size()) {
          piece = text.substr(at, std::max<size_t>(1, next_size()));
          input = piece;
          break;
        }
        if (!closes || at == ends) {
          if (!body.empty()) result.story += " <" + body;
          result.left = at - ends;
          return result;
        }
        if (parser.Finish()) {
          end();
          return result;
        }
        result.story += " cut\n";
        result.error = parser.error().message;
        return result;
      case Event::kHead:
        AppendAnswer(result.story, parser.response());
        if (parser.response().interim) result.story += "\n";
        break;
      case Event::kBody:
        body += step.data;
        break;
      case Event::kEnd: {
        const bool over = parser.response().switches;
        end();
        parser.Reset();
        if (over) {
          result.left = text.size() - at;
          return result;
        }
        break;
      }
      case Event::kError:
        if (!body.empty()) result.story += " <" + body;
        result.story += " error\n";
        result.error = parser.error().message;
        return result;
    }
  }
}

}  // namespace modal::test

// Takes the bytes of HTTP/1.0 and 1.1 requests apart (message_parser.h), and refuses what two
// readers could understand differently. error() says how to refuse it.
#pragma once

#include <string_view>

#include "agent/http/message.h"
#include "agent/http/message_parser.h"

namespace modal::http {

class RequestParser : public MessageParser {
 public:
  explicit RequestParser(const ParserLimits& limits);

  // From kHead until Reset().
  const Request& request() const { return request_; }
  // At any time until then: the same as far as it has come and could be read, be it no more than a
  // part of the first line. Its version ("1.1") is empty where that was not reached.
  const Request& request_so_far();
  std::string_view version() const { return text(version_); }

  // For the next request. Keeps its memory for it, unless that is unusually much.
  void Reset();

 private:
  bool FinishHead() override;
  bool ReadRequestLine();
  bool ReadTarget();
  bool ReadHeaders();

  Request request_;
};

}  // namespace modal::http

// Takes the bytes of a server's answers apart (message_parser.h), and refuses what could be
// understood in two ways: those behind us would believe us.
//
// Before each answer ExpectAnswerTo() says to what: an answer to HEAD has no body. Interim answers
// (1xx but 101) are kHead too, with response().interim; the next Next() goes on with the head
// after it. A body that ends with the connection is ended by Finish().
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "agent/http/message.h"
#include "agent/http/message_parser.h"

namespace modal::http {

// Views into the parser's memory: good from kHead until the next Next() (interim) or Reset().
struct ReceivedResponse {
  int status = 0;  // 100 to 599
  std::string_view reason;
  std::span<const Header> headers;
  bool interim = false;     // another head follows
  bool switches = false;    // 101: what follows is another protocol
  bool keep_alive = false;  // the connection can be used again once the answer is whole
  bool has_body = false;
  std::optional<uint64_t> content_length;  // as told, also where there is no body (HEAD)
  bool has_date = false;
  std::optional<uint32_t> keep_alive_seconds;  // Keep-Alive: timeout=N
};

class ResponseParser : public MessageParser {
 public:
  explicit ResponseParser(const ParserLimits& limits);

  Step Next(std::string_view input) {
    if (response_.interim) Reset();
    return MessageParser::Next(input);
  }

  void ExpectAnswerTo(Method method) { to_head_ = method == Method::kHead; }
  const ReceivedResponse& response() const { return response_; }

  // The server has shut its side. True: the answer is whole with that. Otherwise error() says what
  // is missing.
  bool Finish();

  // For the next answer.
  void Reset();

 private:
  bool FinishHead() override;
  bool HasNoBody(const llhttp_t& llhttp) const override;
  bool ReadStatusLine();
  bool ReadHeaders();

  bool to_head_ = false;
  bool until_close_ = false;
  ReceivedResponse response_;
};

}  // namespace modal::http

#include "agent/http/response_parser.h"

#include "agent/base/strings.h"

namespace modal::http {
namespace {

// RFC 9112, 6.3: these have none, whatever their headers say.
bool IsWithoutBody(int status) { return status < 200 || status == 204 || status == 304; }

// The number of "timeout=5, max=100".
std::optional<uint32_t> TimeoutOf(std::string_view value) {
  constexpr std::string_view kName = "timeout=";
  while (!value.empty()) {
    const std::string_view part = TakeMember(value);
    if (part.size() > kName.size() && EqualsIgnoringCase(part.substr(0, kName.size()), kName)) {
      const std::optional<uint64_t> seconds = ParseUnsigned(part.substr(kName.size()));
      if (seconds && *seconds <= 86'400) return static_cast<uint32_t>(*seconds);
    }
  }
  return std::nullopt;
}

}  // namespace

ResponseParser::ResponseParser(const ParserLimits& limits) : MessageParser(HTTP_RESPONSE, limits) {}

void ResponseParser::Reset() {
  ResetMessage();
  until_close_ = false;
  response_ = {};
}

bool ResponseParser::Finish() {
  if (until_close_) return true;
  if (!started()) return Refuse(502, "upstream_answer", "the server closed without an answer");
  if (response_.status == 0 || response_.interim) {
    return Refuse(502, "upstream_answer", "the server closed in the middle of the answer's head");
  }
  return Refuse(502, "upstream_answer", "the server closed in the middle of the answer's body");
}

bool ResponseParser::HasNoBody(const llhttp_t& llhttp) const {
  return to_head_ || IsWithoutBody(llhttp.status_code);
}

bool ResponseParser::FinishHead() {
  response_ = {};
  response_.headers = headers();
  if (!ReadStatusLine() || !ReadHeaders()) return false;
  return true;
}

bool ResponseParser::ReadStatusLine() {
  // llhttp lets empty lines pass before it.
  const bool exact = version_.begin == 5 && text().starts_with("HTTP/");
  if (!exact || llhttp().http_major != 1) {
    return Refuse(502, "upstream_answer", "the status line is malformed");
  }
  response_.status = llhttp().status_code;
  if (response_.status < 100 || response_.status > 599) {
    return Refuse(502, "upstream_answer", "the answer's status is not a status");
  }
  response_.reason = text(reason_);
  response_.switches = response_.status == 101;
  response_.interim = response_.status < 200 && !response_.switches;
  return true;
}

bool ResponseParser::ReadHeaders() {
  size_t lengths = 0;
  size_t encodings = 0;
  std::string_view encoding;
  ConnectionTokens connection;
  for (const Header& header : response_.headers) {
    switch (header.name.size()) {
      case 4:
        if (EqualsIgnoringCase(header.name, "date")) response_.has_date = true;
        break;
      case 10:
        if (EqualsIgnoringCase(header.name, "connection")) {
          connection.Add(header.value);
        } else if (EqualsIgnoringCase(header.name, "keep-alive")) {
          response_.keep_alive_seconds = TimeoutOf(header.value);
        }
        break;
      case 14:
        if (!EqualsIgnoringCase(header.name, "content-length")) break;
        ++lengths;
        response_.content_length = ParseUnsigned(header.value);
        if (!response_.content_length) {
          return Refuse(502, "upstream_answer", "the answer's Content-Length is not a number");
        }
        break;
      case 17:
        if (!EqualsIgnoringCase(header.name, "transfer-encoding")) break;
        ++encodings;
        encoding = header.value;
        break;
      default:
        break;
    }
  }
  const bool http_1_0 = llhttp().http_minor == 0;
  response_.keep_alive = !connection.close && (!http_1_0 || connection.keep_alive);
  if (lengths > 1) {
    return Refuse(502, "upstream_answer", "the answer has more than one Content-Length");
  }
  if (response_.interim || response_.switches) {
    // The next head is another message to llhttp.
    SetFraming(Framing::kLength, 0);
    return true;
  }
  if (encodings > 0 &&
      (lengths > 0 || encodings > 1 || http_1_0 || !EqualsIgnoringCase(encoding, "chunked"))) {
    return Refuse(502, "upstream_answer", "the answer's framing is ambiguous");
  }
  response_.has_body = !to_head_ && !IsWithoutBody(response_.status);
  if (!response_.has_body) {
    SetFraming(Framing::kLength, 0);
  } else if (encodings > 0) {
    SetFraming(Framing::kChunked);
  } else if (lengths > 0) {
    SetFraming(Framing::kLength, *response_.content_length);
    response_.has_body = *response_.content_length > 0;
  } else {
    until_close_ = true;
    response_.keep_alive = false;
    SetFraming(Framing::kUntilClose);
  }
  return true;
}

}  // namespace modal::http

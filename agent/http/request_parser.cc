#include "agent/http/request_parser.h"

#include <algorithm>

#include "agent/base/check.h"
#include "agent/base/strings.h"

namespace modal::http {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsAlpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool IsHex(char c) { return IsDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

// uri-host [ ":" port ] of RFC 3986; empty is allowed, userinfo is not.
bool IsHost(std::string_view text) {
  if (text.empty()) return true;
  size_t end = 0;
  if (text.front() == '[') {
    end = text.find(']');
    if (end == std::string_view::npos || end == 1) return false;
    const std::string_view inside = text.substr(1, end - 1);
    const bool fits = std::all_of(inside.begin(), inside.end(),
                                  [](char c) { return IsHex(c) || c == ':' || c == '.'; });
    if (!fits) return false;
    ++end;
  } else {
    end = std::min(text.find(':'), text.size());
    const std::string_view name = text.substr(0, end);
    const bool fits = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
      return IsDigit(c) || IsAlpha(c) ||
             std::string_view("-._~%!$&'()*+,;=").find(c) != std::string_view::npos;
    });
    if (!fits) return false;
  }
  if (end == text.size()) return true;
  const std::string_view port = text.substr(end + 1);
  return text[end] == ':' && port.size() <= 5 && std::all_of(port.begin(), port.end(), IsDigit);
}

Method MethodOf(std::string_view name) {
  if (name == "GET") return Method::kGet;
  if (name == "HEAD") return Method::kHead;
  if (name == "POST") return Method::kPost;
  if (name == "PUT") return Method::kPut;
  if (name == "PATCH") return Method::kPatch;
  if (name == "DELETE") return Method::kDelete;
  if (name == "OPTIONS") return Method::kOptions;
  if (name == "TRACE") return Method::kTrace;
  return Method::kOther;
}

}  // namespace

RequestParser::RequestParser(const ParserLimits& limits) : MessageParser(HTTP_REQUEST, limits) {}

void RequestParser::Reset() {
  ResetMessage();
  request_ = {};
}

const Request& RequestParser::request_so_far() {
  request_.method_name = text(method_);
  request_.target = text(target_);
  return request_;
}

bool RequestParser::FinishHead() {
  request_.headers = headers();
  if (!ReadRequestLine() || !ReadTarget() || !ReadHeaders()) return false;
  SetFraming(request_.chunked ? Framing::kChunked : Framing::kLength,
             request_.content_length.value_or(0));
  return true;
}

// llhttp lets more than one space pass, and other protocols than HTTP.
bool RequestParser::ReadRequestLine() {
  for (size_t i = 0; i < method_.begin; i += 2) {
    if (text().substr(i, 2) != "\r\n") {
      return Refuse(400, "bad_request", "there is something before the request line");
    }
  }
  const bool exact = version_.end != 0 && target_.begin == method_.end + 1 &&
                     version_.begin == target_.end + 6 && text().substr(target_.end, 6) == " HTTP/";
  if (!exact) return Refuse(400, "bad_request", "the request line is malformed");
  if (llhttp().http_major != 1) {
    return Refuse(505, "http_version_not_supported", "this port speaks HTTP/1.1 and HTTP/1.0");
  }
  request_.http_1_0 = llhttp().http_minor == 0;
  request_.method_name = text(method_);
  request_.method = MethodOf(request_.method_name);
  request_.target = text(target_);
  if (request_.method_name == "CONNECT") {
    return Refuse(405, "method_not_allowed", "CONNECT is not served here");
  }
  return true;
}

bool RequestParser::ReadTarget() {
  std::string_view rest = request_.target;
  if (rest.find('#') != std::string_view::npos) {
    return Refuse(400, "bad_request", "the request target has a fragment");
  }
  if (rest == "*") {
    request_.path = rest;
    return request_.method == Method::kOptions ||
           Refuse(400, "bad_request", "the request target '*' is for OPTIONS only");
  }
  if (!rest.starts_with('/')) {
    const size_t colon = rest.find("://");
    const std::string_view scheme = rest.substr(0, std::min(colon, rest.size()));
    if (!EqualsIgnoringCase(scheme, "http") && !EqualsIgnoringCase(scheme, "https")) {
      return Refuse(400, "bad_request", "the request target is neither a path nor an http URI");
    }
    rest.remove_prefix(colon + 3);
    const size_t end = std::min(rest.find_first_of("/?"), rest.size());
    request_.host = rest.substr(0, end);
    rest.remove_prefix(end);
    if (request_.host.empty() || request_.host.front() == ':' || !IsHost(request_.host)) {
      return Refuse(400, "bad_request", "the host in the request target is malformed");
    }
  }
  const size_t question = rest.find('?');
  request_.path = rest.substr(0, question);
  if (request_.path.empty()) request_.path = "/";
  if (question != std::string_view::npos) request_.query = rest.substr(question + 1);
  return true;
}

bool RequestParser::ReadHeaders() {
  size_t hosts = 0;
  size_t lengths = 0;
  size_t encodings = 0;
  std::string_view host;
  std::string_view length;
  std::string_view encoding;
  ConnectionTokens connection;
  bool upgrade = false;
  for (const Header& header : request_.headers) {
    // Only names of these sizes are looked for.
    switch (header.name.size()) {
      case 4:
        if (!EqualsIgnoringCase(header.name, "host")) break;
        ++hosts;
        host = header.value;
        break;
      case 6:
        if (!EqualsIgnoringCase(header.name, "expect") || request_.http_1_0) break;
        if (!EqualsIgnoringCase(header.value, "100-continue")) {
          return Refuse(417, "expectation_failed", "only '100-continue' may be expected");
        }
        request_.expects_continue = true;
        break;
      case 7:
        if (EqualsIgnoringCase(header.name, "upgrade")) upgrade = true;
        break;
      case 10:
        if (EqualsIgnoringCase(header.name, "connection")) connection.Add(header.value);
        break;
      case 14:
        if (!EqualsIgnoringCase(header.name, "content-length")) break;
        ++lengths;
        length = header.value;
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
  if (hosts > 1) return Refuse(400, "bad_request", "there is more than one Host header");
  if (hosts == 0 && !request_.http_1_0) {
    return Refuse(400, "bad_request", "there is no Host header");
  }
  if (!IsHost(host)) return Refuse(400, "bad_request", "the Host header is malformed");
  if (request_.host.empty()) request_.host = host;

  if (encodings > 0) {
    if (request_.http_1_0) {
      return Refuse(400, "bad_request", "HTTP/1.0 has no Transfer-Encoding");
    }
    if (lengths > 0) {
      return Refuse(400, "bad_request", "there are both Content-Length and Transfer-Encoding");
    }
    if (encodings > 1 || !EqualsIgnoringCase(encoding, "chunked")) {
      return Refuse(400, "bad_request",
                    "the only Transfer-Encoding that is understood is 'chunked'");
    }
    request_.chunked = true;
  }
  if (lengths > 1) return Refuse(400, "bad_request", "there is more than one Content-Length");
  if (lengths == 1) {
    request_.content_length = ParseUnsigned(length);
    if (!request_.content_length) {
      return Refuse(400, "bad_request", "the Content-Length is not a number");
    }
  }
  request_.keep_alive = !connection.close && (!request_.http_1_0 || connection.keep_alive);
  request_.wants_upgrade = upgrade && connection.upgrade;
  return true;
}

}  // namespace modal::http

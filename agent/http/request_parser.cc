#include "agent/http/request_parser.h"

#include <algorithm>

#include "agent/base/check.h"
#include "agent/base/strings.h"

namespace modal::http {
namespace {

// A chunk's size line, extensions included, and the line end before it.
constexpr size_t kMaxChunkLine = 4096;
// Blocks that have grown beyond this do not keep their memory.
constexpr size_t kKeptText = size_t{8} * 1024;
constexpr size_t kKeptFields = 64;

constexpr ParseError kHeadTooBig{431, "header_too_large", "the header block is too large"};
constexpr ParseError kTargetTooLong{414, "uri_too_long", "the request target is too long"};
constexpr ParseError kTooManyHeaders{431, "header_too_large", "there are too many headers"};
constexpr ParseError kTrailersTooBig{431, "header_too_large", "the trailers are too large"};
constexpr ParseError kChunkLineTooLong{400, "bad_request", "a chunk's size line is too long"};

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsAlpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool IsHex(char c) { return IsDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

std::string_view WithoutSpace(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

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

// The members of Connection headers that matter here.
struct ConnectionTokens {
  bool close = false;
  bool keep_alive = false;
  bool upgrade = false;

  void Add(std::string_view list) {
    while (!list.empty()) {
      const size_t comma = std::min(list.find(','), list.size());
      const std::string_view token = WithoutSpace(list.substr(0, comma));
      close = close || EqualsIgnoringCase(token, "close");
      keep_alive = keep_alive || EqualsIgnoringCase(token, "keep-alive");
      upgrade = upgrade || EqualsIgnoringCase(token, "upgrade");
      list.remove_prefix(std::min(comma + 1, list.size()));
    }
  }
};

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

struct RequestParser::Callbacks {
  static RequestParser& Self(llhttp_t* llhttp) {
    return *static_cast<RequestParser*>(llhttp->data);
  }

  static int OnMessageBegin(llhttp_t* llhttp) {
    Self(llhttp).started_ = true;
    return HPE_OK;
  }
  static int OnMethod(llhttp_t* llhttp, const char* at, size_t size) {
    return Extend(llhttp, Self(llhttp).method_, at, size);
  }
  static int OnTarget(llhttp_t* llhttp, const char* at, size_t size) {
    return Extend(llhttp, Self(llhttp).target_, at, size);
  }
  static int OnVersion(llhttp_t* llhttp, const char* at, size_t size) {
    return Extend(llhttp, Self(llhttp).version_, at, size);
  }
  static int Extend(llhttp_t* llhttp, Range& range, const char* at, size_t size) {
    const size_t begin = Self(llhttp).OffsetOf(at);
    if (range.end == 0) range.begin = begin;
    range.end = begin + size;
    return HPE_OK;
  }

  static int OnName(llhttp_t* llhttp, const char* at, size_t size) {
    RequestParser& self = Self(llhttp);
    const size_t begin = self.OffsetOf(at);
    if (self.span_ != Span::kName) {
      self.span_ = Span::kName;
      self.block_->fields.push_back({{begin, begin}, {0, 0}});
    }
    self.block_->fields.back().first.end = begin + size;
    return HPE_OK;
  }
  static int OnNameComplete(llhttp_t* llhttp) {
    RequestParser& self = Self(llhttp);
    self.span_ = Span::kNone;
    if (self.block_->fields.size() <= self.limits_.max_headers) return HPE_OK;
    self.error_ = kTooManyHeaders;
    return -1;
  }
  static int OnValue(llhttp_t* llhttp, const char* at, size_t size) {
    RequestParser& self = Self(llhttp);
    const size_t begin = self.OffsetOf(at);
    Range& value = self.block_->fields.back().second;
    if (self.span_ != Span::kValue) {
      self.span_ = Span::kValue;
      value.begin = begin;
    }
    value.end = begin + size;
    return HPE_OK;
  }
  static int OnValueComplete(llhttp_t* llhttp) {
    Self(llhttp).span_ = Span::kNone;
    return HPE_OK;
  }

  static int OnHeadersComplete(llhttp_t* llhttp) {
    RequestParser& self = Self(llhttp);
    self.complete_ = true;
    // Whether it is one is the caller's affair; to llhttp it is a request like any other.
    llhttp->upgrade = 0;
    // 1: no body. Of bodies llhttp only gets to see the chunked ones.
    return (llhttp->flags & F_CHUNKED) != 0 ? HPE_PAUSED : 1;
  }
  static int OnChunkHeader(llhttp_t* llhttp) {
    Self(llhttp).complete_ = true;
    return HPE_PAUSED;
  }
  static int OnMessageComplete(llhttp_t* llhttp) {
    Self(llhttp).complete_ = true;
    return HPE_PAUSED;
  }

  static constexpr llhttp_settings_t Settings() {
    llhttp_settings_t settings{};
    settings.on_message_begin = OnMessageBegin;
    settings.on_method = OnMethod;
    settings.on_url = OnTarget;
    settings.on_version = OnVersion;
    settings.on_header_field = OnName;
    settings.on_header_field_complete = OnNameComplete;
    settings.on_header_value = OnValue;
    settings.on_header_value_complete = OnValueComplete;
    settings.on_headers_complete = OnHeadersComplete;
    settings.on_chunk_header = OnChunkHeader;
    settings.on_message_complete = OnMessageComplete;
    return settings;
  }
  static const llhttp_settings_t kSettings;
};

constexpr llhttp_settings_t RequestParser::Callbacks::kSettings =
    RequestParser::Callbacks::Settings();

RequestParser::RequestParser(const ParserLimits& limits) : limits_(limits) { Reset(); }

void RequestParser::Reset() {
  // Starts with no lenient flag set.
  llhttp_init(&llhttp_, HTTP_REQUEST, &Callbacks::kSettings);
  llhttp_.data = this;
  state_ = State::kHead;
  started_ = false;
  for (Block* block : {&head_, &trailers_}) {
    block->text.clear();
    block->fields.clear();
    block->views.clear();
    if (block->text.capacity() > kKeptText) block->text.shrink_to_fit();
    if (block->fields.capacity() > kKeptFields) block->fields.shrink_to_fit();
    if (block->views.capacity() > kKeptFields) block->views.shrink_to_fit();
  }
  method_ = target_ = version_ = {};
  request_ = {};
  error_ = {};
  span_ = Span::kNone;
  body_left_ = 0;
  chunk_line_ = 0;
}

size_t RequestParser::OffsetOf(const char* at) const {
  return block_->text.size() + static_cast<size_t>(at - input_);
}

RequestParser::Step RequestParser::Next(std::string_view input) {
  switch (state_) {
    case State::kHead: {
      const Step step = NextOfBlock(input, head_);
      if (step.event != Event::kHead || FinishHead()) return step;
      return {Event::kError, step.consumed};
    }
    case State::kLength:
      return NextOfLength(input);
    case State::kChunkLine:
      return NextChunkLine(input);
    case State::kChunkData:
      return NextOfChunk(input);
    case State::kTrailers: {
      const Step step = NextOfBlock(input, trailers_);
      if (step.event != Event::kEnd) return step;
      MakeViews(trailers_);
      state_ = State::kEnded;
      return step;
    }
    case State::kEnded:
      return {Event::kEnd};
    case State::kFailed:
      return {Event::kError};
  }
  return {Event::kError};
}

// A head, or trailers. llhttp is never given more than the limit, so that what lies beyond it has
// no say in which error it is.
RequestParser::Step RequestParser::NextOfBlock(std::string_view input, Block& block) {
  if (input.empty()) return {Event::kMore};
  const Step step = Execute(input.substr(0, limits_.max_head - block.text.size()), &block);
  if (step.event == Event::kError) return step;
  block.text.append(input.substr(0, step.consumed));
  if (complete_) return {&block == &head_ ? Event::kHead : Event::kEnd, step.consumed};
  if (block.text.size() < limits_.max_head) return step;
  if (&block == &trailers_) return Fail(kTrailersTooBig);
  return Fail(method_.end != 0 && version_.end == 0 ? kTargetTooLong : kHeadTooBig);
}

RequestParser::Step RequestParser::NextOfLength(std::string_view input) {
  if (body_left_ == 0) {
    state_ = State::kEnded;
    return {Event::kEnd};
  }
  if (input.empty()) return {Event::kMore};
  const size_t size = static_cast<size_t>(std::min<uint64_t>(body_left_, input.size()));
  body_left_ -= size;
  return {Event::kBody, size, input.substr(0, size)};
}

RequestParser::Step RequestParser::NextChunkLine(std::string_view input) {
  if (input.empty()) return {Event::kMore};
  Step step = Execute(input.substr(0, kMaxChunkLine - chunk_line_), nullptr);
  if (step.event == Event::kError) return step;
  chunk_line_ += step.consumed;
  if (!complete_) return chunk_line_ < kMaxChunkLine ? step : Fail(kChunkLineTooLong);
  chunk_line_ = 0;
  body_left_ = llhttp_.content_length;
  state_ = body_left_ == 0 ? State::kTrailers : State::kChunkData;
  const Step rest = Next(input.substr(step.consumed));
  return {rest.event, step.consumed + rest.consumed, rest.data};
}

RequestParser::Step RequestParser::NextOfChunk(std::string_view input) {
  if (input.empty()) return {Event::kMore};
  const size_t size = static_cast<size_t>(std::min<uint64_t>(body_left_, input.size()));
  const Step step = Execute(input.substr(0, size), nullptr);
  if (step.event == Event::kError) return step;
  body_left_ -= size;
  if (body_left_ == 0) state_ = State::kChunkLine;
  return {Event::kBody, size, input.substr(0, size)};
}

// kMore, with as much consumed as llhttp took before one of the callbacks stopped it; or kError.
RequestParser::Step RequestParser::Execute(std::string_view input, Block* block) {
  input_ = input.data();
  block_ = block;
  complete_ = false;
  const llhttp_errno_t result = llhttp_execute(&llhttp_, input.data(), input.size());
  if (result == HPE_OK) return {Event::kMore, input.size()};
  if (result != HPE_PAUSED) return FailAsLlhttpSays();
  const auto consumed = static_cast<size_t>(llhttp_get_error_pos(&llhttp_) - input.data());
  llhttp_resume(&llhttp_);
  return {Event::kMore, consumed};
}

RequestParser::Step RequestParser::Fail(const ParseError& error) {
  error_ = error;
  state_ = State::kFailed;
  return {Event::kError};
}

RequestParser::Step RequestParser::FailAsLlhttpSays() {
  switch (llhttp_get_errno(&llhttp_)) {
    case HPE_CB_HEADER_FIELD_COMPLETE:  // ours, which has set error_
      state_ = State::kFailed;
      return {Event::kError};
    case HPE_PAUSED_H2_UPGRADE:
      return Fail({400, "bad_request", "this port speaks HTTP/1.1, not HTTP/2"});
    case HPE_INVALID_VERSION:
      return Fail({400, "bad_request", "the request line is malformed: bad HTTP version"});
    default:
      // llhttp's reasons are string literals.
      return Fail({400, "bad_request", llhttp_get_error_reason(&llhttp_)});
  }
}

bool RequestParser::Refuse(int status, std::string_view error, std::string_view message) {
  Fail({status, error, message});
  return false;
}

void RequestParser::MakeViews(Block& block) {
  const std::string_view text = block.text;
  for (const auto& [name, value] : block.fields) {
    block.views.push_back({text.substr(name.begin, name.end - name.begin),
                           WithoutSpace(text.substr(value.begin, value.end - value.begin))});
  }
}

bool RequestParser::FinishHead() {
  MakeViews(head_);
  request_.headers = head_.views;
  if (!ReadRequestLine() || !ReadTarget() || !ReadHeaders()) return false;
  if (request_.chunked) {
    state_ = State::kChunkLine;
  } else {
    state_ = State::kLength;
    body_left_ = request_.content_length.value_or(0);
  }
  return true;
}

// llhttp lets more than one space pass, and other protocols than HTTP.
bool RequestParser::ReadRequestLine() {
  const std::string_view text = head_.text;
  for (size_t i = 0; i < method_.begin; i += 2) {
    if (text.substr(i, 2) != "\r\n") {
      return Refuse(400, "bad_request", "there is something before the request line");
    }
  }
  const bool exact = version_.end != 0 && target_.begin == method_.end + 1 &&
                     version_.begin == target_.end + 6 && text.substr(target_.end, 6) == " HTTP/";
  if (!exact) return Refuse(400, "bad_request", "the request line is malformed");
  if (llhttp_.http_major != 1) {
    return Refuse(505, "http_version_not_supported", "this port speaks HTTP/1.1 and HTTP/1.0");
  }
  request_.http_1_0 = llhttp_.http_minor == 0;
  request_.method_name = text.substr(method_.begin, method_.end - method_.begin);
  request_.method = MethodOf(request_.method_name);
  request_.target = text.substr(target_.begin, target_.end - target_.begin);
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

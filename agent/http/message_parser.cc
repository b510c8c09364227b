#include "agent/http/message_parser.h"

#include <algorithm>

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

}  // namespace

std::string_view WithoutSpace(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::string_view TakeMember(std::string_view& list) {
  const size_t comma = std::min(list.find(','), list.size());
  const std::string_view member = WithoutSpace(list.substr(0, comma));
  list.remove_prefix(std::min(comma + 1, list.size()));
  return member;
}

bool IsMember(std::string_view word, std::string_view list) {
  while (!word.empty() && !list.empty()) {
    if (EqualsIgnoringCase(TakeMember(list), word)) return true;
  }
  return false;
}

void ConnectionTokens::Add(std::string_view list) {
  while (!list.empty()) {
    const std::string_view token = TakeMember(list);
    close = close || EqualsIgnoringCase(token, "close");
    keep_alive = keep_alive || EqualsIgnoringCase(token, "keep-alive");
    upgrade = upgrade || EqualsIgnoringCase(token, "upgrade");
  }
}

struct MessageParser::Callbacks {
  static MessageParser& Self(llhttp_t* llhttp) {
    return *static_cast<MessageParser*>(llhttp->data);
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
  static int OnReason(llhttp_t* llhttp, const char* at, size_t size) {
    return Extend(llhttp, Self(llhttp).reason_, at, size);
  }
  static int Extend(llhttp_t* llhttp, Range& range, const char* at, size_t size) {
    const size_t begin = Self(llhttp).OffsetOf(at);
    if (range.end == 0) range.begin = begin;
    range.end = begin + size;
    return HPE_OK;
  }

  static int OnName(llhttp_t* llhttp, const char* at, size_t size) {
    MessageParser& self = Self(llhttp);
    const size_t begin = self.OffsetOf(at);
    if (self.span_ != Span::kName) {
      self.span_ = Span::kName;
      self.block_->fields.push_back({{begin, begin}, {0, 0}});
    }
    self.block_->fields.back().first.end = begin + size;
    return HPE_OK;
  }
  static int OnNameComplete(llhttp_t* llhttp) {
    MessageParser& self = Self(llhttp);
    self.span_ = Span::kNone;
    if (self.block_->fields.size() <= self.limits_.max_headers) return HPE_OK;
    self.error_ = kTooManyHeaders;
    return -1;
  }
  static int OnValue(llhttp_t* llhttp, const char* at, size_t size) {
    MessageParser& self = Self(llhttp);
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
    MessageParser& self = Self(llhttp);
    self.complete_ = true;
    // Whether it is one is the caller's affair; to llhttp it is a message like any other.
    llhttp->upgrade = 0;
    // 1: no body. Of bodies llhttp only gets to see the chunked ones.
    return (llhttp->flags & F_CHUNKED) != 0 && !self.HasNoBody(*llhttp) ? HPE_PAUSED : 1;
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
    settings.on_status = OnReason;
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

constexpr llhttp_settings_t MessageParser::Callbacks::kSettings =
    MessageParser::Callbacks::Settings();

MessageParser::MessageParser(llhttp_type_t type, const ParserLimits& limits)
    : type_(type), limits_(limits) {
  ResetMessage();
}

void MessageParser::ResetMessage() {
  // Starts with no lenient flag set.
  llhttp_init(&llhttp_, type_, &Callbacks::kSettings);
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
  method_ = target_ = version_ = reason_ = {};
  error_ = {};
  span_ = Span::kNone;
  body_left_ = 0;
  chunk_line_ = 0;
}

void MessageParser::SetFraming(Framing framing, uint64_t length) {
  switch (framing) {
    case Framing::kLength:
      state_ = State::kLength;
      body_left_ = length;
      break;
    case Framing::kChunked:
      state_ = State::kChunkLine;
      break;
    case Framing::kUntilClose:
      state_ = State::kUntilClose;
      break;
  }
}

size_t MessageParser::OffsetOf(const char* at) const {
  return block_->text.size() + static_cast<size_t>(at - input_);
}

MessageParser::Step MessageParser::Next(std::string_view input) {
  switch (state_) {
    case State::kHead: {
      const Step step = NextOfBlock(input, head_);
      if (step.event != Event::kHead) return step;
      MakeViews(head_);
      if (FinishHead()) return step;
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
    case State::kUntilClose:
      if (input.empty()) return {Event::kMore};
      return {Event::kBody, input.size(), input};
    case State::kEnded:
      return {Event::kEnd};
    case State::kFailed:
      return {Event::kError};
  }
  return {Event::kError};
}

// A head, or trailers. llhttp is never given more than the limit, so that what lies beyond it has
// no say in which error it is.
MessageParser::Step MessageParser::NextOfBlock(std::string_view input, Block& block) {
  if (input.empty()) return {Event::kMore};
  input = input.substr(0, limits_.max_head - block.text.size());
  const Step step = Execute(input, &block);
  // What was understood before an error is kept too: text(Range) is asked for it.
  block.text.append(input.substr(0, step.event == Event::kError ? input.size() : step.consumed));
  if (step.event == Event::kError) return step;
  if (complete_) return {&block == &head_ ? Event::kHead : Event::kEnd, step.consumed};
  if (block.text.size() < limits_.max_head) return step;
  if (&block == &trailers_) return Fail(kTrailersTooBig);
  return Fail(method_.end != 0 && version_.end == 0 && type_ == HTTP_REQUEST ? kTargetTooLong
                                                                             : kHeadTooBig);
}

MessageParser::Step MessageParser::NextOfLength(std::string_view input) {
  if (body_left_ == 0) {
    state_ = State::kEnded;
    return {Event::kEnd};
  }
  if (input.empty()) return {Event::kMore};
  const size_t size = static_cast<size_t>(std::min<uint64_t>(body_left_, input.size()));
  body_left_ -= size;
  return {Event::kBody, size, input.substr(0, size)};
}

MessageParser::Step MessageParser::NextChunkLine(std::string_view input) {
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

MessageParser::Step MessageParser::NextOfChunk(std::string_view input) {
  if (input.empty()) return {Event::kMore};
  const size_t size = static_cast<size_t>(std::min<uint64_t>(body_left_, input.size()));
  const Step step = Execute(input.substr(0, size), nullptr);
  if (step.event == Event::kError) return step;
  body_left_ -= size;
  if (body_left_ == 0) state_ = State::kChunkLine;
  return {Event::kBody, size, input.substr(0, size)};
}

// kMore, with as much consumed as llhttp took before one of the callbacks stopped it; or kError.
MessageParser::Step MessageParser::Execute(std::string_view input, Block* block) {
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

MessageParser::Step MessageParser::Fail(const ParseError& error) {
  error_ = error;
  state_ = State::kFailed;
  return {Event::kError};
}

MessageParser::Step MessageParser::FailAsLlhttpSays() {
  switch (llhttp_get_errno(&llhttp_)) {
    case HPE_CB_HEADER_FIELD_COMPLETE:  // ours, which has set error_
      state_ = State::kFailed;
      return {Event::kError};
    case HPE_PAUSED_H2_UPGRADE:
      return Fail({400, "bad_request", "this port speaks HTTP/1.1, not HTTP/2"});
    case HPE_INVALID_VERSION:
      return Fail({400, "bad_request",
                   type_ == HTTP_REQUEST ? "the request line is malformed: bad HTTP version"
                                         : "the status line is malformed: bad HTTP version"});
    default:
      // llhttp's reasons are string literals.
      return Fail({400, "bad_request", llhttp_get_error_reason(&llhttp_)});
  }
}

bool MessageParser::Refuse(int status, std::string_view error, std::string_view message) {
  Fail({status, error, message});
  return false;
}

void MessageParser::MakeViews(Block& block) {
  const std::string_view text = block.text;
  for (const auto& [name, value] : block.fields) {
    block.views.push_back({text.substr(name.begin, name.end - name.begin),
                           WithoutSpace(text.substr(value.begin, value.end - value.begin))});
  }
}

}  // namespace modal::http

#include "adapters/proxy.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string>
#include <utility>

#include "adapters/call.h"
#include "agent/base/strings.h"
#include "agent/http/client_connection.h"
#include "agent/http/message_parser.h"
#include "agent/policy/hop_by_hop.h"

namespace modal::adapters {
namespace {

using http::BodyFraming;
using http::ClientFailure;
using policy::ConnectionOptions;
using policy::Direction;
using policy::HeaderKind;
using policy::Refusal;

// What is left of a body must be this much for splice(2) to be worth it.
constexpr uint64_t kWorthSplicing = uint64_t{128} * 1024;
constexpr size_t kSparePipes = 4;
// Of a request's body so much is kept, in case it has to be sent once more.
constexpr size_t kKeptBody = size_t{16} * 1024;

void AppendLine(std::string& out, const http::Header& header) {
  out.append(header.name).append(": ").append(header.value).append("\r\n");
}

// RFC 9110, 9.2.2.
bool IsIdempotent(http::Method method) {
  switch (method) {
    case http::Method::kGet:
    case http::Method::kHead:
    case http::Method::kPut:
    case http::Method::kDelete:
    case http::Method::kOptions:
    case http::Method::kTrace:
      return true;
    default:
      return false;
  }
}

BodyFraming FramingOf(const http::Request& request) {
  if (request.chunked) return BodyFraming::kChunked;
  return request.content_length ? BodyFraming::kLength : BodyFraming::kNone;
}

bool IsEventStream(const http::ReceivedResponse& response) {
  const std::string_view type = http::FindHeader(response.headers, "content-type").value_or("");
  constexpr std::string_view kEventStream = "text/event-stream";
  return http::EqualsIgnoringCase(type.substr(0, kEventStream.size()), kEventStream);
}

struct Verdict {
  int status;
  Refusal why;
};

Verdict VerdictOn(ClientFailure failure) {
  switch (failure) {
    case ClientFailure::kConnect:
      return {502, Refusal::kUpstreamConnect};
    case ClientFailure::kConnectTimeout:
      return {504, Refusal::kConnectTimeout};
    case ClientFailure::kFirstByteTimeout:
      return {504, Refusal::kFirstByteTimeout};
    case ClientFailure::kIdleTimeout:
      return {504, Refusal::kIdleTimeout};
    case ClientFailure::kClosed:
    case ClientFailure::kBadAnswer:
      return {502, Refusal::kUpstreamAnswer};
  }
  return {502, Refusal::kUpstreamAnswer};
}

}  // namespace

// One request on its way through.
class Proxy::Passage final : public http::ClientUser {
 public:
  explicit Passage(Proxy& proxy) : proxy_(proxy) {}

  // False: it has failed, and this passage may be another call's by now.
  bool Start(Call& call, bool again) {
    call_ = &call;
    const http::Request& request = call.request();
    const ConnectionOptions options(request.headers);
    if (options.overflowed()) {
      Fail(400, Refusal::kBadRequest, "the request's Connection header is too long");
      return false;
    }
    Result<http::ClientConnection*> connection =
        proxy_.pool_.Acquire(again                          ? UpstreamPool::Wanted::kNew
                             : IsIdempotent(request.method) ? UpstreamPool::Wanted::kAny
                                                            : UpstreamPool::Wanted::kAlive);
    if (!connection) {
      Fail(502, Refusal::kUpstreamConnect,
           "the server cannot be reached: " + connection.error().message());
      return false;
    }
    connection_ = *connection;
    WriteHead(connection_->head(), request, options);
    call.MarkSent();
    connection_->Begin(*this, request.method, FramingOf(request));
    return true;
  }

  void OnBody(std::string_view data) {
    if (whole_) {
      if (kept_.size() + data.size() <= kKeptBody) {
        kept_ += data;
      } else {
        whole_ = false;
        std::string().swap(kept_);
      }
    }
    if (connection_ == nullptr) return;
    if (!connection_->Write(data)) return call_->PauseBody();
    body_seen_ += data.size();
    const uint64_t length = call_->request().content_length.value_or(0);
    if (length >= body_seen_ + kWorthSplicing && connection_->CanSpliceRequest()) SpliceBody();
  }

  void SpliceBody() {
    if (!request_pipe_) request_pipe_ = proxy_.TakePipe();
    if (request_pipe_) call_->SpliceBody();
  }

  void OnBodyReadable() {
    whole_ = false;
    if (connection_ == nullptr) return;
    const event::IoResult result = call_->ReadBodyInto(*request_pipe_);
    if (result.kind == event::IoResult::Kind::kDone) PassBody();
  }

  void PassBody() {
    connection_->WriteFrom(*request_pipe_);
    if (!request_pipe_->empty()) call_->PauseBody();
  }

  void OnRequestEnd() {
    request_ended_ = true;
    if (connection_ != nullptr) EndRequest();
  }

  void OnDrained() {
    if (answer_pipe_ && !answer_pipe_->empty()) {
      call_->WriteFrom(*answer_pipe_);
      if (!answer_pipe_->empty()) return;
    }
    if (connection_ != nullptr) connection_->ResumeAnswer();
  }

  void OnGone() {
    if (connection_ != nullptr) connection_->Abandon();
    Over();
  }

 private:
  void WriteHead(std::string& out, const http::Request& request, const ConnectionOptions& options);

  void OnAnswerInterim(const http::ReceivedResponse& response) override {
    const ConnectionOptions options(response.headers);
    std::vector<http::Header> passed;
    for (const http::Header& header : response.headers) {
      const HeaderKind kind = policy::KindOf(header.name);
      if (kind == HeaderKind::kContentLength) continue;
      if (policy::Passes(kind, header.name, header.value, options, Direction::kAnswer)) {
        passed.push_back(header);
      }
    }
    call_->Inform(response.status, passed);
  }

  void OnAnswerHead(const http::ReceivedResponse& response) override {
    call_->MarkAnswered();
    const ConnectionOptions options(response.headers);
    if (options.overflowed()) {
      connection_->Abandon();
      return Fail(502, Refusal::kUpstreamAnswer, "the server's Connection header is too long");
    }
    std::string& lines = proxy_.lines_;
    lines.clear();
    for (const http::Header& header : response.headers) {
      const HeaderKind kind = policy::KindOf(header.name);
      if (kind == HeaderKind::kContentLength || kind == HeaderKind::kXRequestId) continue;
      if (policy::Passes(kind, header.name, header.value, options, Direction::kAnswer)) {
        AppendLine(lines, header);
      }
    }
    if (response.switches) return Switch(response, lines);
    if (IsEventStream(response)) connection_->AllowSilence();
    http::ResponseHead head;
    head.status = response.status;
    head.reason = response.reason;
    head.lines = lines;
    head.has_date = response.has_date;
    head.content_length = response.content_length;
    call_->Begin(head);
    call_->Cork();
  }

  void OnAnswerBody(std::string_view data) override {
    call_->Cork();
    if (!call_->Write(data)) connection_->PauseAnswer();
  }

  void OnAnswerPause() override {
    if (!call_->has_begun()) return;
    call_->Uncork();
    if (connection_->answer_left() < kWorthSplicing || call_->room_to_splice() == 0) return;
    if (!answer_pipe_) answer_pipe_ = proxy_.TakePipe();
    if (answer_pipe_) connection_->SpliceAnswer();
  }

  void OnAnswerReadable() override {
    const event::IoResult result = connection_->ReadAnswerInto(*answer_pipe_);
    if (result.kind != event::IoResult::Kind::kDone) return;
    call_->WriteFrom(*answer_pipe_);
    if (!answer_pipe_->empty()) connection_->PauseAnswer();
  }

  void OnAnswerEnd(std::span<const http::Header> trailers) override {
    Call& call = *call_;
    Over();
    call.End(trailers.empty() ? trailers : proxy_.PassedTrailers(trailers));
  }

  void OnAnswerFailed(const http::ClientError& error) override {
    connection_ = nullptr;
    if (MayRetry(error)) return Retry();
    const Verdict verdict = VerdictOn(error.failure);
    Fail(verdict.status, verdict.why, Concat("the server did not answer: ", error.message));
  }

  void OnRequestDrained() override {
    if (request_pipe_ && !request_pipe_->empty()) {
      PassBody();
      if (!request_pipe_->empty()) return;
    }
    call_->ResumeBody();
  }

  void EndRequest() {
    const std::span<const http::Header> trailers = call_->request().trailers;
    connection_->End(trailers.empty() ? trailers : proxy_.PassedTrailers(trailers));
  }

  // The server was closing this connection when the request met it.
  bool MayRetry(const http::ClientError& error) const {
    if (retried_ || call_->has_begun() || error.answered || !error.was_used || !whole_) {
      return false;
    }
    if (error.failure != ClientFailure::kClosed && error.failure != ClientFailure::kConnect) {
      return false;
    }
    return error.unsent || IsIdempotent(call_->request().method);
  }

  void Retry() {
    retried_ = true;
    proxy_.traffic_.upstream_retries.Add(1);
    if (!Start(*call_, true)) return;
    if (!kept_.empty()) connection_->Write(kept_);
    if (request_ended_ && FramingOf(call_->request()) != BodyFraming::kNone) {
      EndRequest();
    }
    call_->ResumeBody();
  }

  void Switch(const http::ReceivedResponse& response, std::string_view lines) {
    const std::string protocol(http::FindHeader(response.headers, "upgrade").value_or(""));
    if (!http::IsMember(protocol, call_->upgrade())) {
      connection_->Abandon();
      return Fail(502, Refusal::kUpstreamAnswer,
                  "the server switched to another protocol, which nobody had asked for");
    }
    http::DetachedConnection server = connection_->TakeOver();
    Call& call = *call_;
    Over();
    call.SwitchProtocols(protocol, lines, std::move(server));
  }

  void Fail(int status, Refusal why, std::string_view message) {
    Call& call = *call_;
    const std::string kept(message);
    Over();
    call.Fail(status, why, kept);
  }

  void Over() {
    connection_ = nullptr;
    call_ = nullptr;
    request_ended_ = retried_ = false;
    whole_ = true;
    body_seen_ = 0;
    kept_.clear();
    proxy_.GiveBack(std::move(request_pipe_));
    proxy_.GiveBack(std::move(answer_pipe_));
    proxy_.GiveBack(*this);
  }

  Proxy& proxy_;
  Call* call_ = nullptr;
  http::ClientConnection* connection_ = nullptr;
  bool request_ended_ = false;
  bool retried_ = false;
  bool whole_ = true;  // `kept_` is all of the body that has come
  std::string kept_;
  uint64_t body_seen_ = 0;
  std::unique_ptr<event::Pipe> request_pipe_;  // while bodies pass through them
  std::unique_ptr<event::Pipe> answer_pipe_;
};

void Proxy::Passage::WriteHead(std::string& out, const http::Request& request,
                               const ConnectionOptions& options) {
  out.append(request.method_name).append(" ");
  // RFC 9112, 3.2.2: an absolute form is for proxies; its host goes into Host.
  if (request.target.starts_with('/') || request.target == "*") {
    out += request.target;
  } else {
    const size_t authority = request.target.find("://") + 3;
    const std::string_view rest = request.target.substr(
        std::min(request.target.find_first_of("/?", authority), request.target.size()));
    if (!rest.starts_with('/')) out += '/';
    out += rest;
  }
  out.append(" HTTP/1.1\r\nHost: ");
  out.append(request.host.empty() ? std::string_view(proxy_.authority_) : request.host);
  out += "\r\n";
  bool trailers = false;
  for (const http::Header& header : request.headers) {
    const HeaderKind kind = policy::KindOf(header.name);
    if (kind == HeaderKind::kHost || policy::WrittenByUs(kind)) continue;
    if (kind == HeaderKind::kTe) {
      trailers = trailers || policy::AcceptsTrailers(header.value);
      continue;
    }
    if (policy::Passes(kind, header.name, header.value, options, Direction::kRequest)) {
      AppendLine(out, header);
    }
  }
  out += call_->lines();
  if (trailers && call_->upgrade().empty()) out += "TE: trailers\r\nConnection: TE\r\n";
  if (!call_->upgrade().empty()) {
    out.append("Connection: Upgrade\r\nUpgrade: ").append(call_->upgrade()).append("\r\n");
  }
  if (request.chunked) {
    out += "Transfer-Encoding: chunked\r\n";
  } else if (request.content_length) {
    std::array<char, 24> digits;
    char* end =
        std::to_chars(digits.data(), digits.data() + digits.size(), *request.content_length).ptr;
    out.append("Content-Length: ").append(digits.data(), end).append("\r\n");
  }
}

Proxy::Proxy(UpstreamPool& pool, std::string authority, policy::TrafficCounters& traffic)
    : pool_(pool), authority_(std::move(authority)), traffic_(traffic) {}

Proxy::~Proxy() = default;

void Proxy::Begin(Call& call) {
  Passage& passage = Take();
  call.state = &passage;
  passage.Start(call, false);
}

void Proxy::OnBody(Call& call, std::string_view data) {
  static_cast<Passage*>(call.state)->OnBody(data);
}
void Proxy::OnBodyReadable(Call& call) { static_cast<Passage*>(call.state)->OnBodyReadable(); }
void Proxy::OnRequestEnd(Call& call) { static_cast<Passage*>(call.state)->OnRequestEnd(); }
void Proxy::OnDrained(Call& call) { static_cast<Passage*>(call.state)->OnDrained(); }
void Proxy::OnGone(Call& call) { static_cast<Passage*>(call.state)->OnGone(); }

Proxy::Passage& Proxy::Take() {
  if (spare_.empty()) {
    passages_.push_back(std::make_unique<Passage>(*this));
    return *passages_.back();
  }
  Passage& passage = *spare_.back();
  spare_.pop_back();
  return passage;
}

// Nothing that belongs into a head (RFC 9110, 6.5.1). Good until the next call.
std::span<const http::Header> Proxy::PassedTrailers(std::span<const http::Header> trailers) {
  trailers_.clear();
  for (const http::Header& trailer : trailers) {
    if (policy::KindOf(trailer.name) == HeaderKind::kOther) trailers_.push_back(trailer);
  }
  return trailers_;
}

std::unique_ptr<event::Pipe> Proxy::TakePipe() {
  if (!spare_pipes_.empty()) {
    std::unique_ptr<event::Pipe> pipe = std::move(spare_pipes_.back());
    spare_pipes_.pop_back();
    return pipe;
  }
  Result<std::unique_ptr<event::Pipe>> pipe = event::Pipe::Open();
  return pipe ? *std::move(pipe) : nullptr;
}

void Proxy::GiveBack(std::unique_ptr<event::Pipe> pipe) {
  // One with something in it is of no use to anybody else.
  if (pipe && pipe->empty() && spare_pipes_.size() < kSparePipes) {
    spare_pipes_.push_back(std::move(pipe));
  }
}

void Proxy::GiveBack(Passage& passage) { spare_.push_back(&passage); }

}  // namespace modal::adapters

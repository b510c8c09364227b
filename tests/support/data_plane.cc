#include "tests/support/data_plane.h"

#include <doctest/doctest.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>

#include "agent/base/strings.h"
#include "agent/http/message.h"

namespace modal::test {

namespace {

constexpr std::string_view kEndOfHead = "\r\n\r\n";

using Fields = std::vector<std::pair<std::string, std::string>>;

// Every line but the first of `lines` that is not empty is "Name: value".
bool ReadFields(std::string_view lines, Fields& fields) {
  while (!lines.empty()) {
    const size_t end = std::min(lines.find("\r\n"), lines.size());
    const std::string_view line = lines.substr(0, end);
    lines.remove_prefix(std::min(end + 2, lines.size()));
    if (line.empty()) continue;
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) return false;
    fields.emplace_back(line.substr(0, colon), Trim(line.substr(colon + 1)));
  }
  return true;
}

}  // namespace

// ---- Message ----

int Message::status() const {
  return start.starts_with("HTTP/1.1 ") ? std::atoi(start.c_str() + sizeof "HTTP/1.1") : 0;
}

size_t Message::Count(std::string_view name) const {
  return static_cast<size_t>(std::count_if(
      headers.begin(), headers.end(),
      [name](const auto& header) { return http::EqualsIgnoringCase(header.first, name); }));
}

std::string Message::operator[](std::string_view name) const {
  for (const auto& [its_name, value] : headers) {
    if (http::EqualsIgnoringCase(its_name, name)) return value;
  }
  return "";
}

std::string Message::error() const {
  constexpr std::string_view kStart = "{\"error\":\"";
  if (!body.starts_with(kStart)) return "";
  return body.substr(kStart.size(), body.find('"', kStart.size()) - kStart.size());
}

// ---- Wire ----

void Wire::Send(std::string_view bytes) { REQUIRE(TrySend(bytes)); }

bool Wire::TrySend(std::string_view bytes) {
  while (!bytes.empty()) {
    const size_t sent = SendSome(bytes);
    bytes.remove_prefix(sent);
    if (sent > 0) continue;
    if (errno != EAGAIN) return false;
    pollfd event{socket_.get(), POLLOUT, 0};
    REQUIRE(::poll(&event, 1, DeadlineMs()) == 1);
  }
  return true;
}

size_t Wire::SendSome(std::string_view bytes) {
  const ssize_t sent =
      ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  return sent > 0 ? static_cast<size_t>(sent) : 0;
}

// False at the end.
bool Wire::ReadMore() {
  if (end_ != End::kNone) return false;
  REQUIRE(WaitReadable(socket_.get()));
  std::array<char, 65536> buffer;
  const ssize_t size = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
  if (size > 0) {
    unread_.append(buffer.data(), static_cast<size_t>(size));
    return true;
  }
  end_ = size == 0 ? End::kClosed : End::kReset;
  return false;
}

std::string Wire::Read(size_t size) {
  while (unread_.size() < size && ReadMore()) {
  }
  const std::string taken = unread_.substr(0, size);
  unread_.erase(0, taken.size());
  return taken;
}

std::string Wire::ReadTo(std::string_view mark) {
  size_t from = 0;
  while (unread_.find(mark, from) == std::string::npos) {
    from = unread_.size() - std::min(unread_.size(), mark.size());
    if (!ReadMore()) return std::exchange(unread_, {});
  }
  return Read(unread_.find(mark, from) + mark.size());
}

std::string Wire::ReadToEnd() {
  while (ReadMore()) {
  }
  return std::exchange(unread_, {});
}

bool Wire::HasInput() {
  if (!unread_.empty() || end_ != End::kNone) return true;
  pollfd event{socket_.get(), POLLIN, 0};
  return ::poll(&event, 1, 0) == 1;
}

Message Wire::ReadMessage(bool to_head) {
  Message message;
  const std::string head = ReadTo(kEndOfHead);
  const size_t line = std::min(head.find("\r\n"), head.size());
  message.start = head.substr(0, line);
  if (!head.ends_with(kEndOfHead)) return message;
  if (!ReadFields(std::string_view(head).substr(line), message.headers)) return message;
  message.chunked = message["Transfer-Encoding"] == "chunked";
  const int status = message.status();
  const bool is_answer = message.start.starts_with("HTTP/");
  if (to_head || (is_answer && (status < 200 || status == 204 || status == 304))) {
    message.whole = true;
  } else if (message.chunked) {
    ReadChunks(message);
  } else if (message.Has("Content-Length")) {
    const size_t length = std::strtoul(message["Content-Length"].c_str(), nullptr, 10);
    message.body = Read(length);
    message.whole = message.body.size() == length;
  } else if (is_answer) {
    message.body = ReadToEnd();
    message.whole = end_ == End::kClosed;
  } else {
    message.whole = true;
  }
  return message;
}

void Wire::ReadChunks(Message& message) {
  for (;;) {
    const std::string line = ReadTo("\r\n");
    if (!line.ends_with("\r\n")) return;
    char* end = nullptr;
    const size_t size = std::strtoul(line.c_str(), &end, 16);
    if (end == line.c_str()) return;
    if (size == 0) break;
    const std::string data = Read(size);
    message.body += data;
    if (data.size() < size || Read(2) != "\r\n") return;
  }
  std::string lines;
  for (;;) {
    const std::string line = ReadTo("\r\n");
    if (!line.ends_with("\r\n")) return;
    if (line == "\r\n") break;
    lines += line;
  }
  message.whole = ReadFields(lines, message.trailers);
}

void Wire::ShutWrite() { ::shutdown(socket_.get(), SHUT_WR); }

void Wire::Reset() {
  const linger none{1, 0};
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &none, sizeof none);
  socket_.Reset();
}

// ---- DataPlane ----

namespace {

policy::GatewayConfig Changed(policy::GatewayConfig config, const DataPlane::Change& change) {
  change(config);
  return config;
}

}  // namespace

GatewayAlone::Options DataPlane::OptionsOf(const policy::GatewayConfig& config,
                                           const std::vector<policy::TokenRecord>& tokens,
                                           bool ready, UniqueFd access_log) {
  GatewayAlone::Options options;
  options.config = config;
  options.tokens = tokens;
  options.ready = ready;
  options.access_log = std::move(access_log);
  return options;
}

DataPlane::DataPlane(const Change& change, std::vector<policy::TokenRecord> its_tokens, bool ready,
                     UniqueFd access_log)
    : listener_(ListenAnywhere()),
      config(Changed(PlainConfig(PortOf(listener_)), change)),
      tokens(std::move(its_tokens)),
      gateway(OptionsOf(config, tokens, ready, std::move(access_log))) {}

Wire DataPlane::Connect() const {
  Wire wire(ConnectTo(gateway.data_port()));
  REQUIRE(static_cast<bool>(wire));
  return wire;
}

Wire DataPlane::Ask(std::string_view request) const {
  Wire wire = Connect();
  wire.Send(request);
  return wire;
}

Wire DataPlane::Accept() const {
  REQUIRE(WaitReadable(listener_.get()));
  return Wire(UniqueFd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)));
}

bool DataPlane::HasConnection() const {
  pollfd event{listener_.get(), POLLIN, 0};
  return ::poll(&event, 1, 0) == 1;
}

void DataPlane::Await(const std::function<bool(const policy::TrafficStatus&)>& condition) const {
  const auto end = std::chrono::steady_clock::now() + Settings().deadline;
  while (!condition(traffic())) {
    REQUIRE(std::chrono::steady_clock::now() < end);
    ::poll(nullptr, 0, 1);
  }
}

void DataPlane::TakeReply() {
  const health::GatewayReply reply = gateway.Reply();
  (reply.kind == health::GatewayReply::Kind::kDrained ? last_drained_ : last_probe_) = reply.id;
}

void DataPlane::RoundTrip() {
  // A probe of its own admin port takes it several turns of its loop.
  const uint32_t id = last_probe_ + 1;
  gateway.AskProbe(id, gateway.port(), "/livez");
  while (last_probe_ != id) TakeReply();
}

void DataPlane::Enter(health::Carriage carriage) {
  gateway.SetCarriage(carriage, ++last_order_);
  RoundTrip();
}

bool DataPlane::drained() {
  RoundTrip();
  return last_drained_ == last_order_;
}

void DataPlane::AwaitDrained() {
  while (last_drained_ != last_order_) TakeReply();
}

size_t DataPlane::SendUntilFull(Wire& wire, size_t most) {
  constexpr int kRounds = 20;  // without a byte: it is full
  const std::string bytes(64 * 1024, 'x');
  size_t sent = 0;
  for (int round = 0; round < kRounds && sent < most; ++round) {
    while (sent < most) {
      const size_t more = wire.SendSome(std::string_view(bytes).substr(0, most - sent));
      if (more == 0) break;
      sent += more;
      round = 0;
    }
    RoundTrip();
  }
  return sent;
}

Stopped::Stopped(const GatewayAlone& gateway) : pid_(gateway.pid()) {
  ::kill(pid_, SIGSTOP);
  siginfo_t info{};
  REQUIRE(::waitid(P_PID, static_cast<id_t>(pid_), &info, WSTOPPED) == 0);
}

Stopped::~Stopped() { ::kill(pid_, SIGCONT); }

std::string Get(std::string_view target, std::string_view lines) {
  return Concat("GET ", target, " HTTP/1.1\r\nHost: x\r\n", lines, "\r\n");
}

std::string Post(std::string_view target, std::string_view body, std::string_view lines) {
  return Concat("POST ", target, " HTTP/1.1\r\nHost: x\r\nContent-Length: ", body.size(), "\r\n",
                lines, "\r\n", body);
}

std::string Answer(int status, std::string_view body, std::string_view lines) {
  return Concat("HTTP/1.1 ", status, " Its Reason\r\n", lines, "Content-Length: ", body.size(),
                "\r\n\r\n", body);
}

}  // namespace modal::test

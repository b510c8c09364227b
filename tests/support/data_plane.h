// The data plane of a gateway process between a client and a server that the test plays itself,
// byte by byte.
//
//   DataPlane plane;
//   Wire client = plane.Connect();
//   client.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
//   Wire server = plane.Accept();
//   CHECK(server.ReadMessage().start == "GET / HTTP/1.1");
//   server.Send("HTTP/1.1 204 No Content\r\n\r\n");
//   CHECK(client.ReadMessage().status() == 204);
//
// Whatever is waited for fails the test at the deadline.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/unique_fd.h"
#include "agent/policy/gateway_config.h"
#include "tests/support/gateway_alone.h"

namespace modal::test {

// A request or an answer as it came over the wire.
struct Message {
  std::string start;  // the first line
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  std::vector<std::pair<std::string, std::string>> trailers;
  bool chunked = false;
  bool whole = false;  // false: the connection ended before it did

  int status() const;
  size_t Count(std::string_view name) const;
  bool Has(std::string_view name) const { return Count(name) > 0; }
  // The first of this name (in any case); empty if there is none.
  std::string operator[](std::string_view name) const;
  // Of an error of the gateway itself: "bad_request".
  std::string error() const;
};

// A TCP connection.
class Wire {
 public:
  enum class End { kNone, kClosed, kReset };

  Wire() = default;
  explicit Wire(UniqueFd socket) : socket_(std::move(socket)) {}
  explicit operator bool() const { return static_cast<bool>(socket_); }
  int fd() const { return socket_.get(); }

  // Sends all of it. The first fails the test if the peer is gone, the second says so.
  void Send(std::string_view bytes);
  bool TrySend(std::string_view bytes);
  // As many of `bytes` as can be sent without waiting.
  size_t SendSome(std::string_view bytes);

  // One message by its framing; `to_head`: an answer that has no body in any case. An interim
  // answer is one of its own.
  Message ReadMessage(bool to_head = false);
  // Exactly so many bytes, fewer if the connection ends.
  std::string Read(size_t size);
  // Up to the end of `mark`.
  std::string ReadTo(std::string_view mark);
  // Everything that still comes. Then end() says how it ended.
  std::string ReadToEnd();
  End end() const { return end_; }
  // Something has come already that was not read, be it the end.
  bool HasInput();

  void ShutWrite();
  void Close() { socket_.Reset(); }
  void Reset();  // closes with a RST

 private:
  bool ReadMore();
  void ReadChunks(Message& message);

  UniqueFd socket_;
  std::string unread_;
  End end_ = End::kNone;
};

class DataPlane {
 public:
  using Change = std::function<void(policy::GatewayConfig&)>;

  DataPlane() : DataPlane([](policy::GatewayConfig&) {}) {}
  explicit DataPlane(const Change& change, std::vector<policy::TokenRecord> tokens = {},
                     bool ready = true, UniqueFd access_log = {});

  // A client's connection.
  Wire Connect() const;
  Wire Ask(std::string_view request) const;
  // The next connection to the server.
  Wire Accept() const;
  bool HasConnection() const;
  // Nobody listens at the server's port any more.
  void StopServer() { listener_.Reset(); }

  policy::TrafficStatus traffic() const { return gateway.Seen().traffic; }
  // Waits until the gateway's counters say so.
  void Await(const std::function<bool(const policy::TrafficStatus&)>& condition) const;
  // Tells it, and waits until it has heard.
  void Enter(health::Carriage carriage);
  // It says that nothing is in flight any more, after the last Enter().
  bool drained();
  void AwaitDrained();
  // What has reached the gateway before has been seen to after this.
  void RoundTrip();
  // As much of this as goes through while nobody reads at the other end.
  size_t SendUntilFull(Wire& wire, size_t most);

 private:
  UniqueFd listener_;

 public:
  policy::GatewayConfig config;
  std::vector<policy::TokenRecord> tokens;
  GatewayAlone gateway;

 private:
  static GatewayAlone::Options OptionsOf(const policy::GatewayConfig& config,
                                         const std::vector<policy::TokenRecord>& tokens, bool ready,
                                         UniqueFd access_log);
  void TakeReply();

  uint32_t last_order_ = 0;
  uint32_t last_drained_ = 0;
  uint32_t last_probe_ = 0;
};

// While it lives the gateway does nothing; what happens meanwhile comes to it all at once.
class Stopped {
 public:
  explicit Stopped(const GatewayAlone& gateway);
  ~Stopped();
  Stopped(const Stopped&) = delete;
  Stopped& operator=(const Stopped&) = delete;

 private:
  const pid_t pid_;
};

// "GET TARGET HTTP/1.1" with a Host and these lines ("Name: value\r\n" each).
std::string Get(std::string_view target, std::string_view lines = {});
std::string Post(std::string_view target, std::string_view body, std::string_view lines = {});
// An answer of this status, with a Content-Length.
std::string Answer(int status, std::string_view body, std::string_view lines = {});

}  // namespace modal::test

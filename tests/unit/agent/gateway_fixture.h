// What tests of the gateway's parts share: a loop, a channel with the supervisor's end in the
// test's hand, and small programs' worth of HTTP.
#pragma once

#include <doctest/doctest.h>
#include <sys/socket.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/check.h"
#include "agent/base/status_board.h"
#include "agent/base/unique_fd.h"
#include "agent/event/listener.h"
#include "agent/event/loop.h"
#include "agent/event/uv_clock.h"
#include "agent/http/server.h"
#include "healthcheck/gateway_channel.h"
#include "tests/support/run_loop.h"

namespace modal::test {

// The two ends of a channel.
struct ChannelPair {
  ChannelPair() {
    int ends[2];
    MODAL_CHECK(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    supervisor = UniqueFd(ends[0]);
    gateway = UniqueFd(ends[1]);
  }
  UniqueFd supervisor;
  UniqueFd gateway;
};

inline UniqueFd ListenAnywhere(const char* address = "127.0.0.1") {
  const Result<SocketAddress> any = SocketAddress::Parse(address, 0);
  MODAL_CHECK(any.ok());
  Result<UniqueFd> listener = event::ListenOn(*any);
  return listener ? *std::move(listener) : UniqueFd();
}

inline uint16_t PortOf(int fd) {
  const Result<SocketAddress> address = event::BoundAddress(fd);
  MODAL_CHECK(address.ok());
  return address->port();
}

inline health::GatewayRequest ProbeOf(uint32_t id, uint16_t port, std::string_view path,
                                      uint32_t timeout_ms = 60'000) {
  health::GatewayRequest request{};
  SetBoardText(request.address, "127.0.0.1");
  request.id = id;
  request.timeout_ms = timeout_ms;
  request.port = port;
  SetBoardText(request.path, path);
  return request;
}

inline std::optional<health::GatewayReply> TakeReply(int channel) {
  health::GatewayReply reply;
  const ssize_t size = ::recv(channel, &reply, sizeof reply, MSG_DONTWAIT | MSG_TRUNC);
  if (size != static_cast<ssize_t>(sizeof reply)) return std::nullopt;
  return reply;
}

}  // namespace modal::test

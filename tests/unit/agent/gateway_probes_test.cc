#include "agent/gateway_probes.h"

#include "tests/unit/agent/gateway_fixture.h"

namespace modal {
namespace {

using health::GatewayReply;
using health::GatewayRequest;
using namespace test;

struct Fixture {
  Fixture() {
    Result<std::unique_ptr<GatewayProbes>> started =
        GatewayProbes::Start(loop, clock, std::move(channel.gateway), [this] { ++closed; });
    REQUIRE(started.ok());
    probes = *std::move(started);
  }

  // An HTTP server that answers by path; what it is to leave unanswered it keeps.
  uint16_t StartServer(const char* address = "127.0.0.1") {
    UniqueFd listener = ListenAnywhere(address);
    if (!listener) return 0;
    const uint16_t port = PortOf(listener.get());
    server = std::make_unique<http::Server>(
        loop, clock, http::ServerOptions{},
        [this](const http::Request& request, http::Responder responder) {
          if (request.path == "/hold") {
            held.push_back(std::make_unique<http::Responder>(std::move(responder)));
          } else {
            responder.Send({request.path == "/ok" ? 204 : 500, "", ""});
          }
        });
    REQUIRE(server->Serve(std::move(listener)).ok());
    return port;
  }

  void Send(const GatewayRequest& request) {
    REQUIRE(::send(channel.supervisor.get(), &request, sizeof request, 0) ==
            static_cast<ssize_t>(sizeof request));
  }
  GatewayReply NextReply() {
    std::optional<GatewayReply> reply;
    REQUIRE(
        RunUntil(loop, [&] { return (reply = TakeReply(channel.supervisor.get())).has_value(); }));
    return *reply;
  }

  event::Loop loop;
  event::UvClock clock{loop};
  ChannelPair channel;
  int closed = 0;
  std::unique_ptr<http::Server> server;
  std::vector<std::unique_ptr<http::Responder>> held;
  std::unique_ptr<GatewayProbes> probes;
};

TEST_CASE("a probe's reply has its id and the status of the answer") {
  Fixture gateway;
  const uint16_t port = gateway.StartServer();
  gateway.Send(ProbeOf(7, port, "/ok"));
  GatewayReply reply = gateway.NextReply();
  CHECK(reply.id == 7);
  CHECK(reply.status == 204);
  CHECK(BoardText(reply.error).empty());
  gateway.Send(ProbeOf(8, port, "/broken"));
  reply = gateway.NextReply();
  CHECK(reply.id == 8);
  CHECK(reply.status == 500);
  CHECK(gateway.probes->running() == 0);
}

TEST_CASE("a probe can go to [::1]") {
  Fixture gateway;
  const uint16_t port = gateway.StartServer("::1");
  if (port == 0) {
    MESSAGE("skipped: there is no IPv6 here");
    return;
  }
  GatewayRequest request = ProbeOf(1, port, "/ok");
  SetBoardText(request.address, "::1");
  gateway.Send(request);
  CHECK(gateway.NextReply().status == 204);
}

TEST_CASE("a probe that gets no answer says why") {
  Fixture gateway;
  SUBCASE("nobody listens") {
    const Result<SocketAddress> any = SocketAddress::Parse("127.0.0.1", 0);
    const UniqueFd bound(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::bind(bound.get(), any->get(), any->size()) == 0);
    gateway.Send(ProbeOf(1, PortOf(bound.get()), "/ok"));
    const GatewayReply reply = gateway.NextReply();
    CHECK(reply.status == 0);
    CHECK(BoardText(reply.error) == "connect: Connection refused");
  }
  SUBCASE("it takes too long") {
    gateway.Send(ProbeOf(1, gateway.StartServer(), "/hold", 1));
    const GatewayReply reply = gateway.NextReply();
    CHECK(reply.status == 0);
    CHECK(BoardText(reply.error).ends_with("within 1 ms"));
  }
  SUBCASE("the path cannot be sent") {
    gateway.Send(ProbeOf(1, gateway.StartServer(), "no slash"));
    const GatewayReply reply = gateway.NextReply();
    CHECK(reply.status == 0);
    CHECK_FALSE(BoardText(reply.error).empty());
  }
}

TEST_CASE("replies come in the order in which the results are known") {
  Fixture gateway;
  const uint16_t port = gateway.StartServer();
  gateway.Send(ProbeOf(1, port, "/hold"));
  gateway.Send(ProbeOf(2, port, "/ok"));
  CHECK(gateway.NextReply().id == 2);
  REQUIRE(RunUntil(gateway.loop, [&] { return gateway.held.size() == 1; }));
  gateway.held.at(0)->Send({200, "", ""});
  CHECK(gateway.NextReply().id == 1);
}

TEST_CASE("what is too much at the same time is refused, and there is room again afterwards") {
  Fixture gateway;
  const uint16_t port = gateway.StartServer();
  constexpr uint32_t kMost = GatewayProbes::kMostAtOnce;
  for (uint32_t id = 0; id < kMost; ++id) gateway.Send(ProbeOf(id, port, "/hold"));
  gateway.Send(ProbeOf(kMost, port, "/ok"));
  GatewayReply reply = gateway.NextReply();
  CHECK(reply.id == kMost);
  CHECK(reply.status == 0);
  CHECK(BoardText(reply.error) == "too many probes at the same time");
  CHECK(gateway.probes->running() == kMost);

  REQUIRE(RunUntil(gateway.loop, [&] { return gateway.held.size() == kMost; }));
  gateway.held.pop_back();  // unanswered: 500
  CHECK(gateway.NextReply().status == 500);
  gateway.Send(ProbeOf(100, port, "/ok"));
  reply = gateway.NextReply();
  CHECK(reply.id == 100);
  CHECK(reply.status == 204);
}

TEST_CASE("messages of the wrong size are dropped") {
  Fixture gateway;
  const uint16_t port = gateway.StartServer();
  const std::string large(sizeof(GatewayRequest) + 1, 'x');
  for (const size_t size : {size_t{1}, sizeof(GatewayRequest) - 1, large.size()}) {
    REQUIRE(::send(gateway.channel.supervisor.get(), large.data(), size, 0) ==
            static_cast<ssize_t>(size));
  }
  gateway.Send(ProbeOf(5, port, "/ok"));
  CHECK(gateway.NextReply().id == 5);
  CHECK(gateway.closed == 0);
}

TEST_CASE("a supervisor that reads no replies is not waited for") {
  Fixture gateway;
  const int small = 1;
  ::setsockopt(gateway.channel.supervisor.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  for (uint32_t id = 0; id < 2'000; ++id) {
    gateway.Send(ProbeOf(id, 1, "no slash"));
    REQUIRE(RunUntil(gateway.loop, [&] { return gateway.probes->running() == 1; }));
    REQUIRE(RunUntil(gateway.loop, [&] { return gateway.probes->running() == 0; }));
  }
  size_t replies = 0;
  while (TakeReply(gateway.channel.supervisor.get())) ++replies;
  CHECK(replies > 0);
  CHECK(replies < 2'000);
}

TEST_CASE("the end of the channel is told once") {
  Fixture gateway;
  gateway.channel.supervisor.Reset();
  REQUIRE(RunUntil(gateway.loop, [&] { return gateway.closed > 0; }));
  gateway.loop.RunOnce();
  CHECK(gateway.closed == 1);
}

}  // namespace
}  // namespace modal

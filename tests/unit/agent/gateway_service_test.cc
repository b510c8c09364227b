#include "agent/gateway_service.h"

#include <fcntl.h>

#include <array>

#include "agent/event/poller.h"
#include "tests/support/fake_log.h"
#include "tests/unit/agent/gateway_fixture.h"

namespace modal {
namespace {

using health::AgentStatus;
using health::GatewayStatus;
using namespace test;

UniqueFd Duplicate(int fd) { return UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 0)); }

BoardMapping NewBoard(Result<BoardMapping> board) {
  REQUIRE(board.ok());
  return *std::move(board);
}

// The service with the supervisor's side of everything.
struct Fixture {
  Fixture() {
    status.ready = status.startup_done = true;
    supervisor_board.Publish(status);
    GatewayService::Parts parts{
        std::move(channel.gateway),
        NewBoard(BoardMapping::OpenReadOnly(Duplicate(supervisor_board.mapping().fd()),
                                            sizeof(BoardLayout<AgentStatus>))),
        NewBoard(BoardMapping::OpenWritable(Duplicate(gateway_mapping.fd()),
                                            sizeof(BoardLayout<GatewayStatus>))),
        {}};
    parts.listeners.push_back(ListenAnywhere());
    port = PortOf(parts.listeners.back().get());
    parts.listeners.push_back(ListenAnywhere());
    second_port = PortOf(parts.listeners.back().get());
    parts.most_connections = 10;
    Result<std::unique_ptr<GatewayService>> started =
        GatewayService::Start(loop, clock, log.log, std::move(parts), [this] { closed = true; });
    REQUIRE(started.ok());
    service = *std::move(started);
  }

  UniqueFd Connect(uint16_t to) {
    const Result<SocketAddress> address = SocketAddress::Parse("127.0.0.1", to);
    REQUIRE(address.ok());
    UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::connect(client.get(), address->get(), address->size()) == 0);
    return client;
  }

  // Everything that comes until the server closes.
  std::string Ask(uint16_t to, const std::string& request) {
    const UniqueFd client = Connect(to);
    REQUIRE(::send(client.get(), request.data(), request.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(request.size()));
    std::string answer;
    const bool whole = RunUntil(loop, [&] {
      std::array<char, 4096> buffer;
      const ssize_t size = ::recv(client.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (size > 0) answer.append(buffer.data(), static_cast<size_t>(size));
      return size == 0;
    });
    CHECK(whole);
    return answer;
  }
  std::string Get(const std::string& path) {
    return Ask(port, "GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  }

  GatewayStatus Seen() {
    const std::optional<GatewayStatus> seen = gateway_board.Read();
    REQUIRE(seen.has_value());
    return *seen;
  }

  event::Loop loop;
  event::UvClock clock{loop};
  FakeLog log;
  ChannelPair channel;
  AgentStatus status = health::NewAgentStatus();
  BoardWriter<AgentStatus> supervisor_board{
      NewBoard(BoardMapping::CreateToWrite("agent", sizeof(BoardLayout<AgentStatus>)))};
  BoardMapping gateway_mapping =
      NewBoard(BoardMapping::CreateToRead("gateway", sizeof(BoardLayout<GatewayStatus>)));
  BoardReader<GatewayStatus> gateway_board{NewBoard(BoardMapping::OpenReadOnly(
      Duplicate(gateway_mapping.fd()), sizeof(BoardLayout<GatewayStatus>)))};
  uint16_t port = 0;
  uint16_t second_port = 0;
  bool closed = false;
  std::unique_ptr<GatewayService> service;
};

bool StartsWith(const std::string& text, const std::string& start) {
  return text.starts_with(start);
}

TEST_CASE("the endpoints say what stands on the supervisor's board at that moment") {
  Fixture gateway;
  CHECK(StartsWith(gateway.Get("/readyz"), "HTTP/1.1 200 OK\r\n"));
  gateway.status.ready = false;
  health::EnterPhase(gateway.status, health::Phase::kDraining, 5);
  gateway.supervisor_board.Publish(gateway.status);
  const std::string answer = gateway.Get("/readyz");
  CHECK(StartsWith(answer, "HTTP/1.1 503 Service Unavailable\r\n"));
  CHECK(answer.find("\r\nContent-Type: application/json\r\n") != std::string::npos);
  CHECK(answer.ends_with("{\"error\":\"not_ready\",\"message\":\"Draining\"}\n"));
}

TEST_CASE("answers are not to be stored, and a refused method is told those that work") {
  Fixture gateway;
  CHECK(gateway.Get("/livez").find("\r\nCache-Control: no-store\r\n") != std::string::npos);
  const std::string refused =
      gateway.Ask(gateway.port, "DELETE /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  CHECK(StartsWith(refused, "HTTP/1.1 405 "));
  CHECK(refused.find("\r\nAllow: GET, HEAD\r\n") != std::string::npos);
  CHECK(refused.find("\r\nCache-Control: no-store\r\n") != std::string::npos);
}

TEST_CASE("HEAD has the headers of GET and no body") {
  Fixture gateway;
  const std::string answer =
      gateway.Ask(gateway.port, "HEAD /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  CHECK(answer.find("\r\nContent-Length: 3\r\n") != std::string::npos);
  CHECK(answer.ends_with("\r\n\r\n"));
}

TEST_CASE("every listener is served") {
  Fixture gateway;
  CHECK(StartsWith(gateway.Ask(gateway.second_port, "GET /livez HTTP/1.0\r\n\r\n"),
                   "HTTP/1.1 200 OK\r\n"));
}

TEST_CASE("a board that its writer never finishes is 503") {
  Fixture gateway;
  auto* board = static_cast<BoardLayout<AgentStatus>*>(gateway.supervisor_board.mapping().data());
  board->sequence |= 1;
  const std::string answer = gateway.Get("/livez");
  CHECK(StartsWith(answer, "HTTP/1.1 503 "));
  CHECK(answer.find("status_unavailable") != std::string::npos);
}

TEST_CASE("the gateway's board follows its counters") {
  Fixture gateway;
  gateway.service->Run(true);
  CHECK(StartsWith(gateway.Get("/livez"), "HTTP/1.1 200"));
  CHECK(StartsWith(gateway.Ask(gateway.port, "nonsense\r\n\r\n"), "HTTP/1.1 400"));
  REQUIRE(RunUntil(gateway.loop, [&] { return gateway.Seen().connections_open == 0; }));
  const GatewayStatus seen = gateway.Seen();
  CHECK(seen.pid == ::getpid());
  CHECK(seen.sealed == 1);
  CHECK(seen.connections_accepted == 2);
  CHECK(seen.requests == 1);
  CHECK(seen.bad_requests == 1);

  const UniqueFd idle = gateway.Connect(gateway.port);
  CHECK(RunUntil(gateway.loop, [&] { return gateway.Seen().connections_open == 1; }));
}

TEST_CASE("its own status and metrics count the request that asks") {
  Fixture gateway;
  CHECK(gateway.Get("/metrics").find("\nmodal_agent_gateway_requests_total 1\n") !=
        std::string::npos);
  CHECK(gateway.Get("/status").find("\"requests\":2,") != std::string::npos);
}

TEST_CASE("with nothing to do it sets no timer and writes nothing") {
  Fixture gateway;
  gateway.loop.RunOnce();
  CHECK(uv_backend_timeout(gateway.loop.uv()) == -1);
  gateway.Get("/livez");
  REQUIRE(RunUntil(gateway.loop, [&] { return gateway.Seen().connections_open == 0; }));
  // The timer of the connection's deadlines may be left alone until it fires once for nothing.
  const auto* board =
      static_cast<const BoardLayout<GatewayStatus>*>(gateway.gateway_mapping.data());
  const uint64_t before = board->sequence;
  for (int i = 0; i < 10; ++i) gateway.loop.RunOnce();
  CHECK(board->sequence == before);
}

TEST_CASE("beyond the most connections the one that idles longest gives way") {
  Fixture gateway;
  std::vector<UniqueFd> idle;
  for (int i = 0; i < 30; ++i) idle.push_back(gateway.Connect(gateway.port));
  CHECK(StartsWith(gateway.Get("/livez"), "HTTP/1.1 200"));
  const GatewayStatus seen = gateway.Seen();
  CHECK(seen.connections_open <= 10);
  CHECK(seen.connections_refused == 21);
}

TEST_CASE("probes are made beside the admin port") {
  Fixture gateway;
  const health::GatewayRequest request = ProbeOf(3, gateway.port, "/readyz");
  REQUIRE(::send(gateway.channel.supervisor.get(), &request, sizeof request, 0) > 0);
  std::optional<health::GatewayReply> reply;
  REQUIRE(RunUntil(gateway.loop, [&] {
    return (reply = TakeReply(gateway.channel.supervisor.get())).has_value();
  }));
  CHECK(reply->status == 200);
}

TEST_CASE("the end of the channel is told") {
  Fixture gateway;
  gateway.channel.supervisor.Reset();
  CHECK(RunUntil(gateway.loop, [&] { return gateway.closed; }));
}

TEST_CASE("the most connections leave room for what else needs a descriptor, and are bounded") {
  CHECK(MostConnections(0, 1, 0).admin == 1);
  CHECK(MostConnections(20, 1, 0).admin == 1);
  CHECK(MostConnections(64, 1, 0).admin == 22);
  CHECK(MostConnections(64, 2, 0).admin == 20);
  CHECK(MostConnections(1'024, 1, 0).admin == 982);
  CHECK(MostConnections(1'048'576, 1, 0).admin == 1'024);
  CHECK(MostConnections(~uint64_t{0}, 1, 0).admin == 1'024);  // RLIM_INFINITY
  CHECK(MostConnections(1'024, 1, 0).data == 0);
}

TEST_CASE("of two planes the data plane has most connections, each with another one behind it") {
  for (const uint64_t descriptors : {uint64_t{0}, uint64_t{64}, uint64_t{1'024}, uint64_t{20'000},
                                     uint64_t{1'048'576}, ~uint64_t{0}}) {
    for (const size_t listeners : {1, 2, 4}) {
      INFO(descriptors, " ", listeners);
      const ConnectionLimits limits = MostConnections(descriptors, 1, listeners);
      CHECK(limits.admin >= 1);
      CHECK(limits.admin <= 1'024);
      CHECK(limits.data >= 1);
      CHECK(limits.data <= 65'536);
      if (descriptors < 1'024) continue;
      CHECK(limits.admin + 2 * limits.data + 26 + 10 * listeners < descriptors);
      CHECK(limits.data > limits.admin);
    }
  }
  CHECK(MostConnections(1'024, 1, 1).admin == 121);
  CHECK(MostConnections(1'024, 1, 1).data == 425);
  CHECK(MostConnections(1'048'576, 1, 4).data == 65'536);
}

}  // namespace
}  // namespace modal

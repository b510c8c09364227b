// The end: requests in flight live through the grace, and what is cut looks cut. And WebSockets,
// which are told.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "agent/base/strings.h"
#include "tests/support/data_plane.h"

namespace modal::test {
namespace {

using health::Carriage;
using namespace std::string_literals;

const std::string kHead = "HTTP/1.1 200 OK\r\n";
const std::string kChunked = kHead + "Transfer-Encoding: chunked\r\n\r\n";

void CheckRefused(const Message& answer) {
  CHECK(answer.status() == 503);
  CHECK(answer.error() == "draining");
  CHECK(answer["Connection"] == "close");
  CHECK(answer.Has("Retry-After"));
  CHECK(answer.whole);
}

TEST_CASE("with nothing in flight it is drained at once, and refuses until the end") {
  DataPlane plane;
  Wire idle = plane.Connect();
  Wire used = plane.Ask(Get("/"));
  Wire server = plane.Accept();
  CHECK(server.ReadMessage().whole);
  server.Send(Answer(200, "before"));
  CHECK_FALSE(used.ReadMessage().Has("Connection"));
  plane.Enter(Carriage::kDraining);
  plane.AwaitDrained();
  // Those who stay are told once, and new ones too.
  for (Wire* client : {&idle, &used}) {
    client->Send(Get("/"));
    CheckRefused(client->ReadMessage());
    CHECK(client->ReadToEnd().empty());
    CHECK(client->end() == Wire::End::kClosed);
  }
  Wire fresh = plane.Ask(Post("/", "body"));
  CheckRefused(fresh.ReadMessage());
  CHECK(fresh.ReadToEnd().empty());
  plane.Enter(Carriage::kCutting);
  plane.AwaitDrained();
  Wire last = plane.Ask(Get("/"));
  CheckRefused(last.ReadMessage());
  CHECK_FALSE(plane.HasConnection());
}

TEST_CASE("what is in flight when the drain begins lives to its end, and says so once") {
  DataPlane plane;
  Wire client;
  Wire server;
  bool told = true;
  const auto begin = [&](const std::string& request) {
    client = plane.Ask(request);
    server = plane.Accept();
  };
  SUBCASE("a request that is not answered") {
    begin(Get("/"));
    CHECK(server.ReadMessage().whole);
    plane.Enter(Carriage::kDraining);
    CHECK_FALSE(plane.drained());
    server.Send(Answer(200, "late"));
    const Message answer = client.ReadMessage();
    CHECK(answer.body == "late");
    CHECK(answer.Count("Connection") == 1);
    CHECK(answer["Connection"] == "close");
  }
  SUBCASE("a long response") {
    told = false;
    begin(Get("/"));
    CHECK(server.ReadMessage().whole);
    server.Send(kHead + "Content-Length: 1000000\r\n\r\n" + std::string(500'000, 'x'));
    client.ReadTo("\r\n\r\n");
    plane.Enter(Carriage::kDraining);
    CHECK_FALSE(plane.drained());
    server.Send(std::string(500'000, 'x'));
    CHECK(client.Read(1'000'000).size() == 1'000'000);
  }
  SUBCASE("events") {
    told = false;
    begin(Get("/"));
    CHECK(server.ReadMessage().whole);
    server.Send(kHead + "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.ReadTo("\r\n\r\n");
    plane.Enter(Carriage::kDraining);
    for (int i = 0; i < 3; ++i) {
      server.Send("1\r\na\r\n");
      CHECK(client.ReadTo("a\r\n") == "1\r\na\r\n");
      CHECK_FALSE(plane.drained());
    }
    server.Send("0\r\n\r\n");
    CHECK(client.ReadTo("0\r\n\r\n") == "0\r\n\r\n");
  }
  SUBCASE("an upload") {
    begin("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf");
    server.ReadTo("half");
    plane.Enter(Carriage::kDraining);
    CHECK_FALSE(plane.drained());
    client.Send("done");
    CHECK(server.Read(4) == "done");
    server.Send(Answer(201, "made"));
    CHECK(client.ReadMessage().body == "made");
  }
  SUBCASE("requests sent ahead: the next is refused") {
    begin(Get("/1") + Get("/2"));
    CHECK(server.ReadMessage().start == "GET /1 HTTP/1.1");
    plane.Enter(Carriage::kDraining);
    server.Send(Answer(200, "1"));
    const Message answer = client.ReadMessage();
    CHECK(answer.body == "1");
    CHECK(answer["Connection"] == "close");
  }
  plane.AwaitDrained();
  if (!told) {
    // It was told that its connection lives, before anybody knew better.
    client.Send(Get("/"));
    CheckRefused(client.ReadMessage());
  }
  CHECK(client.ReadToEnd().empty());
  CHECK(client.end() == Wire::End::kClosed);
}

TEST_CASE("who waits for a place when the drain begins gets it") {
  DataPlane plane([](policy::GatewayConfig& config) { config.max_concurrency = 1; });
  Wire first = plane.Ask(Get("/1"));
  Wire server = plane.Accept();
  CHECK(server.ReadMessage().whole);
  Wire second = plane.Ask(Get("/2"));
  plane.Await([](const auto& traffic) { return traffic.queued == 1; });
  plane.Enter(Carriage::kDraining);
  server.Send(Answer(200, "1"));
  CHECK(first.ReadMessage().body == "1");
  plane.RoundTrip();
  Wire next = plane.HasConnection() ? plane.Accept() : std::move(server);
  CHECK(next.ReadMessage().start == "GET /2 HTTP/1.1");
  CHECK_FALSE(plane.drained());
  next.Send(Answer(200, "2"));
  CHECK(second.ReadMessage().body == "2");
  plane.AwaitDrained();
}

TEST_CASE("after the grace what is left is cut, and does not look whole") {
  DataPlane plane([](policy::GatewayConfig& config) { config.max_concurrency = 4; });
  Wire silent = plane.Ask(Get("/silent"));
  Wire silent_server = plane.Accept();
  CHECK(silent_server.ReadMessage().whole);
  Wire response = plane.Ask(Get("/response"));
  Wire response_server = plane.Accept();
  CHECK(response_server.ReadMessage().whole);
  response_server.Send(kHead + "Content-Length: 1000000\r\n\r\nsome");
  response.ReadTo("some");
  Wire events = plane.Ask(Get("/events"));
  Wire events_server = plane.Accept();
  CHECK(events_server.ReadMessage().whole);
  events_server.Send(kChunked + "1\r\na\r\n");
  events.ReadTo("\r\n\r\n1\r\na\r\n");
  Wire upload = plane.Ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf");
  Wire upload_server = plane.Accept();
  upload_server.ReadTo("half");
  Wire queued = plane.Ask(Get("/queued"));
  plane.Await([](const auto& traffic) { return traffic.queued == 1; });
  plane.Enter(Carriage::kDraining);
  CHECK_FALSE(plane.drained());
  plane.Enter(Carriage::kCutting);

  // Where no answer has begun there can be a whole one.
  for (Wire* client : {&silent, &upload}) {
    const Message answer = client->ReadMessage();
    CHECK(answer.status() == 503);
    CHECK(answer.error() == "draining");
    CHECK(answer["Connection"] == "close");
    CHECK(answer.Has("Retry-After"));
  }
  CheckRefused(queued.ReadMessage());  // the server has never seen it
  for (Wire* client : {&response, &events}) {
    CHECK(client->ReadToEnd().empty());
    CHECK(client->end() == Wire::End::kReset);
  }
  silent_server.ReadToEnd();
  response_server.ReadToEnd();
  events_server.ReadToEnd();
  CHECK(upload_server.ReadToEnd().empty());
  CHECK(upload_server.end() == Wire::End::kReset);
  plane.AwaitDrained();
  CHECK_FALSE(plane.HasConnection());
}

TEST_CASE("a connection that was promised to live before the drain does not outlive it for long") {
  DataPlane plane;
  Wire client = plane.Ask(Get("/"));
  Wire server = plane.Accept();
  CHECK(server.ReadMessage().whole);
  server.Send(kHead + "Content-Length: 2\r\n\r\na");
  CHECK(client.ReadTo("\r\n\r\na").find("Connection: close") == std::string::npos);
  plane.Enter(Carriage::kDraining);
  server.Send("b");
  CHECK(client.Read(1) == "b");
  plane.AwaitDrained();
  CHECK(client.ReadToEnd().empty());
  CHECK(client.end() == Wire::End::kClosed);
}

TEST_CASE("several threads are drained when the last of them is") {
  DataPlane plane([](policy::GatewayConfig& config) { config.threads = 4; });
  std::vector<Wire> clients;
  std::vector<Wire> servers;
  for (int i = 0; i < 12; ++i) {
    clients.push_back(plane.Ask(Get("/")));
    servers.push_back(plane.Accept());
    CHECK(servers.back().ReadMessage().whole);
    if (i % 2 == 0) servers.back().Send(kChunked);
  }
  plane.Enter(Carriage::kDraining);
  SUBCASE("by themselves") {
    for (size_t i = 0; i < clients.size(); ++i) {
      CHECK_FALSE(plane.drained());
      servers[i].Send(i % 2 == 0 ? "4\r\nlast\r\n0\r\n\r\n" : Answer(200, "last"));
      CHECK(clients[i].ReadMessage().body == "last");
    }
  }
  SUBCASE("by force") {
    CHECK_FALSE(plane.drained());
    plane.Enter(Carriage::kCutting);
    for (size_t i = 0; i < clients.size(); ++i) {
      CHECK_FALSE(clients[i].ReadToEnd().ends_with("0\r\n\r\n"));
      servers[i].ReadToEnd();
    }
  }
  plane.AwaitDrained();
}

TEST_CASE("an answer that a slow client still takes is in flight, and is cut in the end") {
  DataPlane plane;
  Wire client = plane.Ask(Get("/"));
  Wire server = plane.Accept();
  CHECK(server.ReadMessage().whole);
  constexpr size_t kSize = size_t{32} << 20;
  server.Send(kHead + Concat("Content-Length: ", kSize, "\r\n\r\n"));
  CHECK(plane.SendUntilFull(server, kSize) < kSize);
  plane.Enter(Carriage::kDraining);
  CHECK_FALSE(plane.drained());
  plane.Enter(Carriage::kCutting);
  plane.AwaitDrained();
  CHECK(client.ReadToEnd().size() < kSize);
  CHECK(client.end() == Wire::End::kReset);
}

// ---- WebSockets ----

const std::string kKey = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const std::string kUpgrade =
    "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    "Sec-WebSocket-Version: 13\r\n" +
    kKey;
const std::string kSwitch =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

// A frame; masked with zeros, which changes nothing, as clients must.
std::string Frame(bool masked, int first_byte, std::string_view payload) {
  std::string frame(1, static_cast<char>(first_byte));
  const int mask = masked ? 0x80 : 0;
  if (payload.size() < 126) {
    frame += static_cast<char>(mask | static_cast<int>(payload.size()));
  } else {
    frame += static_cast<char>(mask | 126);
    frame += static_cast<char>(payload.size() >> 8);
    frame += static_cast<char>(payload.size() & 0xff);
  }
  if (masked) frame.append(4, '\0');
  return frame.append(payload);
}
constexpr int kText = 0x81;
constexpr int kFirst = 0x01;
constexpr int kMiddle = 0x00;
constexpr int kPing = 0x89;
constexpr int kPong = 0x8a;
constexpr int kClose = 0x88;

// The code of the close frame that comes next; 0 if another frame does.
int ReadClose(Wire& wire) {
  const std::string head = wire.Read(2);
  if (head.size() < 2 || (head[0] & 0xff) != kClose) return 0;
  const bool masked = (head[1] & 0x80) != 0;
  const std::string key = masked ? wire.Read(4) : std::string(4, '\0');
  const std::string payload = wire.Read(static_cast<size_t>(head[1] & 0x7f));
  if (payload.size() < 2) return 0;
  const auto byte = [&](size_t i) { return (payload[i] ^ key[i]) & 0xff; };
  return byte(0) << 8 | byte(1);
}

struct WebSocket {
  explicit WebSocket(const DataPlane::Change& change = [](policy::GatewayConfig&) {})
      : plane(change), client(plane.Ask(Get("/socket", kUpgrade))), server(plane.Accept()) {
    const Message request = server.ReadMessage();
    CHECK(request["Connection"] == "Upgrade");
    CHECK(request["Upgrade"] == "WebSocket");
    CHECK(request["Sec-WebSocket-Key"] == "dGhlIHNhbXBsZSBub25jZQ==");
    CHECK(request["X-Forwarded-For"] == "127.0.0.1");
    server.Send(kSwitch);
    const Message answer = client.ReadMessage();
    CHECK(answer.status() == 101);
    CHECK(answer["Connection"] == "Upgrade");
    CHECK(answer["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    CHECK(answer.Has("X-Request-Id"));
    CHECK_FALSE(answer.Has("Content-Length"));
    CHECK_FALSE(answer.Has("Transfer-Encoding"));
  }
  void CheckWorks() {
    client.Send(Frame(true, kText, "up"));
    CHECK(server.Read(8) == Frame(true, kText, "up"));
    server.Send(Frame(false, kText, "down"));
    CHECK(client.Read(6) == Frame(false, kText, "down"));
  }
  // Both see the end, and go.
  void End() {
    for (Wire* wire : {&client, &server}) {
      wire->ReadToEnd();
      wire->Close();
    }
  }
  DataPlane plane;
  Wire client;
  Wire server;
};

TEST_CASE("a WebSocket passes both ways, pings too, and ends when both have closed") {
  WebSocket socket;
  socket.CheckWorks();
  socket.server.Send(Frame(false, kPing, "?"));
  CHECK(socket.client.Read(3) == Frame(false, kPing, "?"));
  socket.client.Send(Frame(true, kPong, "?"));
  CHECK(socket.server.Read(7) == Frame(true, kPong, "?"));
  socket.plane.Await([](const auto& traffic) { return traffic.websockets == 1; });
  socket.client.Send(Frame(true, kClose, "\x03\xe8"));
  CHECK(ReadClose(socket.server) == 1000);
  socket.server.Send(Frame(false, kClose, "\x03\xe8"));
  CHECK(ReadClose(socket.client) == 1000);
  socket.End();
  socket.plane.Await([](const auto& traffic) {
    return traffic.websockets == 0 && traffic.in_flight == 0 && traffic.upstream_connections == 0;
  });
}

TEST_CASE("what is sent at once with the handshake is not lost") {
  DataPlane plane;
  Wire client = plane.Ask(Get("/", kUpgrade) + Frame(true, kText, "early"));
  Wire server = plane.Accept();
  CHECK(server.ReadTo("\r\n\r\n").find("\r\nUpgrade: WebSocket\r\n") != std::string::npos);
  server.Send(kSwitch + Frame(false, kText, "hello"));
  CHECK(client.ReadMessage().status() == 101);
  CHECK(client.Read(7) == Frame(false, kText, "hello"));
  CHECK(server.Read(11) == Frame(true, kText, "early"));
}

TEST_CASE("a server that does not want a WebSocket answers as always") {
  DataPlane plane;
  Wire client = plane.Ask(Get("/", kUpgrade));
  Wire server = plane.Accept();
  CHECK(server.ReadMessage().whole);
  server.Send(Answer(426, "no"));
  CHECK(client.ReadMessage().body == "no");
  client.Send(Get("/next"));
  CHECK(server.ReadMessage().start == "GET /next HTTP/1.1");
}

TEST_CASE("an upgrade with a body, or in HTTP/1.0, is none") {
  DataPlane plane;
  Wire client;
  SUBCASE("a body") { client = plane.Ask(Post("/", "body", kUpgrade)); }
  SUBCASE("HTTP/1.0") { client = plane.Ask("GET / HTTP/1.0\r\nHost: x\r\n" + kUpgrade + "\r\n"); }
  Wire server = plane.Accept();
  CHECK_FALSE(server.ReadMessage().Has("Upgrade"));
  server.Send(kSwitch);
  CHECK(client.ReadMessage().status() == 502);
}

TEST_CASE("a message that is too large is 1009 to both sides, over its fragments too") {
  WebSocket socket([](policy::GatewayConfig& config) { config.max_message = 1'000; });
  const std::string large(1'000, 'x');
  socket.client.Send(Frame(true, kText, large));  // not yet
  CHECK(socket.server.Read(1'008).size() == 1'008);
  SUBCASE("the client's") { socket.client.Send(Frame(true, kText, large + "x")); }
  SUBCASE("the server's") { socket.server.Send(Frame(false, kText, large + "x")); }
  SUBCASE("the client's fragments") {
    socket.client.Send(Frame(true, kFirst, std::string(900, 'x')) + Frame(true, kPing, "?") +
                       Frame(true, kMiddle, std::string(100, 'x')));
    socket.server.Read(908 + 7 + 106);
    socket.client.Send(Frame(true, kMiddle, "x"));
  }
  SUBCASE("the server's fragments") {
    socket.server.Send(Frame(false, kFirst, std::string(900, 'x')) +
                       Frame(false, kMiddle, std::string(100, 'x')));
    socket.client.Read(904 + 102);
    socket.server.Send(Frame(false, kMiddle, "x"));
  }
  CHECK(ReadClose(socket.client) == 1009);
  CHECK(ReadClose(socket.server) == 1009);
  socket.client.Send(Frame(true, kClose, "\x03\xf1"));
  socket.server.Send(Frame(false, kClose, "\x03\xf1"));
  socket.End();
  socket.plane.Await([](const auto& traffic) {
    return traffic.websockets == 0 &&
           traffic.refused[static_cast<size_t>(policy::Refusal::kMessageTooLarge)] == 1;
  });
}

TEST_CASE("a WebSocket lives through the grace, and is closed with 1001 at its end") {
  WebSocket socket;
  socket.plane.Enter(Carriage::kDraining);
  socket.CheckWorks();
  CHECK_FALSE(socket.plane.drained());
  Wire other = socket.plane.Ask(Get("/", kUpgrade));
  CheckRefused(other.ReadMessage());

  SUBCASE("it ends by itself") {
    socket.client.Send(Frame(true, kClose, "\x03\xe8"));
    socket.server.Send(Frame(false, kClose, "\x03\xe8"));
    CHECK(ReadClose(socket.client) == 1000);
    CHECK(ReadClose(socket.server) == 1000);
    socket.End();
  }
  SUBCASE("both answer") {
    socket.plane.Enter(Carriage::kCutting);
    CHECK(ReadClose(socket.client) == 1001);
    CHECK(ReadClose(socket.server) == 1001);
    socket.client.Send(Frame(true, kClose, "\x03\xe9"));
    socket.server.Send(Frame(false, kClose, "\x03\xe9"));
    socket.End();
  }
  SUBCASE("nobody answers") {
    socket.plane.Enter(Carriage::kCutting);
    CHECK(ReadClose(socket.client) == 1001);
    CHECK(ReadClose(socket.server) == 1001);
  }
  SUBCASE("the client reads nothing") {
    const std::string frame = Frame(false, kText, std::string(60'000, 'x'));
    for (int i = 0; i < 500 && socket.server.SendSome(frame) == frame.size(); ++i) {
      socket.plane.RoundTrip();
    }
    socket.plane.Enter(Carriage::kCutting);
  }
  socket.plane.AwaitDrained();
}

TEST_CASE("one end that breaks is told to the other") {
  WebSocket socket;
  SUBCASE("the client") {
    socket.client.Reset();
    socket.server.ReadToEnd();
    CHECK(socket.server.end() == Wire::End::kReset);
  }
  SUBCASE("the server") {
    socket.server.Reset();
    socket.client.ReadToEnd();
    CHECK(socket.client.end() == Wire::End::kReset);
  }
  socket.plane.Await([](const auto& traffic) { return traffic.in_flight == 0; });
}

TEST_CASE("no request timeout is for WebSockets, and silence does not end them") {
  WebSocket socket([](policy::GatewayConfig& config) {
    config.request_timeout_ms = 200;
    config.idle_timeout_ms = 200;
  });
  // When this one, which began later, is cut, the WebSocket's time would be over.
  Wire client = socket.plane.Ask(Get("/"));
  Wire server = socket.plane.Accept();
  CHECK(client.ReadMessage().error() == "total_timeout");
  Wire idle = socket.plane.Connect();
  CHECK(idle.ReadToEnd().empty());
  socket.CheckWorks();
}

}  // namespace
}  // namespace modal::test

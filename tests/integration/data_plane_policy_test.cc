// Who may pass, how many at a time, what a request is called, and where it comes from.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

#include "agent/base/strings.h"
#include "agent/policy/client_address.h"
#include "agent/policy/request_id.h"
#include "agent/policy/sha256.h"
#include "tests/support/agent_process.h"
#include "tests/support/data_plane.h"
#include "tests/support/origin_agent.h"

namespace modal::test {
namespace {

using policy::GatewayConfig;
using policy::Refusal;

policy::TokenRecord Token(std::string_view key, std::string_view secret,
                          std::string_view environment = {}) {
  policy::TokenRecord token{};
  const policy::Sha256Digest key_digest = policy::Sha256(key);
  const policy::Sha256Digest secret_digest = policy::Sha256(secret);
  std::copy(key_digest.begin(), key_digest.end(), token.key_sha256);
  std::copy(secret_digest.begin(), secret_digest.end(), token.secret_sha256);
  SetBoardText(token.environment, environment);
  return token;
}

std::string With(std::string_view key, std::string_view secret) {
  return Concat("Modal-Key: ", key, "\r\nModal-Secret: ", secret, "\r\n");
}

void Trust(GatewayConfig& config, std::string_view networks) {
  const Result<std::vector<policy::Network>> parsed = policy::ParseNetworks(networks);
  REQUIRE(parsed.ok());
  config.trusted_count = static_cast<uint32_t>(parsed->size());
  std::copy(parsed->begin(), parsed->end(), config.trusted);
}

// What the server is asked.
Message Carried(const DataPlane& plane, Wire& client, Wire& server, const std::string& request) {
  client.Send(request);
  if (!server) server = plane.Accept();
  const Message message = server.ReadMessage();
  server.Send(Answer(200, "ok"));
  CHECK(client.ReadMessage().body == "ok");
  return message;
}

void CheckRefused(const Message& answer, int status, const char* error) {
  CHECK(answer.status() == status);
  CHECK(answer.error() == error);
  CHECK(answer.whole);
  CHECK(policy::IsRequestId(answer["X-Request-Id"]));
  CHECK(answer.body.find(answer["X-Request-Id"]) != std::string::npos);
}

TEST_CASE("with tokens only who has one passes, and the server never sees it") {
  DataPlane plane(
      [](GatewayConfig& config) {
        config.auth_required = 1;
        SetBoardText(config.environment, "main");
      },
      {Token("key", "secret"), Token("here", "secret", "main"), Token("there", "secret", "dev")});
  Wire client = plane.Connect();
  Wire server;
  for (const std::string& lines :
       {std::string(), With("key", "wrong"), With("wrong", "secret"), With("there", "wrong"),
        std::string("Modal-Key: key\r\n"), std::string("Modal-Secret: secret\r\n"),
        With("key", "Secret"), With("key", "secret2"), With("", "")}) {
    INFO(lines);
    client.Send(Get("/", lines));
    CheckRefused(client.ReadMessage(), 401, "unauthorized");
  }
  client.Send(Get("/", With("there", "secret")));
  CheckRefused(client.ReadMessage(), 403, "forbidden");
  CHECK_FALSE(plane.HasConnection());
  for (const char* key : {"key", "here"}) {
    const Message request = Carried(plane, client, server, Get("/", With(key, "secret")));
    CHECK_FALSE(request.Has("Modal-Key"));
    CHECK_FALSE(request.Has("Modal-Secret"));
  }
  plane.Await([](const auto& traffic) {
    return traffic.refused[static_cast<size_t>(Refusal::kUnauthorized)] == 9 &&
           traffic.refused[static_cast<size_t>(Refusal::kWrongEnvironment)] == 1;
  });
}

TEST_CASE("with a tokens file that is empty nobody passes") {
  DataPlane plane([](GatewayConfig& config) { config.auth_required = 1; });
  Wire client = plane.Ask(Get("/", With("", "")));
  CheckRefused(client.ReadMessage(), 401, "unauthorized");
}

TEST_CASE("new tokens come into force without a lost request") {
  DataPlane plane([](GatewayConfig& config) { config.auth_required = 1; }, {Token("old", "s")});
  Wire client = plane.Ask(Get("/", With("old", "s")));
  Wire server = plane.Accept();
  CHECK(server.ReadMessage().whole);
  plane.gateway.Configure(plane.config, {Token("new", "s")});
  plane.RoundTrip();
  server.Send(Answer(200, "still served"));
  CHECK(client.ReadMessage().body == "still served");
  client.Send(Get("/", With("old", "s")));
  CheckRefused(client.ReadMessage(), 401, "unauthorized");
  Carried(plane, client, server, Get("/", With("new", "s")));
}

TEST_CASE("the order is: phase, token, rate, place, size") {
  DataPlane plane(
      [](GatewayConfig& config) {
        config.auth_required = 1;
        config.rate_limit = 1;
        config.rate_burst = 2;
        config.max_concurrency = 1;
        config.queue = 0;
        config.max_body = 10;
      },
      {Token("key", "s")}, false);
  const std::string good = With("key", "s");
  Wire client = plane.Connect();
  // Not ready: nobody is asked for a token.
  client.Send(Get("/"));
  const Message not_ready = client.ReadMessage();
  CheckRefused(not_ready, 503, "not_ready");
  CHECK(std::atoi(not_ready["Retry-After"].c_str()) >= 1);
  plane.gateway.status.ready = true;
  plane.gateway.Publish();
  plane.Enter(health::Carriage::kServing);
  // Whoever has no token takes nothing of the rate.
  for (int i = 0; i < 20; ++i) {
    client.Send(Get("/"));
    CheckRefused(client.ReadMessage(), 401, "unauthorized");
  }
  client.Send(Get("/", good));
  Wire server = plane.Accept();
  CHECK(server.ReadMessage().whole);
  // The only place is taken: that is told before the size.
  Wire second = plane.Ask(Post("/", "much too long a body", good));
  CheckRefused(second.ReadMessage(), 503, "queue_full");
  // And the rate before the place; at one a second, some of these come too soon.
  bool limited = false;
  for (int i = 0; i < 100 && !limited; ++i) {
    Wire third = plane.Ask(Get("/", good));
    const Message answer = third.ReadMessage();
    limited = answer.status() == 429;
    if (!limited) CheckRefused(answer, 503, "queue_full");
    if (limited) {
      CheckRefused(answer, 429, "rate_limited");
      CHECK(std::atoi(answer["Retry-After"].c_str()) >= 1);
    }
  }
  CHECK(limited);
  Wire nobody = plane.Ask(Get("/"));
  CheckRefused(nobody.ReadMessage(), 401, "unauthorized");
  CHECK_FALSE(plane.HasConnection());
}

TEST_CASE("a burst passes, what comes too soon is 429 and told when to come again") {
  DataPlane plane([](GatewayConfig& config) {
    config.rate_limit = 1;
    config.rate_burst = 3;
  });
  Wire client = plane.Connect();
  Wire server;
  for (int i = 0; i < 3; ++i) Carried(plane, client, server, Get("/"));
  Message answer;
  for (int i = 0; i < 100 && answer.status() != 429; ++i) {
    client.Send(Get("/"));
    // The bucket fills while we look.
    plane.RoundTrip();
    if (server.HasInput()) {
      server.ReadMessage();
      server.Send(Answer(200, "ok"));
    }
    answer = client.ReadMessage();
  }
  CheckRefused(answer, 429, "rate_limited");
  CHECK(answer["Retry-After"] == "1");
  CHECK_FALSE(answer.Has("Connection"));
}

TEST_CASE("beyond the places some wait, in their order, and the others are refused") {
  DataPlane plane([](GatewayConfig& config) {
    config.max_concurrency = 1;
    config.queue = 2;
  });
  Wire first = plane.Ask(Get("/1"));
  Wire server = plane.Accept();
  CHECK(server.ReadMessage().whole);
  Wire second = plane.Ask(Get("/2"));
  plane.Await([](const auto& traffic) { return traffic.queued == 1; });
  Wire third = plane.Ask(Get("/3"));
  plane.Await([](const auto& traffic) { return traffic.queued == 2; });
  Wire fourth = plane.Ask(Get("/4"));
  const Message refused = fourth.ReadMessage();
  CheckRefused(refused, 503, "queue_full");
  CHECK(std::atoi(refused["Retry-After"].c_str()) >= 1);
  CHECK_FALSE(server.HasInput());

  SUBCASE("each gets its turn") {
    server.Send(Answer(200, "1"));
    CHECK(first.ReadMessage().body == "1");
    CHECK(server.ReadMessage().start == "GET /2 HTTP/1.1");
    server.Send(Answer(200, "2"));
    CHECK(second.ReadMessage().body == "2");
    CHECK(server.ReadMessage().start == "GET /3 HTTP/1.1");
    server.Send(Answer(200, "3"));
    CHECK(third.ReadMessage().body == "3");
  }
  SUBCASE("who leaves while it waits is passed over") {
    second.Reset();
    plane.Await([](const auto& traffic) { return traffic.queued == 1; });
    server.Send(Answer(200, "1"));
    CHECK(server.ReadMessage().start == "GET /3 HTTP/1.1");
    server.Send(Answer(200, "3"));
    CHECK(third.ReadMessage().body == "3");
  }
  SUBCASE("a client that leaves frees its place") {
    first.Reset();
    Wire fresh = plane.Accept();
    CHECK(fresh.ReadMessage().start == "GET /2 HTTP/1.1");
  }
  SUBCASE("a server that dies frees it") {
    server.Reset();
    CHECK(first.ReadMessage().status() == 502);
    Wire fresh = plane.Accept();
    CHECK(fresh.ReadMessage().start == "GET /2 HTTP/1.1");
  }
  SUBCASE("more places at a reload let them in") {
    plane.config.max_concurrency = 3;
    plane.gateway.Configure(plane.config);
    for (int i = 2; i <= 3; ++i) {
      Wire fresh = plane.Accept();
      CHECK(fresh.ReadMessage().start == Concat("GET /", i, " HTTP/1.1"));
    }
  }
}

TEST_CASE("places are counted over all threads, and each who waits gets one") {
  constexpr size_t kClients = 24;
  DataPlane plane([](GatewayConfig& config) {
    config.threads = 4;
    config.max_concurrency = 2;
  });
  std::vector<Wire> clients;
  for (size_t i = 0; i < kClients; ++i) clients.push_back(plane.Ask(Get("/")));
  plane.Await([](const auto& traffic) { return traffic.queued == kClients - 2; });
  Wire before = plane.Accept();
  for (size_t i = 1; i < kClients; ++i) {
    Wire server = plane.Accept();
    CHECK_FALSE(plane.HasConnection());
    CHECK(before.ReadMessage().whole);
    before.Send(Answer(200, "", "Connection: close\r\n"));
    before.ReadToEnd();
    before = std::move(server);
  }
  CHECK(before.ReadMessage().whole);
  before.Send(Answer(200, ""));
  for (Wire& client : clients) CHECK(client.ReadMessage().status() == 200);
}

TEST_CASE("the rate is counted over all threads") {
  constexpr int kBurst = 10;
  DataPlane plane([](GatewayConfig& config) {
    config.threads = 4;
    config.rate_limit = 1;
    config.rate_burst = kBurst;
  });
  plane.StopServer();  // who may pass is told so: 502
  const auto begin = std::chrono::steady_clock::now();
  int passed = 0;
  for (int i = 0; i < 8 * kBurst; ++i) {
    Wire client = plane.Ask(Get("/"));
    const int status = client.ReadMessage().status();
    CHECK((status == 502 || status == 429));
    if (status == 502) ++passed;
  }
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - begin);
  CHECK(passed >= kBurst);
  CHECK(passed <= kBurst + seconds.count() + 1);
}

TEST_CASE("what `token new` prints lets its client in, and the secret is kept nowhere") {
  AgentOptions options = DataPlaneOptions({"--proxy-tokens", "/mnt/tokens"});
  const std::string other = Concat("other:", std::string(64, '0'), "\n");
  options.files.push_back({"tokens", other, 0600});
  AgentProcess agent(options);
  agent.WaitFor("lifecycle.ready");
  agent.WaitUntil("a gateway that wants a token",
                  [&] { return agent.Get(kDataPort, "/small?x").status == 401; });
  const RunResult made = agent.Run({"modal-agent", "token", "new", "--json"});
  CHECK(made.code == 0);
  const auto field = [&](const std::string& name) {
    const std::string start = Concat("\"", name, "\":\"");
    const size_t at = made.output.find(start);
    REQUIRE(at != std::string::npos);
    const size_t begin = at + start.size();
    return made.output.substr(begin, made.output.find('"', begin) - begin);
  };
  const std::string key = field("key");
  const std::string secret = field("secret");
  const auto ask = [&](const std::string& its_key, const std::string& its_secret) {
    Client client = agent.Connect(kDataPort);
    CHECK(client.Send(Get("/small?x", With(its_key, its_secret))));
    return client.ReadAnswer().status;
  };
  CHECK(ask(key, secret) == 401);
  agent.WriteFile("tokens", other + field("line") + "\n");
  CHECK(agent.Run({"modal-agent", "reload"}).code == 0);
  agent.WaitUntil("the token to be good", [&] { return ask(key, secret) == 200; });
  CHECK(ask(key, secret + "x") == 401);
  CHECK(ask(key + "x", secret) == 401);

  CHECK_FALSE(Contains(agent.ReadFile("tokens"), secret));
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  CHECK_FALSE(Contains(agent.output(), secret));
  CHECK_FALSE(Contains(agent.error_output(), secret));
}

TEST_CASE("a place that does not become free in time is 503") {
  DataPlane plane([](GatewayConfig& config) {
    config.max_concurrency = 1;
    config.queue_timeout_ms = 50;
  });
  Wire first = plane.Ask(Get("/1"));
  Wire server = plane.Accept();
  CHECK(server.ReadMessage().whole);
  Wire second = plane.Ask(Get("/2"));
  const Message refused = second.ReadMessage();
  CheckRefused(refused, 503, "queue_timeout");
  CHECK(refused.Has("Retry-After"));
  server.Send(Answer(200, "1"));
  CHECK(first.ReadMessage().body == "1");
  Carried(plane, second, server, Get("/3"));
}

TEST_CASE("until the server is ready requests are held, a bounded number, and then answered") {
  DataPlane plane(
      [](GatewayConfig& config) {
        config.hold_ms = 300'000;
        config.hold_most = 2;
      },
      {}, false);
  Wire first = plane.Ask(Get("/1"));
  plane.Await([](const auto& traffic) { return traffic.held == 1; });
  Wire second = plane.Ask(Post("/2", "a body"));
  plane.Await([](const auto& traffic) { return traffic.held == 2; });
  Wire third = plane.Ask(Get("/3"));
  const Message refused = third.ReadMessage();
  CheckRefused(refused, 503, "not_ready");
  CHECK(refused.Has("Retry-After"));
  CHECK_FALSE(plane.HasConnection());
  CHECK_FALSE(first.HasInput());

  SUBCASE("all the same when it is ready") {
    plane.gateway.status.ready = true;
    plane.gateway.Publish();
    plane.gateway.SetCarriage(health::Carriage::kServing, 1);
    for (Wire* client : {&first, &second}) {
      Wire server = plane.Accept();
      const Message request = server.ReadMessage();
      CHECK(request.whole);
      CHECK(request.body == (client == &second ? "a body" : ""));
      server.Send(Answer(200, request.start));
      CHECK(client->ReadMessage().body == request.start);
    }
  }
  SUBCASE("a request that sees that it is ready lets in those before it") {
    plane.gateway.status.ready = true;
    plane.gateway.Publish();
    third.Send(Get("/3"));
    for (int i = 0; i < 3; ++i) CHECK(plane.Accept().ReadMessage().whole);
  }
  SUBCASE("who leaves makes room") {
    first.Reset();
    plane.Await([](const auto& traffic) { return traffic.held == 1; });
    third.Send(Get("/3"));
    plane.Await([](const auto& traffic) { return traffic.held == 2; });
  }
  SUBCASE("a stop refuses them") {
    plane.Enter(health::Carriage::kDraining);
    for (Wire* client : {&first, &second}) CheckRefused(client->ReadMessage(), 503, "draining");
    CHECK(plane.drained());
  }
}

TEST_CASE("who is held too long is refused") {
  DataPlane plane(
      [](GatewayConfig& config) {
        config.hold_ms = 50;
        config.hold_most = 2;
      },
      {}, false);
  Wire client = plane.Ask(Get("/"));
  CheckRefused(client.ReadMessage(), 503, "not_ready");
}

TEST_CASE("a stranger's word about itself is not believed") {
  const std::string lies =
      "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\nX-Forwarded-Proto: https\r\n"
      "X-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6;proto=https\r\n";
  DataPlane plane([](GatewayConfig& config) { Trust(config, "10.0.0.0/8"); });
  Wire client = plane.Connect();
  Wire server;
  const Message request = Carried(plane, client, server, Get("/", lies));
  CHECK(request.Count("X-Forwarded-For") == 1);
  CHECK(request["X-Forwarded-For"] == "127.0.0.1");
  CHECK(request["X-Forwarded-Proto"] == "http");
  CHECK(request["X-Forwarded-Host"] == "x");
  CHECK(request.Count("Forwarded") == 1);
  CHECK(request["Forwarded"] == "for=127.0.0.1;host=x;proto=http");
}

TEST_CASE("a trusted proxy's word is, and the rightmost stranger is the client") {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const UniqueFd log(ends[0]);
  DataPlane plane(
      [](GatewayConfig& config) {
        Trust(config, "127.0.0.0/8, 10.0.0.0/8");
        config.access_log = policy::AccessLogFormat::kJson;
      },
      {}, true, UniqueFd(ends[1]));
  const auto logged = [&log](const std::string& text) {
    std::string line;
    char c = 0;
    while (c != '\n' && WaitReadable(log.get()) && ::read(log.get(), &c, 1) == 1) line += c;
    INFO(line);
    CHECK(line.find(text) != std::string::npos);
  };
  Wire client = plane.Connect();
  Wire server;
  Message request = Carried(plane, client, server,
                            Get("/",
                                "X-Forwarded-For: 6.6.6.6, 1.2.3.4\r\nX-Forwarded-For: 10.1.1.1\r\n"
                                "X-Forwarded-Proto: https\r\nX-Forwarded-Host: front.example\r\n"));
  CHECK(request.Count("X-Forwarded-For") == 1);
  CHECK(request["X-Forwarded-For"] == "6.6.6.6, 1.2.3.4, 10.1.1.1, 127.0.0.1");
  CHECK(request["X-Forwarded-Proto"] == "https");
  CHECK(request["X-Forwarded-Host"] == "front.example");
  CHECK(request["Forwarded"].starts_with("for=1.2.3.4;host=front.example;proto=https"));
  logged("\"client\":\"1.2.3.4\"");
  request = Carried(plane, client, server, Get("/", "Forwarded: for=1.2.3.4;proto=https\r\n"));
  CHECK(request["X-Forwarded-For"] == "1.2.3.4, 127.0.0.1");
  CHECK(request["X-Forwarded-Proto"] == "https");
  logged("\"client\":\"1.2.3.4\"");
  request = Carried(plane, client, server, Get("/"));
  CHECK(request["X-Forwarded-For"] == "127.0.0.1");
  logged("\"client\":\"127.0.0.1\"");
}

TEST_CASE("a request has one name, for the server, the client and whoever reads the error") {
  DataPlane plane;
  Wire client = plane.Connect();
  client.Send(Get("/", "X-Request-Id: my-own_1\r\n"));
  Wire server = plane.Accept();
  Message request = server.ReadMessage();
  CHECK(request.Count("X-Request-Id") == 1);
  CHECK(request["X-Request-Id"] == "my-own_1");
  server.Send(Answer(200, "", "X-Request-Id: the-server's\r\n"));
  Message answer = client.ReadMessage();
  CHECK(answer.Count("X-Request-Id") == 1);
  CHECK(answer["X-Request-Id"] == "my-own_1");

  std::string before;
  for (const std::string& lines :
       {std::string(), std::string("X-Request-Id: not one\r\n"), std::string("X-Request-Id:\r\n"),
        "X-Request-Id: " + std::string(129, 'x') + "\r\n"}) {
    client.Send(Get("/", lines));
    request = server.ReadMessage();
    const std::string name = request["X-Request-Id"];
    CHECK(name.size() == 32);
    CHECK(name != before);
    before = name;
    server.Send(Answer(200, ""));
    CHECK(client.ReadMessage()["X-Request-Id"] == name);
  }
  client.Send(Get("/"));
  request = server.ReadMessage();
  server.Send("garbage\r\n\r\n");
  answer = client.ReadMessage();
  CheckRefused(answer, 502, "upstream_answer");
  CHECK(answer["X-Request-Id"] == request["X-Request-Id"]);
}

TEST_CASE("a trace goes on, or begins here") {
  const std::string parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  DataPlane plane;
  Wire client = plane.Connect();
  Wire server;
  Message request = Carried(
      plane, client, server,
      Get("/", Concat("traceparent: ", parent, "\r\ntracestate: a=1\r\ntracestate: b=2\r\n")));
  CHECK(request.Count("traceparent") == 1);
  CHECK(request["traceparent"] == parent);
  CHECK(request.Count("tracestate") == 2);
  for (const std::string& lines :
       {std::string(), std::string("tracestate: a=1\r\n"),
        std::string("traceparent: 00-0-0-0\r\ntracestate: a=1\r\n"),
        Concat("traceparent: ", parent, "\r\ntraceparent: ", parent, "\r\ntracestate: a=1\r\n")}) {
    INFO(lines);
    request = Carried(plane, client, server, Get("/", lines));
    CHECK(request.Count("traceparent") == 1);
    CHECK(policy::IsTraceParent(request["traceparent"]));
    CHECK(request["traceparent"] != parent);
    CHECK_FALSE(request.Has("tracestate"));
  }
}

TEST_CASE("times are told to clients only where that is wanted") {
  bool wanted = false;
  SUBCASE("it is") { wanted = true; }
  SUBCASE("it is not") {}
  DataPlane plane([wanted](GatewayConfig& config) { config.server_timing = wanted ? 1 : 0; });
  Wire client = plane.Ask(Get("/"));
  Wire server = plane.Accept();
  CHECK(server.ReadMessage().whole);
  server.Send(Answer(200, "", "Server-Timing: db;dur=5\r\n"));
  const Message answer = client.ReadMessage();
  CHECK(answer.Count("Server-Timing") == (wanted ? 2 : 1));
  CHECK(answer["Server-Timing"] == "db;dur=5");  // the server's own stays
  if (!wanted) return;
  std::string ours;
  for (const auto& [name, value] : answer.headers) {
    if (name == "Server-Timing") ours = value;
  }
  CHECK(ours.starts_with("total;dur="));
  CHECK(ours.find(", upstream;dur=") != std::string::npos);
}

}  // namespace
}  // namespace modal::test

#include "adapters/gatekeeper.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "agent/policy/tokens.h"
#include "tests/unit/adapters/gatekeeper_fixture.h"

using namespace modal;
using namespace std::chrono_literals;
using adapters::Mode;
using policy::Refusal;
using test::GatekeeperFixture;
using test::Outcome;
using test::SomeConfig;
using test::Value;

namespace {

std::vector<policy::TokenRecord> Tokens() {
  // SHA-256 of "secret".
  const std::string hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
  return *policy::ParseTokens("key:" + hash + "\nother:" + hash + ":elsewhere\n", "tokens");
}
const std::string kToken = "Modal-Key: key\r\nModal-Secret: secret\r\n";

std::string Post(const std::string& target, const std::string& lines, const std::string& body) {
  return "POST " + target + " HTTP/1.1\r\nHost: a\r\n" + lines + "\r\n" + body;
}

}  // namespace

TEST_CASE("a request that may pass reaches the adapter, and its answer the client") {
  GatekeeperFixture f;
  auto& client = f.Ask(Post("/p", "Content-Length: 5\r\n", "hello"));
  CHECK(f.adapter.Take() == "begin /p\nbody hello\nend /p\n");
  CHECK(f.gatekeeper.in_flight() == 1);
  CHECK(f.traffic.in_flight.value() == 1);
  f.clock.Advance(7ms);
  f.adapter.Answer(*f.adapter.calls.at(0), "answer", 201);
  f.Run();
  CHECK(Outcome(client.peer.received()) == "201");
  CHECK(client.peer.received().ends_with("\r\n\r\nanswer"));
  CHECK(f.gatekeeper.in_flight() == 0);
  CHECK(f.traffic.in_flight.value() == 0);
  CHECK(f.traffic.requests.value() == 1);
  CHECK(f.traffic.by_status[201 - 100].value() == 1);
  CHECK(f.traffic.latency.sum_us.value() == 7000);
  CHECK(f.traffic.latency.buckets[4].value() == 1);  // 5 to 10 ms
  CHECK(f.places.in_flight() == 0);
  CHECK(f.empty == 0);
}

TEST_CASE("the policy is asked in order: phase, token, rate, place, size") {
  policy::GatewayConfig config = SomeConfig();
  config.auth_required = 1;
  config.rate_limit = 1;
  config.rate_burst = 1;
  config.max_concurrency = 1;
  config.queue = 0;
  config.max_body = 3;
  GatekeeperFixture f(config, Tokens());
  const std::string bad = "Content-Length: 4\r\n";
  const auto ask = [&](const std::string& lines) {
    return Outcome(f.Ask(Post("/", lines, "")).peer.received());
  };
  f.SetMode(Mode::kNotYet);
  CHECK(ask(bad) == "503 not_ready");
  f.SetMode(Mode::kServing);
  CHECK(ask(bad) == "401 unauthorized");
  // Neither of them has taken from the rate.
  f.Get("/place", kToken);
  CHECK(f.adapter.Take() == "begin /place\nend /place\n");
  CHECK(ask(bad) == "401 unauthorized");
  CHECK(ask(bad + kToken) == "429 rate_limited");
  f.clock.Advance(1s);
  CHECK(ask(bad + kToken) == "503 queue_full");
  f.clock.Advance(1s);
  f.adapter.Answer(*f.adapter.calls.at(0));
  CHECK(ask(bad + kToken) == "413 body_too_large");
  CHECK(f.adapter.Take() == "");
  CHECK(f.places.in_flight() == 0);
  f.clock.Advance(1s);
  f.SetMode(Mode::kDraining);
  CHECK(ask(bad + kToken) == "503 draining");
  for (const Refusal why : {Refusal::kNotReady, Refusal::kRateLimited, Refusal::kQueueFull,
                            Refusal::kBodyTooLarge, Refusal::kDraining}) {
    CHECK(f.Refused(why) == 1);
  }
  CHECK(f.Refused(Refusal::kUnauthorized) == 2);
  CHECK(f.traffic.requests.value() == 8);
  CHECK(f.traffic.by_status[503 - 100].value() == 3);
  CHECK(f.traffic.by_status[401 - 100].value() == 2);
}

TEST_CASE("a refusal says why, which request it was, and when to come again") {
  GatekeeperFixture f;
  f.SetMode(Mode::kNotYet);
  const std::string answer = f.Get("/", "X-Request-Id: abc\r\n").peer.received();
  CHECK(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
  CHECK(Value(answer, "Retry-After") == "1");
  CHECK(Value(answer, "X-Request-Id") == "abc");
  CHECK(
      answer.ends_with("{\"error\":\"not_ready\",\"message\":\"the server is not ready yet\","
                       "\"request_id\":\"abc\"}\n"));
  CHECK(Value(answer, "Connection") == "-");  // it may ask again here
}

TEST_CASE("a token is good, unknown, or for another environment") {
  policy::GatewayConfig config = SomeConfig();
  config.auth_required = 1;
  std::strcpy(config.environment, "here");
  GatekeeperFixture f(config, Tokens());
  f.adapter.on_end = [&](adapters::Call& call) { f.adapter.Answer(call); };
  const auto ask = [&](const std::string& lines) {
    return Outcome(f.Get("/", lines).peer.received());
  };
  CHECK(ask(kToken) == "200");
  CHECK(ask("") == "401 unauthorized");
  CHECK(ask("Modal-Key: key\r\n") == "401 unauthorized");
  CHECK(ask("Modal-Key: key\r\nModal-Secret: wrong\r\n") == "401 unauthorized");
  CHECK(ask("Modal-Key: nobody\r\nModal-Secret: secret\r\n") == "401 unauthorized");
  CHECK(ask("Modal-Key: other\r\nModal-Secret: secret\r\n") == "403 forbidden");
  CHECK(f.Refused(Refusal::kUnauthorized) == 4);
  CHECK(f.Refused(Refusal::kWrongEnvironment) == 1);
}

TEST_CASE("requests come at the rate that is allowed, and are told when to come again") {
  policy::GatewayConfig config = SomeConfig();
  config.rate_limit = 1;
  config.rate_burst = 2;
  GatekeeperFixture f(config);
  f.adapter.on_end = [&](adapters::Call& call) { f.adapter.Answer(call); };
  CHECK(Outcome(f.Get("/").peer.received()) == "200");
  CHECK(Outcome(f.Get("/").peer.received()) == "200");
  const std::string refused = f.Get("/").peer.received();
  CHECK(Outcome(refused) == "429 rate_limited");
  CHECK(Value(refused, "Retry-After") == "1");
  f.clock.Advance(1s);
  CHECK(Outcome(f.Get("/").peer.received()) == "200");
}

TEST_CASE("requests that come too early are held, and let go in order when the server is ready") {
  policy::GatewayConfig config = SomeConfig();
  config.hold_ms = 2000;
  config.hold_most = 3;
  GatekeeperFixture f(config);
  f.SetMode(Mode::kNotYet);
  auto& first = f.Get("/1");
  f.Ask(Post("/2", "Content-Length: 5\r\n", "hello"));
  f.Get("/3");
  CHECK(f.traffic.held.value() == 3);
  CHECK(Outcome(f.Get("/4").peer.received()) == "503 not_ready");
  CHECK(f.adapter.Take() == "");
  CHECK(first.peer.received() == "");
  f.Advance(1999ms);
  SUBCASE("when the order comes") {
    f.SetMode(Mode::kServing);
    CHECK(f.adapter.Take() == "begin /1\nend /1\nbegin /2\nbegin /3\nend /3\nbody hello\nend /2\n");
  }
  SUBCASE("when another request shows that it is ready") {
    f.ready = true;
    f.Get("/5");
    CHECK(f.gatekeeper.mode() == Mode::kServing);
    CHECK(f.adapter.Take().starts_with("begin /1\nend /1\nbegin /2\nbegin /3\nend /3\nbegin /5\n"));
  }
  CHECK(f.traffic.held.value() == 0);
  f.Advance(1h);
  CHECK(first.peer.received() == "");
  f.adapter.Answer(*f.adapter.calls.at(0));
  f.Run();
  CHECK(Outcome(first.peer.received()) == "200");
}

TEST_CASE("what is held too long is refused, and what its client leaves is forgotten") {
  policy::GatewayConfig config = SomeConfig();
  config.hold_ms = 2000;
  config.hold_most = 3;
  GatekeeperFixture f(config);
  f.SetMode(Mode::kNotYet);
  auto& first = f.Get("/1");
  f.Advance(1s);
  auto& second = f.Get("/2");
  auto& third = f.Get("/3");
  second.peer.Break();
  f.Advance(999ms);
  CHECK(f.traffic.held.value() == 2);
  CHECK(f.traffic.client_gone.value() == 1);
  CHECK(first.peer.received() == "");
  f.Advance(1ms);
  CHECK(Outcome(first.peer.received()) == "503 not_ready");
  CHECK(third.peer.received() == "");
  f.SetMode(Mode::kDraining);
  CHECK(Outcome(third.peer.received()) == "503 draining");
  CHECK(f.adapter.Take() == "");
  CHECK(f.empty > 0);
  CHECK(f.traffic.held.value() == 0);
}

TEST_CASE("a body is not asked for until the request may pass") {
  policy::GatewayConfig config = SomeConfig();
  config.hold_ms = 2000;
  config.hold_most = 3;
  GatekeeperFixture f(config);
  f.SetMode(Mode::kNotYet);
  auto& client = f.Ask(Post("/", "Expect: 100-continue\r\nContent-Length: 5\r\n", ""));
  CHECK(client.peer.received() == "");
  f.SetMode(Mode::kServing);
  CHECK(client.peer.TakeReceived() == "HTTP/1.1 100 Continue\r\n\r\n");
  client.peer.Send("hello");
  f.Run();
  CHECK(f.adapter.Take() == "begin /\nbody hello\nend /\n");
}

TEST_CASE("requests wait for a place, are let in as they came, and not for ever") {
  policy::GatewayConfig config = SomeConfig();
  config.max_concurrency = 1;
  config.queue = 3;
  config.queue_timeout_ms = 1000;
  GatekeeperFixture f(config);
  f.Get("/1");
  auto& second = f.Ask(Post("/2", "Content-Length: 5\r\n", "hello"));
  auto& third = f.Get("/3");
  f.Advance(500ms);
  auto& fourth = f.Get("/4");
  CHECK(f.traffic.queued.value() == 3);
  CHECK(Outcome(f.Get("/5").peer.received()) == "503 queue_full");
  CHECK(f.adapter.Take() == "begin /1\nend /1\n");
  f.adapter.Answer(*f.adapter.calls.at(0));
  f.Run();
  CHECK(f.adapter.Take() == "begin /2\nbody hello\nend /2\n");
  third.peer.Break();
  f.Run();
  f.Advance(500ms);
  CHECK(f.traffic.client_gone.value() == 1);
  CHECK(second.peer.received() == "");
  CHECK(f.traffic.queued.value() == 1);
  f.Advance(499ms);
  CHECK(fourth.peer.received() == "");
  f.Advance(1ms);
  CHECK(Outcome(fourth.peer.received()) == "503 queue_timeout");
  CHECK(f.Refused(Refusal::kQueueTimeout) == 1);
  CHECK(f.traffic.queued.value() == 0);
  f.adapter.Answer(*f.adapter.calls.at(0));
  f.Run();
  CHECK(Outcome(second.peer.received()) == "200");
  CHECK(f.places.in_flight() == 0);
  CHECK(f.places.waiting() == 0);
}

TEST_CASE("a client that leaves gives its place to the next") {
  policy::GatewayConfig config = SomeConfig();
  config.max_concurrency = 1;
  config.queue = 3;
  GatekeeperFixture f(config);
  auto& first = f.Get("/1");
  f.Get("/2");
  first.peer.Break();
  f.Run();
  CHECK(f.adapter.Take() == "begin /1\nend /1\ngone /1\nbegin /2\nend /2\n");
  CHECK(f.traffic.client_gone.value() == 1);
  CHECK(f.gatekeeper.in_flight() == 1);
}

TEST_CASE("however many wait, those that fail at once make the stack no deeper") {
  policy::GatewayConfig config = SomeConfig();
  config.max_concurrency = 1;
  config.queue = 100;
  GatekeeperFixture f(config);
  f.Get("/first");
  for (int i = 0; i < 100; ++i) f.Get("/");
  int depth = 0;
  int deepest = 0;
  int failed = 0;
  f.adapter.on_begin = [&](adapters::Call& call) {
    deepest = std::max(deepest, ++depth);
    ++failed;
    f.adapter.Forget(call);
    call.Fail(502, Refusal::kUpstreamConnect, "the server cannot be reached");
    --depth;
  };
  f.adapter.Answer(*f.adapter.calls.at(0));
  f.Run();
  CHECK(failed == 100);
  CHECK(deepest == 1);
  CHECK(f.Refused(Refusal::kUpstreamConnect) == 100);
  CHECK(f.places.in_flight() == 0);
}

TEST_CASE("a place that another thread's request waits for wakes that thread") {
  policy::GatewayConfig config = SomeConfig();
  config.max_concurrency = 1;
  config.queue = 3;
  GatekeeperFixture f(config);
  f.Get("/1");
  policy::Admission other(f.places, 1);
  policy::Waiter waiter;
  CHECK(other.Arrive(waiter, f.clock.Now()) == policy::Admission::Entry::kWaiting);
  f.clock.Advance(1s);
  f.adapter.Answer(*f.adapter.calls.at(0));
  CHECK(f.woken == std::vector<uint32_t>{1});
  CHECK(other.NextTurn().entered == &waiter);
  // And the other way round.
  f.Get("/2");
  CHECK(f.traffic.queued.value() == 1);
  other.Leave();
  f.gatekeeper.GiveTurns();
  CHECK(f.traffic.queued.value() == 0);
  CHECK(f.adapter.Take() == "begin /1\nend /1\nbegin /2\nend /2\n");
}

TEST_CASE("a body is not larger than it may be, chunked ones included") {
  policy::GatewayConfig config = SomeConfig();
  config.max_body = 5;
  GatekeeperFixture f(config);
  SUBCASE("as large as it may be") {
    f.Ask(Post("/", "Content-Length: 5\r\n", "hello"));
    CHECK(f.adapter.Take() == "begin /\nbody hello\nend /\n");
  }
  SUBCASE("announced") {
    auto& client = f.Ask(Post("/", "Content-Length: 6\r\n", ""));
    CHECK(Outcome(client.peer.received()) == "413 body_too_large");
    CHECK(f.adapter.Take() == "");
  }
  SUBCASE("announced, and not sent before it is asked for") {
    auto& client = f.Ask(Post("/", "Content-Length: 6\r\nExpect: 100-continue\r\n", ""));
    CHECK(Outcome(client.peer.received()) == "413 body_too_large");
  }
  SUBCASE("in chunks") {
    auto& client = f.Ask(Post("/", "Transfer-Encoding: chunked\r\n", "4\r\nabcd\r\n"));
    CHECK(f.adapter.Take() == "begin /\nbody abcd\n");
    client.peer.Send("2\r\nef\r\n");
    f.Run();
    CHECK(f.adapter.Take() == "gone /\n");
    CHECK(Outcome(client.peer.received()) == "413 body_too_large");
    CHECK(f.gatekeeper.in_flight() == 0);
  }
  SUBCASE("in chunks, with the answer begun: it does not look whole") {
    auto& client = f.Ask(Post("/", "Transfer-Encoding: chunked\r\n", "4\r\nabcd\r\n"));
    f.adapter.calls.at(0)->Begin({});
    f.adapter.calls.at(0)->Write("some");
    client.peer.Send("2\r\nef\r\n");
    f.Run();
    CHECK(client.peer.reset());
    CHECK(f.Refused(Refusal::kBodyTooLarge) == 1);
    CHECK(f.traffic.by_status[100].value() == 1);
  }
}

TEST_CASE("a request has its time") {
  policy::GatewayConfig config = SomeConfig();
  config.request_timeout_ms = 5000;
  GatekeeperFixture f(config);
  auto& client = f.Get("/");
  f.Advance(4999ms);
  CHECK(client.peer.received() == "");
  SUBCASE("the answer comes in time") {
    f.adapter.Answer(*f.adapter.calls.at(0));
    f.Advance(1h);
    CHECK(Outcome(client.peer.received()) == "200");
  }
  SUBCASE("it does not come") {
    f.Advance(1ms);
    CHECK(Outcome(client.peer.received()) == "504 total_timeout");
    CHECK(f.adapter.Take() == "begin /\nend /\ngone /\n");
  }
  SUBCASE("it has begun, and does not end") {
    f.adapter.calls.at(0)->Begin({});
    f.adapter.calls.at(0)->Write("some");
    f.Advance(1ms);
    CHECK(client.peer.reset());
  }
  CHECK(f.gatekeeper.in_flight() == 0);
}

TEST_CASE("names of requests are kept if they are names, and made otherwise") {
  GatekeeperFixture f;
  const auto lines_of = [&](const std::string& sent) {
    f.Get("/", sent);
    const std::string lines = "\r\n" + f.adapter.calls.at(0)->lines();
    auto& client = *f.clients.back();
    const std::string id(f.adapter.calls[0]->id());
    f.adapter.Answer(*f.adapter.calls[0]);
    f.Run();
    // Whoever asked is told.
    CHECK(Value(client.peer.received(), "X-Request-Id") == id);
    CHECK(Value(lines, "X-Request-Id") == id);
    return lines;
  };
  CHECK(Value(lines_of("X-Request-Id: a-b.c\r\n"), "X-Request-Id") == "a-b.c");
  for (const char* bad :
       {"", "X-Request-Id: a b\r\n", "X-Request-Id:\r\n", "X-Request-Id: \"\r\n"}) {
    CHECK(Value(lines_of(bad), "X-Request-Id").size() == 32);
  }
  CHECK(Value(lines_of(""), "X-Request-Id") != Value(lines_of(""), "X-Request-Id"));
  const std::string trace = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-00";
  const std::string kept = lines_of("traceparent: " + trace + "\r\ntracestate: a=b\r\n");
  CHECK(Value(kept, "traceparent") == trace);
  CHECK(Value(kept, "tracestate") == "a=b");
  const std::string made = lines_of("traceparent: 00-x\r\ntracestate: a=b\r\n");
  CHECK(Value(made, "traceparent").size() == 55);
  CHECK(Value(made, "tracestate") == "-");
  const std::string twice =
      lines_of("traceparent: " + trace + "\r\ntraceparent: " + trace + "\r\n");
  CHECK(Value(twice, "traceparent") != trace);
}

TEST_CASE("the server is told who the client is, and believes nobody who is not trusted") {
  policy::GatewayConfig config = SomeConfig();
  SUBCASE("not trusted") {
    GatekeeperFixture f(config);
    f.Get("/", "X-Forwarded-For: 198.51.100.9\r\n");
    const std::string lines = "\r\n" + f.adapter.calls.at(0)->lines();
    CHECK(Value(lines, "X-Forwarded-For") == "192.0.2.7");
    CHECK(Value(lines, "X-Forwarded-Proto") == "http");
    CHECK(Value(lines, "X-Forwarded-Host") == "a");
  }
  SUBCASE("trusted") {
    config.trusted_count = 1;
    config.trusted[0] = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 0}, 120};
    GatekeeperFixture f(config);
    f.Get("/", "X-Forwarded-For: 198.51.100.9\r\n");
    const std::string lines = "\r\n" + f.adapter.calls.at(0)->lines();
    CHECK(Value(lines, "X-Forwarded-For") == "198.51.100.9, 192.0.2.7");
  }
}

TEST_CASE("times are told with the answer where that is wanted") {
  policy::GatewayConfig config = SomeConfig();
  config.server_timing = 1;
  GatekeeperFixture f(config);
  auto& client = f.Get("/");
  adapters::Call& call = *f.adapter.calls.at(0);
  f.clock.Advance(2ms);
  call.MarkSent();
  f.clock.Advance(40ms);
  call.MarkAnswered();
  f.adapter.Answer(call);
  f.Run();
  CHECK(Value(client.peer.received(), "Server-Timing") == "total;dur=42.000, upstream;dur=40.000");
  CHECK(f.traffic.upstream_latency.sum_us.value() == 40'000);
}

TEST_CASE("an upgrade is offered as configured only") {
  GatekeeperFixture f;
  const auto upgrade = [&](const std::string& lines, const std::string& version = "1.1") {
    f.Ask("GET / HTTP/" + version + "\r\nHost: a\r\nConnection: Upgrade\r\n" + lines + "\r\n");
    std::string protocol(f.adapter.calls.back()->upgrade());
    f.adapter.Answer(*f.adapter.calls.back());
    return protocol;
  };
  CHECK(upgrade("Upgrade: websocket\r\n") == "websocket");
  CHECK(upgrade("Upgrade: WebSocket\r\n") == "WebSocket");
  CHECK(upgrade("Upgrade: h2c\r\n") == "");
  CHECK(upgrade("Upgrade: websocket, h2c\r\n") == "websocket");
  CHECK(upgrade("Upgrade: websocket\r\n", "1.0") == "");
  CHECK(upgrade("") == "");
}

TEST_CASE("a drain ends when the last request has its answer; new ones are refused") {
  GatekeeperFixture f;
  auto& first = f.Get("/1");
  auto& second = f.Get("/2");
  f.SetMode(Mode::kDraining);
  CHECK(f.empty == 0);
  CHECK(Outcome(f.Get("/3").peer.received()) == "503 draining");
  CHECK(f.empty == 0);
  f.adapter.Answer(*f.adapter.calls.at(0));
  f.Run();
  CHECK(Outcome(first.peer.received()) == "200");
  CHECK(f.empty == 0);
  SUBCASE("an answer") {
    f.adapter.Answer(*f.adapter.calls.at(0));
    f.Run();
    CHECK(Outcome(second.peer.received()) == "200");
  }
  SUBCASE("a failure") {
    f.adapter.calls.at(0)->Fail(502, Refusal::kUpstreamAnswer, "the server went away");
    f.Run();
    CHECK(Outcome(second.peer.received()) == "502 upstream_answer");
  }
  SUBCASE("the client leaves") {
    second.peer.Break();
    f.Run();
  }
  CHECK(f.empty == 1);
}

TEST_CASE("a drain with nothing in flight is over at once") {
  GatekeeperFixture f;
  f.SetMode(Mode::kDraining);
  CHECK(f.empty == 1);
}

TEST_CASE("those who wait for a place when the drain begins still get it") {
  policy::GatewayConfig config = SomeConfig();
  config.max_concurrency = 1;
  config.queue = 3;
  GatekeeperFixture f(config);
  f.Get("/1");
  auto& second = f.Get("/2");
  f.SetMode(Mode::kDraining);
  f.adapter.Answer(*f.adapter.calls.at(0));
  f.Run();
  CHECK(f.empty == 0);
  f.adapter.Answer(*f.adapter.calls.at(0));
  f.Run();
  CHECK(Outcome(second.peer.received()) == "200");
  CHECK(f.empty == 1);
}

TEST_CASE("what is still there at the end is cut: refused where nothing was said, visibly else") {
  policy::GatewayConfig config = SomeConfig();
  config.max_concurrency = 2;
  config.queue = 3;
  GatekeeperFixture f(config);
  auto& silent = f.Get("/1");
  auto& talking = f.Get("/2");
  auto& waiting = f.Get("/3");
  f.adapter.calls.at(1)->Begin({});
  f.adapter.calls.at(1)->Write("some");
  f.Run();
  f.adapter.Take();
  f.SetMode(Mode::kDraining);
  f.SetMode(Mode::kCutting);
  CHECK(Outcome(silent.peer.received()) == "503 draining");
  CHECK(Outcome(talking.peer.received()) == "200");
  CHECK(talking.peer.reset());
  CHECK(Outcome(waiting.peer.received()) == "503 draining");
  CHECK(Value(silent.peer.received(), "Retry-After") == "1");
  CHECK(Value(waiting.peer.received(), "Retry-After") == "1");
  // The one that waited never reached the server.
  CHECK(f.adapter.Take() == "gone /1\ngone /2\n");
  CHECK(f.empty > 0);
  CHECK(f.gatekeeper.in_flight() == 0);
  CHECK(f.traffic.queued.value() == 0);
  CHECK(f.places.in_flight() == 0);
}

TEST_CASE("a new policy holds from now on, for those who wait too") {
  policy::GatewayConfig config = SomeConfig();
  config.max_concurrency = 1;
  config.queue = 3;
  config.queue_timeout_ms = 60'000;
  GatekeeperFixture f(config);
  auto& first = f.Get("/1");
  auto& second = f.Get("/2");
  f.Advance(2s);
  config.queue_timeout_ms = 1000;
  config.max_body = 1;
  f.SetConfig(config);
  f.Advance(0ms);
  CHECK(Outcome(second.peer.received()) == "503 queue_timeout");
  CHECK(first.peer.received() == "");
  f.adapter.Answer(*f.adapter.calls.at(0));
  f.Run();
  CHECK(Outcome(first.peer.received()) == "200");
  CHECK(Outcome(f.Ask(Post("/", "Content-Length: 2\r\n", "")).peer.received()) ==
        "413 body_too_large");
}

TEST_CASE("what no request comes of is counted for what it is") {
  http::ServerOptions options;
  options.max_head = 200;
  options.header_timeout = 10s;
  GatekeeperFixture f(SomeConfig(), {}, options);
  f.Ask("nonsense\r\n\r\n");
  f.Get("/", "A: " + std::string(300, 'x') + "\r\n");
  f.Ask("GET / HT");
  f.Advance(10s);
  CHECK(f.Refused(Refusal::kBadRequest) == 1);
  CHECK(f.Refused(Refusal::kHeaderTooLarge) == 1);
  CHECK(f.Refused(Refusal::kRequestTimeout) == 1);
  CHECK(f.traffic.requests.value() == 0);
}

TEST_CASE("every request has its line in the access log, those too that never became a call") {
  std::array<int, 2> ends{};
  REQUIRE(::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) == 0);
  const UniqueFd reader(ends[0]);
  policy::GatewayConfig config = SomeConfig();
  config.access_log = policy::AccessLogFormat::kCommon;
  http::ServerOptions options;
  options.max_head = 200;
  options.header_timeout = options.body_timeout = 10s;
  GatekeeperFixture f(config, {}, options);
  f.access_log.Reopen(UniqueFd(ends[1]));
  // Without the time.
  const auto lines = [&] {
    f.access_log.Flush();
    std::array<char, 4096> text;
    const ssize_t size = ::read(reader.get(), text.data(), text.size());
    std::string all(text.data(), static_cast<size_t>(std::max<ssize_t>(size, 0)));
    for (size_t at = all.find('['); at != std::string::npos; at = all.find('[', at + 1)) {
      all.replace(at, all.find(']', at) + 1 - at, "[]");
    }
    return all;
  };
  std::string first_line;
  std::string status = "400";
  uint64_t gone = 0;
  const auto ask = [&](const std::string& text) { return f.Ask(text).peer.received(); };
  std::string answer;
  SUBCASE("no HTTP") {
    answer = ask("\x16\x03\x01 hello\r\n\r\n");
    first_line = "-";
  }
  SUBCASE("a header that is none") {
    answer = ask("GET /a?b HTTP/1.1\r\nHost : a\r\n\r\n");
    first_line = "GET /a?b HTTP/1.1";
  }
  SUBCASE("no Host") {
    answer = ask("GET /a HTTP/1.1\r\n\r\n");
    first_line = "GET /a HTTP/1.1";
  }
  SUBCASE("another version") {
    answer = ask("GET /a HTTP/2.0\r\nHost: a\r\n\r\n");
    first_line = "GET /a HTTP/2.0";
    status = "505";
  }
  SUBCASE("a method that is not served") {
    answer = ask("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n");
    first_line = "CONNECT a:80 HTTP/1.1";
    status = "405";
  }
  SUBCASE("headers that are too long") {
    answer = ask("GET /a HTTP/1.1\r\nA: " + std::string(300, 'x') + "\r\n\r\n");
    first_line = "GET /a HTTP/1.1";
    status = "431";
  }
  SUBCASE("a target that is too long") {
    answer = ask("GET /" + std::string(300, 'x'));
    first_line = "GET /" + std::string(195, 'x');
    status = "414";
  }
  SUBCASE("a head that stops coming") {
    auto& client = f.Ask("GET /a");
    f.Advance(10s);
    answer = client.peer.received();
    first_line = "GET /a";
    status = "408";
  }
  SUBCASE("a body that stops coming") {
    auto& client = f.Ask(Post("/a", "Content-Length: 5\r\n", "he"));
    f.Advance(10s);
    answer = client.peer.received();
    first_line = "POST /a HTTP/1.1";
    status = "408";
  }
  SUBCASE("a body that is none") {
    answer = ask(Post("/a", "Transfer-Encoding: chunked\r\n", "x\r\n"));
    first_line = "POST /a HTTP/1.1";
  }
  SUBCASE("a body that stops coming when the answer has begun") {
    auto& client = f.Ask(Post("/a", "Content-Length: 5\r\n", "he"));
    f.adapter.calls.at(0)->Begin({});
    f.adapter.calls.at(0)->Write("so");
    f.Advance(10s);
    answer = client.peer.received();
    CHECK(client.peer.reset());
    first_line = "POST /a HTTP/1.1";
    status = "200";
    CHECK(lines() == "192.0.2.7 - - [] \"POST /a HTTP/1.1\" 200 2 \"-\" \"-\"\n");
    CHECK(f.Refused(Refusal::kRequestTimeout) == 1);
    return;
  }
  SUBCASE("a client that leaves") {
    auto& client = f.Ask(Post("/a", "Content-Length: 5\r\n", "he"));
    client.peer.Break();
    f.Run();
    gone = 1;
    CHECK(lines() == "192.0.2.7 - - [] \"POST /a HTTP/1.1\" 499 0 \"-\" \"-\"\n");
  }
  CHECK(f.traffic.client_gone.value() == gone);
  CHECK(f.gatekeeper.in_flight() == 0);
  CHECK(f.adapter.calls.empty());
  if (gone > 0) return;
  CHECK(answer.substr(9, 3) == status);
  const std::string id = Value(answer, "X-Request-Id");
  CHECK(id.size() == 32);
  CHECK(answer.ends_with("\"request_id\":\"" + id + "\"}\n"));
  const std::string length = Value(answer, "Content-Length");
  CHECK(lines() ==
        "192.0.2.7 - - [] \"" + first_line + "\" " + status + " " + length + " \"-\" \"-\"\n");
  CHECK(f.traffic.by_status[std::stoul(status) - 100].value() == 1);
  uint64_t refused = 0;
  for (const auto& counter : f.traffic.refused) refused += counter.value();
  CHECK(refused == 1);
}

TEST_CASE("a switch to another protocol makes a tunnel, that the cut closes") {
  GatekeeperFixture f;
  auto& client =
      f.Ask("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
  test::FakePeer server;
  adapters::Call& call = *f.adapter.calls.at(0);
  const auto switch_it = [&] {
    f.adapter.Forget(call);
    call.SwitchProtocols("websocket", "A: b\r\n", {server.Connect(), "\x82\x02hi", ""});
    f.Run();
    server.Run();
    f.Run();
  };
  SUBCASE("bytes go to and fro") {
    switch_it();
    const std::string& got = client.peer.received();
    CHECK(
        got.starts_with("HTTP/1.1 101 Switching Protocols\r\n"
                        "Connection: Upgrade\r\nUpgrade: websocket\r\nA: b\r\n"));
    CHECK(got.ends_with("\r\n\r\n\x82\x02hi"));
    CHECK(Value(got, "X-Request-Id").size() == 32);
    CHECK(f.traffic.websockets.value() == 1);
    CHECK(f.gatekeeper.in_flight() == 1);
    client.peer.TakeReceived();
    f.SetMode(Mode::kDraining);
    CHECK(f.empty == 0);
    f.SetMode(Mode::kCutting);
    f.Run();
    CHECK(client.peer.received() == "\x88\x0c\x03\xe9going away");
    f.Advance(2s);
    CHECK(client.peer.closed());
    CHECK(server.closed());
    CHECK(f.traffic.websockets.value() == 0);
    CHECK(f.empty > 0);
  }
  SUBCASE("a client that cannot take the answer") {
    client.peer.TakeOnly(10);
    switch_it();
    CHECK(client.peer.reset());
    CHECK(server.reset());
  }
  SUBCASE("a client whose connection breaks right before it") {
    client.peer.Break();
    const http::Header link{"Link", "</a>"};
    call.Inform(103, {&link, 1});
    switch_it();
    CHECK(server.reset());
  }
  CHECK(f.gatekeeper.in_flight() == 0);
  CHECK(f.places.in_flight() == 0);
  CHECK(f.traffic.in_flight.value() == 0);
}

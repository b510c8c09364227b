// The whole way of requests: clients' bytes through a connection, the gatekeeper and the proxy to
// a server that answers anything, and back; either side may be slow, end, or break at any moment.
//
// The input: a byte that says how both sides behave, one how they are cut, and then texts between
// separators (FF FF): first what the client sends, then what the server sends on its first
// connection, its second, and so on (the last again and again).
//
// Always: nothing spins, everything ends, every place is left; what the server gets is HTTP, and
// no request that the client has not sent; what the client gets is HTTP, whole answers are those
// of the server or errors of ours, and one that is not whole is visibly cut.
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/check.h"
#include "agent/http/request_parser.h"
#include "agent/http/response_parser.h"
#include "tests/fuzz/pieces.h"
#include "tests/unit/adapters/proxy_fixture.h"

using namespace modal;

namespace {

const std::string kSeparator = "\xff\xff";
constexpr size_t kMostConnections = 8;

std::vector<std::string> Split(const std::string& text) {
  std::vector<std::string> parts;
  size_t at = 0;
  for (;;) {
    const size_t end = text.find(kSeparator, at);
    parts.push_back(text.substr(at, end == std::string::npos ? end : end - at));
    if (end == std::string::npos) return parts;
    at = end + kSeparator.size();
  }
}

struct Message {
  http::Method method = http::Method::kOther;  // of the request
  int status = 0;                              // of the answer
  std::string body;
};

bool SameRequest(const Message& a, const Message& b) {
  return a.method == b.method && a.body == b.body;
}
bool SameAnswer(const Message& a, const Message& b) {
  return a.status == b.status && a.body == b.body;
}

struct Requests {
  std::vector<Message> whole;
  std::vector<http::Method> heads;  // also of those that are not whole
  bool bad = false;
};

Requests ReadRequests(std::string_view text) {
  using Event = http::RequestParser::Event;
  http::RequestParser parser({size_t{1} << 20, 1000});
  Requests requests;
  Message message;
  for (;;) {
    const auto step = parser.Next(text);
    text.remove_prefix(step.consumed);
    switch (step.event) {
      case Event::kMore:
        if (text.empty()) return requests;
        break;
      case Event::kHead:
        message = {parser.request().method, 0, {}};
        requests.heads.push_back(message.method);
        break;
      case Event::kBody:
        message.body += step.data;
        break;
      case Event::kEnd:
        requests.whole.push_back(message);
        parser.Reset();
        break;
      case Event::kError:
        requests.bad = true;
        return requests;
    }
  }
}

struct Answers {
  std::vector<Message> whole;  // but for interim ones
  bool bad = false;
  bool partial = false;  // the last one is not whole
  bool unasked = false;  // there are more than methods
};

// `closed`: the sender has ended in peace.
Answers ReadAnswers(std::string_view text, const std::vector<http::Method>& methods, bool closed) {
  using Event = http::ResponseParser::Event;
  http::ResponseParser parser({size_t{1} << 20, 1000});
  Answers answers;
  Message message;
  const auto expect = [&] {
    const size_t number = answers.whole.size();
    message = {number < methods.size() ? methods[number] : http::Method::kGet, 0, {}};
    parser.ExpectAnswerTo(message.method);
  };
  expect();
  for (;;) {
    const auto step = parser.Next(text);
    text.remove_prefix(step.consumed);
    switch (step.event) {
      case Event::kMore:
        if (!text.empty()) break;
        answers.partial = parser.started();
        if (answers.partial && parser.Finish()) {
          answers.partial = !closed;
          if (closed) answers.whole.push_back(message);
        }
        return answers;
      case Event::kHead:
        if (answers.whole.size() >= methods.size()) answers.unasked = true;
        if (!parser.response().interim) message.status = parser.response().status;
        if (parser.response().switches) return answers;
        break;
      case Event::kBody:
        message.body += step.data;
        break;
      case Event::kEnd:
        answers.whole.push_back(message);
        parser.Reset();
        expect();
        break;
      case Event::kError:
        answers.bad = true;
        return answers;
    }
  }
}

bool IsOurError(const Message& message) {
  return message.status >= 400 &&
         (message.method == http::Method::kHead || message.body.starts_with("{\"error\":"));
}

struct Script {
  std::string text;
  std::string sent;
  bool ended = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const uint8_t how = data[0];
  test::Pieces pieces(data + 1, size - 1);
  const std::vector<std::string> texts = Split(pieces.text());
  const std::string& from_client = texts[0];

  policy::GatewayConfig config = test::SomeConfig();
  config.max_body = 4096;
  config.max_message = 1024;
  config.request_timeout_ms = 3'600'000;
  config.max_concurrency = 1;
  config.queue = 4;
  http::ServerOptions server_options;
  server_options.max_head = 1024;
  server_options.max_headers = 16;
  http::ClientOptions client_options;
  client_options.first_byte_timeout = Milliseconds(30'000);
  client_options.max_head = 1024;
  test::ProxyFixture world(config, client_options, server_options);
  world.clock.Advance(Milliseconds(1000));

  const bool client_is_slow = (how & 1) != 0;
  const bool server_is_slow = (how & 2) != 0;
  const bool server_is_first = (how & 4) != 0;  // talks before it is asked
  const bool server_ends = (how & 8) != 0;
  const bool server_breaks = (how & 16) != 0;
  const bool client_ends = (how & 32) != 0;
  const bool client_breaks = (how & 64) != 0;
  const bool server_is_deaf = (how & 128) != 0;  // at its first connection, after a while

  std::vector<Script> scripts;
  world.on_connect = [&](test::FakePeer& peer) {
    const size_t number = std::min(scripts.size() + 1, texts.size() - 1);
    scripts.push_back({number > 0 ? texts[number] : std::string(), {}, false});
    if (server_is_slow) peer.TakeOnly(0);
    if (world.servers.size() >= kMostConnections) world.refuses = true;
  };
  const auto run = [&] {
    world.Run();
    for (const auto& client : world.clients) MODAL_CHECK(!client->peer.spun());
    for (const auto& server : world.servers) MODAL_CHECK(!server->spun());
  };
  // Each server says the next piece, and ends after the last.
  const auto servers_go_on = [&] {
    bool more = false;
    for (size_t i = 0; i < world.servers.size(); ++i) {
      test::FakePeer& peer = *world.servers[i];
      Script& script = scripts[i];
      if (server_is_slow) peer.TakeOnly(pieces.Next());
      if (peer.closed() || script.ended) continue;
      if (!server_is_first && peer.received().empty()) continue;
      if (script.sent.size() < script.text.size()) {
        const std::string piece = script.text.substr(script.sent.size(), pieces.Next());
        script.sent += piece;
        peer.Send(piece);
        if (server_is_deaf && i == 0) peer.StopListening();
        more = true;
      } else if (server_ends) {
        peer.ShutdownWrite();
        script.ended = true;
        more = true;
      } else if (server_breaks) {
        peer.Break();
        script.ended = true;
        more = true;
      }
    }
    return more;
  };

  auto& client = world.Connect();
  if (client_is_slow) client.peer.TakeOnly(0);
  for (size_t at = 0; at < from_client.size() && client.connection;) {
    const std::string piece = from_client.substr(at, pieces.Next());
    at += piece.size();
    client.peer.Send(piece);
    run();
    if (client_is_slow) {
      client.peer.TakeOnly(pieces.Next());
      run();
    }
    servers_go_on();
    run();
  }
  for (int i = 0; i < 2000 && servers_go_on(); ++i) {
    if (client_is_slow) client.peer.TakeOnly(pieces.Next());
    run();
  }
  if (client_ends) client.peer.ShutdownWrite();
  if (client_breaks) client.peer.Break();
  run();
  client.peer.TakeOnly(1 << 20);
  for (const auto& server : world.servers) server->TakeOnly(1 << 20);
  run();
  for (int i = 0; i < 2000 && servers_go_on(); ++i) run();
  // Every time-out passes. A tunnel has none.
  for (int i = 0; i < 6; ++i) world.Advance(Milliseconds(80'000));
  world.SetMode(adapters::Mode::kDraining);
  world.SetMode(adapters::Mode::kCutting);
  for (int i = 0; i < 4; ++i) world.Advance(Milliseconds(80'000));
  run();

  MODAL_CHECK(!client.connection);
  MODAL_CHECK(client.peer.closed());
  MODAL_CHECK(world.gatekeeper.in_flight() == 0);
  MODAL_CHECK(world.places.in_flight() == 0);
  MODAL_CHECK(world.places.waiting() == 0);
  MODAL_CHECK(world.traffic.in_flight.value() == 0);
  MODAL_CHECK(world.traffic.upstream_idle.value() == 0);
  MODAL_CHECK(world.traffic.upstream_connections.value() == 0);
  MODAL_CHECK(world.clock.pending() == 0);
  if (world.traffic.websockets_opened.value() > 0) return 0;

  const Requests asked = ReadRequests(from_client);
  std::vector<Message> answered;
  for (size_t i = 0; i < world.servers.size(); ++i) {
    const Requests got = ReadRequests(world.servers[i]->received());
    MODAL_CHECK(!got.bad);
    for (const Message& message : got.whole) {
      MODAL_CHECK(std::any_of(asked.whole.begin(), asked.whole.end(),
                              [&](const Message& other) { return SameRequest(message, other); }));
    }
    const Answers said = ReadAnswers(scripts[i].sent, got.heads, scripts[i].ended && server_ends);
    answered.insert(answered.end(), said.whole.begin(), said.whole.end());
    // To what, it did not know itself: it talked before it was asked.
    if (said.unasked) return 0;
  }
  const Answers heard = ReadAnswers(client.peer.received(), asked.heads, !client.peer.reset());
  MODAL_CHECK(!heard.bad);
  for (const Message& message : heard.whole) {
    MODAL_CHECK(IsOurError(message) ||
                std::any_of(answered.begin(), answered.end(),
                            [&](const Message& other) { return SameAnswer(message, other); }));
  }
  if (heard.partial && !client_breaks) MODAL_CHECK(client.peer.reset());
  return 0;
}

// A Gatekeeper between clients (FakePeers) and an adapter, on a FakeClock.
#pragma once

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "adapters/gatekeeper.h"
#include "agent/http/server_connection.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_log.h"
#include "tests/support/fake_stream.h"

namespace modal::test {

inline policy::GatewayConfig SomeConfig() {
  policy::GatewayConfig config{};
  config.threads = 1;
  std::strcpy(config.upgrades, "websocket");
  return config;
}

// Answers when it is told to, and writes down what it hears.
class FakeAdapter final : public adapters::Adapter {
 public:
  void Begin(adapters::Call& call) override {
    story += "begin " + std::string(call.request().target) + "\n";
    calls.push_back(&call);
    if (on_begin) on_begin(call);
  }
  void OnBody(adapters::Call& call, std::string_view data) override {
    story.append("body ").append(data).append("\n");
    if (on_body) on_body(call);
  }
  void OnRequestEnd(adapters::Call& call) override {
    story += "end " + std::string(call.request().target) + "\n";
    if (on_end) on_end(call);
  }
  void OnDrained(adapters::Call&) override { story += "drained\n"; }
  void OnGone(adapters::Call& call) override {
    story += "gone " + std::string(call.request().target) + "\n";
    Forget(call);
  }

  void Answer(adapters::Call& call, std::string_view body = "ok", int status = 200) {
    Forget(call);
    http::ResponseHead head;
    head.status = status;
    head.content_length = body.size();
    call.Begin(head);
    call.Write(body);
    call.End();
  }
  void Forget(adapters::Call& call) { std::erase(calls, &call); }
  std::string Take() { return std::exchange(story, {}); }

  std::string story;
  std::vector<adapters::Call*> calls;
  std::function<void(adapters::Call&)> on_begin, on_body, on_end;
};

class GatekeeperFixture : public http::ServerConnection::Owner {
 public:
  explicit GatekeeperFixture(const policy::GatewayConfig& its_config = SomeConfig(),
                             std::vector<policy::TokenRecord> its_tokens = {},
                             const http::ServerOptions& options = {})
      : config(its_config),
        tokens(std::move(its_tokens)),
        places(config.max_concurrency, config.queue, 2),
        access_log(UniqueFd(), log.log),
        gatekeeper({clock, places, 0, access_log, traffic, [this] { return ready; },
                    [this](uint32_t thread) { woken.push_back(thread); }, [this] { ++empty; }},
                   std::make_shared<adapters::PolicySet>(config, tokens)),
        context(clock, options, gatekeeper, [] { return std::time_t{1769862896}; }) {
    clock.Advance(Milliseconds(1000));
    gatekeeper.set_adapter(adapter);
    gatekeeper.SetMode(adapters::Mode::kServing);
  }
  ~GatekeeperFixture() override { CloseAll(); }

  struct Client {
    FakePeer peer;
    std::unique_ptr<http::ServerConnection> connection;  // null once it has ended
    bool scheduled = false;
  };

  Client& Connect(const SocketAddress& from = *SocketAddress::Parse("192.0.2.7", 1234)) {
    clients.push_back(std::make_unique<Client>());
    Client& client = *clients.back();
    client.connection =
        std::make_unique<http::ServerConnection>(context, *this, client.peer.Connect(), from);
    return client;
  }
  // From a new client.
  Client& Ask(const std::string& text) {
    Client& client = Connect();
    client.peer.Send(text);
    Run();
    return client;
  }
  Client& Get(const std::string& target, const std::string& lines = "") {
    return Ask("GET " + target + " HTTP/1.1\r\nHost: a\r\n" + lines + "\r\n");
  }

  // Until nothing happens any more without time passing.
  virtual void Run() {
    while (RunClients()) {
    }
  }
  // True: something has happened.
  bool RunClients() {
    bool happened = false;
    for (const auto& client : clients) {
      const size_t calls = client->peer.calls();
      client->peer.Run();
      happened = happened || client->peer.calls() != calls;
      if (!std::exchange(client->scheduled, false)) continue;
      happened = true;
      client->connection->OnTurn();
      if (client->connection->closed() && !client->connection->scheduled()) {
        client->connection.reset();
      }
    }
    return happened;
  }
  void CloseAll() {
    for (const auto& client : clients) client->connection.reset();
  }
  void Advance(Milliseconds by) {
    clock.Advance(by);
    Run();
  }
  void SetMode(adapters::Mode mode) {
    gatekeeper.SetMode(mode);
    Run();
  }
  void SetConfig(const policy::GatewayConfig& new_config) {
    config = new_config;
    gatekeeper.SetPolicy(std::make_shared<adapters::PolicySet>(config, tokens));
  }
  uint64_t Refused(policy::Refusal why) const {
    return traffic.refused[static_cast<size_t>(why)].value();
  }

  void Schedule(http::ServerConnection& connection) override {
    for (const auto& client : clients) {
      if (client->connection.get() == &connection) client->scheduled = true;
    }
  }

  FakeClock clock;
  FakeLog log;
  policy::GatewayConfig config;
  std::vector<policy::TokenRecord> tokens;
  policy::Places places;
  policy::TrafficCounters traffic;
  adapters::AccessLog access_log;
  FakeAdapter adapter;
  bool ready = false;
  int empty = 0;
  std::vector<uint32_t> woken;
  adapters::Gatekeeper gatekeeper;
  http::ServerContext context;
  std::vector<std::unique_ptr<Client>> clients;
};

// The status of the first answer, and its error's word: "503 not_ready", "200".
inline std::string Outcome(const std::string& answer) {
  if (answer.size() < 12) return answer;
  std::string outcome = answer.substr(9, 3);
  const std::string key = "{\"error\":\"";
  const size_t at = answer.find(key);
  if (at == std::string::npos) return outcome;
  const size_t begin = at + key.size();
  return outcome + " " + answer.substr(begin, answer.find('"', begin) - begin);
}

// The value of the header `name`, or "-".
inline std::string Value(const std::string& message, const std::string& name) {
  const size_t at = message.find("\r\n" + name + ": ");
  if (at == std::string::npos) return "-";
  const size_t begin = at + 4 + name.size();
  return message.substr(begin, message.find("\r\n", begin) - begin);
}

}  // namespace modal::test

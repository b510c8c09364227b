// A Gatekeeper with the Proxy behind it, between clients and servers that are FakePeers.
#pragma once

#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "adapters/proxy.h"
#include "adapters/upstream_pool.h"
#include "agent/event/uv_clock.h"
#include "tests/unit/adapters/gatekeeper_fixture.h"

namespace modal::test {

inline http::ServerOptions WithoutLimit() {
  http::ServerOptions options;
  options.max_body = std::numeric_limits<uint64_t>::max();  // as in the gateway
  return options;
}

class ProxyFixture : public GatekeeperFixture {
 public:
  explicit ProxyFixture(const policy::GatewayConfig& its_config = SomeConfig(),
                        const http::ClientOptions& client_options = {},
                        const http::ServerOptions& options = WithoutLimit())
      : GatekeeperFixture(its_config, {}, options),
        pool(loop, clock, *SocketAddress::Parse("127.0.0.1", 8000), client_options, traffic,
             [this](const event::Destination&) { return NewServer(); }),
        proxy(pool, "server:8000", traffic) {
    gatekeeper.set_adapter(proxy);
  }
  ~ProxyFixture() override { CloseAll(); }

  void Run() override {
    for (int idle = 0; idle < 2;) {
      bool happened = RunClients();
      // A connection may be added meanwhile.
      for (size_t i = 0; i < servers.size(); ++i) {
        const size_t calls = servers[i]->calls();
        servers[i]->Run();
        happened = happened || servers[i]->calls() != calls;
      }
      const size_t before = Calls();
      loop.RunOnce();
      happened = happened || Calls() != before;
      idle = happened ? 0 : idle + 1;
    }
  }
  // Of the server's connection that was made as number `index`.
  std::string Received(size_t index) { return servers.at(index)->TakeReceived(); }
  void Answer(size_t index, std::string_view text) {
    servers.at(index)->Send(text);
    Run();
  }

  event::Loop loop;
  event::UvClock real_clock{loop};
  // Without anything to wait for a loop does nothing at all.
  std::unique_ptr<Timer> alive = real_clock.After(Milliseconds(3'600'000), [] {});
  std::vector<std::unique_ptr<FakePeer>> servers;
  bool refuses = false;                       // there is no connection to be had
  std::function<void(FakePeer&)> on_connect;  // sees each new one first
  adapters::UpstreamPool pool;
  adapters::Proxy proxy;

 private:
  Result<std::unique_ptr<event::Stream>> NewServer() {
    if (refuses) return Error("connect: Connection refused");
    servers.push_back(std::make_unique<FakePeer>());
    if (on_connect) on_connect(*servers.back());
    return servers.back()->Connect();
  }
  size_t Calls() const {
    size_t calls = 0;
    for (const auto& client : clients) calls += client->peer.calls();
    for (const auto& server : servers) calls += server->calls();
    return calls;
  }
};

}  // namespace modal::test

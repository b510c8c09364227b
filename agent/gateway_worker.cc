#include "agent/gateway_worker.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <limits>
#include <utility>

#include "agent/base/status_board.h"
#include "agent/base/strings.h"
#include "agent/event/listener.h"

namespace modal {
namespace {

constexpr Milliseconds kFlushAgain{100};

http::ServerOptions ServerOptionsOf(const policy::GatewayConfig& config, size_t most_connections) {
  http::ServerOptions options;
  options.max_head = static_cast<size_t>(config.max_header);
  options.max_body = std::numeric_limits<uint64_t>::max();  // the gatekeeper's affair
  options.max_connections = most_connections;
  options.header_timeout = Milliseconds(config.header_timeout_ms);
  options.body_timeout = Milliseconds(config.idle_timeout_ms);
  options.idle_timeout = Milliseconds(config.idle_timeout_ms);
  options.write_timeout = Milliseconds(config.idle_timeout_ms);
  return options;
}

http::ClientOptions ClientOptionsOf(const policy::GatewayConfig& config) {
  http::ClientOptions options;
  options.connect_timeout = Milliseconds(config.connect_timeout_ms);
  options.first_byte_timeout = Milliseconds(config.first_byte_timeout_ms);
  options.idle_timeout = Milliseconds(config.idle_timeout_ms);
  return options;
}

Result<SocketAddress> AddressOf(const policy::GatewayConfig& config) {
  return SocketAddress::Parse(BoardText(config.upstream_address), config.upstream_port);
}

Result<event::Destination> ServerOf(const policy::GatewayConfig& config) {
  const std::string_view path = BoardText(config.upstream_path);
  if (!path.empty()) return event::Destination::OfUnixSocket(path);
  const std::string_view name = BoardText(config.upstream_name);
  if (!name.empty()) return event::Destination::OfName(name, config.upstream_port);
  Result<SocketAddress> address = AddressOf(config);
  if (!address) return std::move(address.error());
  return event::Destination(*address);
}

// The Host for requests that came without one.
std::string AuthorityOf(const policy::GatewayConfig& config, const event::Destination& server) {
  if (!server.name().empty()) return Concat(server.name(), ":", server.port());
  return server.is_tcp() ? AddressOf(config)->ToString() : "localhost";
}

}  // namespace

Result<std::unique_ptr<GatewayWorker>> GatewayWorker::Create(Parts parts) {
  const policy::GatewayConfig& config = parts.policy->config;
  Result<event::Destination> server = ServerOf(config);
  if (!server) return std::move(server.error()).While("the server's address");
  const std::string authority = AuthorityOf(config, *server);
  std::unique_ptr<event::NameServers> name_servers;
  if (!server->name().empty()) {
    Result<std::unique_ptr<event::AresNameServers>> made = event::AresNameServers::Create(
        parts.loop, parts.clock, event::ParseResolverSettings(parts.policy->names.resolver));
    if (!made) return std::move(made.error());
    name_servers = *std::move(made);
  }
  UniqueFd listener = std::move(parts.listener);
  std::unique_ptr<GatewayWorker> worker(
      new GatewayWorker(std::move(parts), *server, authority, std::move(name_servers)));
  if (Result<void> served = worker->server_.Serve(std::move(listener)); !served) {
    return std::move(served.error());
  }
  return worker;
}

GatewayWorker::GatewayWorker(Parts parts, const event::Destination& server, std::string authority,
                             std::unique_ptr<event::NameServers> name_servers)
    : parts_(std::move(parts)),
      log_sink_(STDERR_FILENO, false),
      log_(log_sink_, parts_.policy->config.log_json != 0 ? LogFormat::kJson : LogFormat::kText,
           LogLevel::kInfo),
      access_log_(std::move(parts_.access_log), log_),
      name_servers_(std::move(name_servers)),
      pool_(parts_.loop, parts_.clock, server, ClientOptionsOf(parts_.policy->config), traffic_,
            name_servers_ ? [this](const event::Destination& to) { return ConnectByName(to); }
                          : adapters::UpstreamPool::Connect()),
      proxy_(pool_, std::move(authority), traffic_),
      gatekeeper_({parts_.clock, parts_.places, parts_.thread, access_log_, traffic_,
                   parts_.is_ready, parts_.wake, [this] { TellIfQuiet(); }},
                  parts_.policy),
      server_(parts_.loop, parts_.clock,
              ServerOptionsOf(parts_.policy->config, parts_.most_connections), gatekeeper_),
      tasks_(parts_.loop),
      end_of_turn_(parts_.loop, [this] { AtEndOfTurn(); }) {
  gatekeeper_.set_adapter(proxy_);
  if (!name_servers_) return;
  connect_timeout_ = ClientOptionsOf(parts_.policy->config).connect_timeout;
  resolver_ = std::make_unique<event::Resolver>(parts_.clock, log_, *name_servers_,
                                                parts_.policy->names, connect_timeout_);
}

Result<std::unique_ptr<event::Stream>> GatewayWorker::ConnectByName(
    const event::Destination& server) {
  return event::NamedStream::Open(parts_.loop, parts_.clock, *resolver_, server, connect_timeout_);
}

void GatewayWorker::SetMode(adapters::Mode mode, uint32_t order) {
  tasks_.Post([this, mode, order] {
    order_ = order;
    quiet_told_ = false;
    if (mode >= adapters::Mode::kDraining) server_.CloseGently();
    // What was idle is with a server that is not there any more, or will not be for long.
    if (mode != adapters::Mode::kServing) pool_.DropIdle();
    gatekeeper_.SetMode(mode);
    TellIfQuiet();
  });
}

void GatewayWorker::SetPolicy(std::shared_ptr<const adapters::PolicySet> policy,
                              UniqueFd access_log) {
  // A std::function is copied, a descriptor is not.
  auto log = std::make_shared<UniqueFd>(std::move(access_log));
  tasks_.Post([this, policy = std::move(policy), log] {
    access_log_.Reopen(std::move(*log));
    if (const Result<event::Destination> server = ServerOf(policy->config)) {
      pool_.SetServer(*server);
    }
    pool_.Configure(ClientOptionsOf(policy->config));
    if (resolver_) {
      connect_timeout_ = ClientOptionsOf(policy->config).connect_timeout;
      resolver_->Configure(policy->names, connect_timeout_);
    }
    server_.Configure(ServerOptionsOf(policy->config, 0));
    gatekeeper_.SetPolicy(policy);
    gatekeeper_.GiveTurns();
  });
}

void GatewayWorker::GiveTurns() {
  tasks_.Post([this] { gatekeeper_.GiveTurns(); });
}

// An answer is not over when it has been handed to the server: it may still be on its way out.
void GatewayWorker::TellIfQuiet() {
  if (quiet_told_ || gatekeeper_.mode() < adapters::Mode::kDraining) return;
  if (gatekeeper_.in_flight() > 0 || server_.stats().connections_busy > 0) return;
  quiet_told_ = true;
  parts_.on_quiet(order_);
}

void GatewayWorker::AtEndOfTurn() {
  const http::ServerStats& stats = server_.stats();
  const uint64_t count = stats.connections_accepted + stats.requests + stats.bytes_received +
                         stats.bytes_sent + stats.connections_open;
  TellIfQuiet();
  if (access_log_.pending()) {
    access_log_.Flush();
    // A reader that is slow: its time comes again.
    if (access_log_.pending() && !flush_) {
      flush_ = parts_.clock.After(kFlushAgain, [this] { flush_.reset(); });
    }
  }
  if (log_sink_.pending()) log_sink_.Flush();
  if (count == counted_) return;
  counted_ = count;
  traffic_.client_connections.Set(stats.connections_open);
  traffic_.bytes_received.Set(stats.bytes_received);
  traffic_.bytes_sent.Set(stats.bytes_sent);
  parts_.on_change();
}

}  // namespace modal

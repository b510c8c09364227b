#include "agent/http/server.h"

#include <sys/socket.h>

#include <array>
#include <utility>
#include <vector>

#include "agent/base/check.h"
#include "agent/event/listener.h"
#include "agent/event/stream.h"
#include "agent/http/server_connection.h"
#include "agent/http/whole_exchanges.h"

namespace modal::http {
namespace {

std::time_t WallTime() { return std::time(nullptr); }

constexpr std::string_view kTooManyConnections =
    "HTTP/1.1 503 Service Unavailable\r\n"
    "Content-Type: application/json\r\n"
    "Content-Length: 75\r\n"
    "Retry-After: 1\r\n"
    "Connection: close\r\n"
    "\r\n"
    "{\"error\":\"too_many_connections\",\"message\":\"too many connections are open\"}\n";

}  // namespace

class Server::Impl final : public event::Acceptor::Owner, public ServerConnection::Owner {
 public:
  Impl(event::Loop& loop, Clock& clock, const ServerOptions& options,
       std::unique_ptr<ExchangeHandler> own_handler, ExchangeHandler& handler)
      : loop_(loop),
        clock_(clock),
        own_handler_(std::move(own_handler)),
        context_(clock, options, handler, WallTime) {}

  Result<void> Serve(UniqueFd listener) {
    Result<std::unique_ptr<event::Acceptor>> acceptor =
        event::Acceptor::Start(loop_, clock_, std::move(listener), *this);
    if (!acceptor) return std::move(acceptor.error());
    acceptors_.push_back(*std::move(acceptor));
    return {};
  }

  void StopListening() { acceptors_.clear(); }
  void CloseGently() { context_.closing = true; }
  void Configure(const ServerOptions& options) { context_.Configure(options); }
  const ServerStats& stats() const { return context_.stats; }

 private:
  void OnConnection(UniqueFd fd, const SocketAddress& peer) override {
    ++context_.stats.connections_accepted;
    if (context_.stats.connections_open >= context_.options.max_connections && !MakeRoom()) {
      return Shed(std::move(fd));
    }
    Result<std::unique_ptr<event::SocketStream>> stream =
        event::SocketStream::Open(loop_, std::move(fd));
    if (!stream) {
      ++context_.stats.connections_refused;
      return;
    }
    connections_.push_back(
        std::make_unique<ServerConnection>(context_, *this, *std::move(stream), peer));
    connections_.back()->index = connections_.size() - 1;
  }

  bool MakeRoom() override {
    while (ServerConnection* connection = ServerConnection::Dispensable(context_)) {
      // Many that come at once are taken before any is read: their requests are there already, and
      // to close on them would reset the connection.
      if (connection->TakeWaitingRequest()) {
        if (connection->closed()) return true;
        continue;
      }
      ++context_.stats.connections_refused;
      connection->GiveWay();
      return true;
    }
    return false;
  }

  // Takes no time and no memory: what does not go at once does not go.
  void Shed(UniqueFd fd) override {
    ++context_.stats.connections_refused;
    ::send(fd.get(), kTooManyConnections.data(), kTooManyConnections.size(),
           MSG_NOSIGNAL | MSG_DONTWAIT);
    ::shutdown(fd.get(), SHUT_WR);
    // Closing on unread bytes would reset the connection before the answer is read.
    std::array<char, 4096> unread;
    for (int i = 0; i < 4; ++i) {
      if (::recv(fd.get(), unread.data(), unread.size(), MSG_DONTWAIT) <= 0) break;
    }
  }

  void Schedule(ServerConnection& connection) override {
    scheduled_.push_back(&connection);
    if (!turn_) {
      turn_ = clock_.After(Milliseconds(0), [this] { Turn(); });
    }
  }

  void Turn() {
    turn_.reset();
    const std::vector<ServerConnection*> scheduled = std::exchange(scheduled_, {});
    for (ServerConnection* connection : scheduled) {
      connection->OnTurn();
      if (connection->closed() && !connection->scheduled()) Destroy(*connection);
    }
  }

  void Destroy(ServerConnection& connection) {
    const size_t index = connection.index;
    MODAL_CHECK(connections_[index].get() == &connection);
    std::swap(connections_[index], connections_.back());
    connections_[index]->index = index;
    connections_.pop_back();
  }

  event::Loop& loop_;
  Clock& clock_;
  std::unique_ptr<ExchangeHandler> own_handler_;
  ServerContext context_;
  std::vector<ServerConnection*> scheduled_;
  std::unique_ptr<Timer> turn_;
  std::vector<std::unique_ptr<ServerConnection>> connections_;
  std::vector<std::unique_ptr<event::Acceptor>> acceptors_;
};

Server::Server(event::Loop& loop, Clock& clock, const ServerOptions& options,
               WholeHandler handler) {
  auto exchanges = std::make_unique<WholeExchanges>(std::move(handler));
  ExchangeHandler& reference = *exchanges;
  impl_ = std::make_unique<Impl>(loop, clock, options, std::move(exchanges), reference);
}

Server::Server(event::Loop& loop, Clock& clock, const ServerOptions& options,
               ExchangeHandler& handler)
    : impl_(std::make_unique<Impl>(loop, clock, options, nullptr, handler)) {}

Server::~Server() = default;

Result<void> Server::Serve(UniqueFd listener) { return impl_->Serve(std::move(listener)); }
void Server::StopListening() { impl_->StopListening(); }
void Server::CloseGently() { impl_->CloseGently(); }
void Server::Configure(const ServerOptions& options) { impl_->Configure(options); }
const ServerStats& Server::stats() const { return impl_->stats(); }

}  // namespace modal::http

#include "adapters/upstream_pool.h"

#include <algorithm>
#include <utility>

#include "agent/base/check.h"
#include "agent/event/connect.h"
#include "agent/event/stream.h"

namespace modal::adapters {
namespace {

constexpr size_t kMostIdle = 64;

Result<std::unique_ptr<event::Stream>> ConnectSocket(event::Loop& loop,
                                                     const event::Destination& server) {
  Result<UniqueFd> fd = event::StartConnect(server);
  if (!fd) return std::move(fd.error());
  Result<std::unique_ptr<event::SocketStream>> stream =
      event::SocketStream::Open(loop, *std::move(fd));
  if (!stream) return std::move(stream.error());
  return std::unique_ptr<event::Stream>(*std::move(stream));
}

}  // namespace

UpstreamPool::UpstreamPool(event::Loop& loop, Clock& clock, const event::Destination& server,
                           const http::ClientOptions& options, policy::TrafficCounters& traffic,
                           Connect connect)
    : connect_(connect ? std::move(connect)
                       : [&loop](const event::Destination& to) { return ConnectSocket(loop, to); }),
      server_(server),
      traffic_(traffic),
      context_(clock, options),
      turn_(loop, [this] { OnTurn(); }) {}

UpstreamPool::~UpstreamPool() = default;

Result<http::ClientConnection*> UpstreamPool::Acquire(Wanted wanted) {
  while (wanted != Wanted::kNew && !idle_.empty()) {
    http::ClientConnection* connection = idle_.back();
    if (wanted == Wanted::kAlive && !connection->LooksAlive()) {
      connection->CloseIdle();
      continue;
    }
    idle_.pop_back();
    traffic_.upstream_idle.Subtract(1);
    return connection;
  }
  Result<std::unique_ptr<event::Stream>> stream = connect_(server_);
  if (!stream) return std::move(stream.error());
  connections_.push_back(
      std::make_unique<http::ClientConnection>(context_, *this, *std::move(stream)));
  connections_.back()->index = connections_.size() - 1;
  connections_.back()->server = server_;
  traffic_.upstream_connections.Add(1);
  return connections_.back().get();
}

void UpstreamPool::SetServer(const event::Destination& server) {
  if (server == server_) return;
  server_ = server;
  DropIdle();
}

void UpstreamPool::DropIdle() {
  while (!idle_.empty()) idle_.back()->CloseIdle();
}

void UpstreamPool::Schedule(http::ClientConnection& connection) {
  if (connection.scheduled) return;
  connection.scheduled = true;
  scheduled_.push_back(&connection);
}

void UpstreamPool::OnIdle(http::ClientConnection& connection) {
  if (!(connection.server == server_)) return connection.CloseIdle();
  if (idle_.size() == kMostIdle) idle_.front()->CloseIdle();
  idle_.push_back(&connection);
  traffic_.upstream_idle.Add(1);
}

void UpstreamPool::OnClosed(http::ClientConnection& connection) {
  const auto idle = std::find(idle_.begin(), idle_.end(), &connection);
  if (idle != idle_.end()) {
    idle_.erase(idle);
    traffic_.upstream_idle.Subtract(1);
  }
  const size_t index = connection.index;
  MODAL_CHECK(connections_[index].get() == &connection);
  closed_.push_back(std::move(connections_[index]));
  if (index + 1 < connections_.size()) {
    connections_[index] = std::move(connections_.back());
    connections_[index]->index = index;
  }
  connections_.pop_back();
  traffic_.upstream_connections.Subtract(1);
}

// Before the loop waits: nothing of a connection is on the stack.
void UpstreamPool::OnTurn() {
  // A turn may schedule more: until nothing is left, or it would wait for the next event.
  while (!scheduled_.empty()) {
    const std::vector<http::ClientConnection*> scheduled = std::exchange(scheduled_, {});
    for (http::ClientConnection* connection : scheduled) {
      connection->scheduled = false;
      connection->OnTurn();
    }
  }
  closed_.clear();
}

}  // namespace modal::adapters

#include "agent/gateway_probes.h"

#include <sys/socket.h>

#include <cerrno>

#include "agent/base/status_board.h"

namespace modal {

using health::GatewayReply;
using health::GatewayRequest;

Result<std::unique_ptr<GatewayProbes>> GatewayProbes::Start(event::Loop& loop, Clock& clock,
                                                            UniqueFd channel,
                                                            std::function<void()> on_closed) {
  std::unique_ptr<GatewayProbes> probes(
      new GatewayProbes(loop, clock, std::move(channel), std::move(on_closed)));
  GatewayProbes* self = probes.get();
  Result<std::unique_ptr<event::Poller>> poller = event::Poller::Watch(
      loop, probes->channel_.get(), [self](event::Poller::Ready) { self->OnReadable(); });
  if (!poller) return std::move(poller.error()).While("channel to the supervisor");
  probes->poller_ = *std::move(poller);
  probes->poller_->WaitFor(true, false);
  return probes;
}

void GatewayProbes::OnReadable() {
  GatewayRequest request;
  const ssize_t size = ::recv(channel_.get(), &request, sizeof request, MSG_DONTWAIT | MSG_TRUNC);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (size <= 0) {
    poller_->WaitFor(false, false);
    on_closed_();
    return;
  }
  if (size == static_cast<ssize_t>(sizeof request)) Begin(request);
}

void GatewayProbes::Begin(const GatewayRequest& request) {
  if (probes_.size() >= kMostAtOnce) {
    return Reply(request.id, {.status = 0, .error = "too many probes at the same time"});
  }
  const uint64_t number = ++last_number_;
  probes_[number] = std::make_unique<http::Probe>(
      loop_, clock_, BoardText(request.address), request.port, BoardText(request.path),
      Milliseconds(request.timeout_ms),
      [this, number, id = request.id](const http::ProbeResult& result) {
        Finish(number, id, result);
      });
}

void GatewayProbes::Finish(uint64_t number, uint32_t id, const http::ProbeResult& result) {
  Reply(id, result);
  probes_.erase(number);
}

// A supervisor that reads no replies keeps the time of its probes itself: nothing is kept for it.
void GatewayProbes::Reply(uint32_t id, const http::ProbeResult& result) {
  GatewayReply reply{};
  reply.id = id;
  reply.status = result.status;
  SetBoardText(reply.error, result.error);
  (void)::send(channel_.get(), &reply, sizeof reply, MSG_DONTWAIT | MSG_NOSIGNAL);
}

}  // namespace modal

#include "agent/gateway_probes.h"

#include <sys/socket.h>

#include <cerrno>
#include <span>
#include <utility>

#include "agent/base/passed_descriptors.h"
#include "agent/base/status_board.h"
#include "agent/event/name_files.h"

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
  ReceivedDescriptors received = ReceiveWithDescriptors(
      channel_.get(), std::as_writable_bytes(std::span(&request, 1)), MSG_DONTWAIT | MSG_TRUNC);
  if (received.size < 0 && errno == EAGAIN) return;
  if (received.size <= 0) {
    poller_->WaitFor(false, false);
    on_closed_();
    return;
  }
  if (received.size != static_cast<ssize_t>(sizeof request)) return;
  if (request.kind == GatewayRequest::Kind::kProbe) return Begin(request);
  if (on_order_) on_order_(request, std::move(received.descriptors));
}

void GatewayProbes::Begin(const GatewayRequest& request) {
  if (probes_.size() >= kMostAtOnce) {
    return Reply(request.id, {.status = 0, .error = "too many probes at the same time"});
  }
  const uint64_t number = ++last_number_;
  const std::string_view address = BoardText(request.address);
  const std::string_view path = BoardText(request.path);
  const Milliseconds timeout(request.timeout_ms);
  auto on_done = [this, number, id = request.id](const http::ProbeResult& result) {
    Finish(number, id, result);
  };
  if (connect_by_name_ && event::IsHostName(address)) {
    probes_[number] = std::make_unique<http::Probe>(
        clock_, connect_by_name_(event::Destination::OfName(address, request.port)), request.port,
        path, timeout, std::move(on_done));
    return;
  }
  probes_[number] = std::make_unique<http::Probe>(loop_, clock_, address, request.port, path,
                                                  timeout, std::move(on_done));
}

void GatewayProbes::Finish(uint64_t number, uint32_t id, const http::ProbeResult& result) {
  Reply(id, result);
  probes_.erase(number);
}

void GatewayProbes::Reply(uint32_t id, const http::ProbeResult& result) {
  GatewayReply reply{};
  reply.kind = GatewayReply::Kind::kProbe;
  reply.id = id;
  reply.status = result.status;
  SetBoardText(reply.error, result.error);
  Send(reply);
}

void GatewayProbes::Send(const GatewayReply& reply) {
  (void)::send(channel_.get(), &reply, sizeof reply, MSG_DONTWAIT | MSG_NOSIGNAL);
}

}  // namespace modal

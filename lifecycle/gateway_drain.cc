#include "lifecycle/gateway_drain.h"

#include <utility>

namespace modal::lifecycle {

using health::Carriage;

uint64_t InFlight(const Gateway& gateway) {
  const std::optional<health::GatewayStatus> status = gateway.status();
  if (!status) return 0;
  return status->traffic.in_flight + status->traffic.queued + status->traffic.held;
}

GatewayDrain::GatewayDrain(Clock& clock, Log& log, Gateway& gateway, Options options,
                           std::function<void()> on_drained)
    : clock_(clock),
      log_(log),
      gateway_(gateway),
      options_(options),
      on_drained_(std::move(on_drained)),
      alive_(std::make_shared<bool>(true)) {}

GatewayDrain::~GatewayDrain() { *alive_ = false; }

void GatewayDrain::Begin() {
  if (options_.delay.count() == 0) return Refuse();
  next_ = clock_.After(options_.delay, [this] { Refuse(); });
}

void GatewayDrain::Refuse() {
  began_ = clock_.Now();
  log_.Info("drain.begin", {{"in_flight", InFlight(gateway_)}, {"grace_ms", options_.grace}});
  why_ = "nothing in flight";
  next_ = clock_.After(options_.grace, [this] { Cut(); });
  Tell(Carriage::kDraining);
}

void GatewayDrain::Cut() {
  log_.Warn("drain.cut", {{"message", "the grace period is over: cutting what is left"},
                          {"in_flight", InFlight(gateway_)}});
  why_ = "the grace period is over";
  next_ = clock_.After(options_.cut, [this] { Finish("the gateway does not answer"); });
  Tell(Carriage::kCutting);
}

void GatewayDrain::Tell(Carriage carriage) {
  gateway_.SetCarriage(carriage, [this, alive = alive_] {
    if (*alive) Finish(why_);
  });
}

void GatewayDrain::Finish(const char* why) {
  next_.reset();
  const auto on_drained = std::exchange(on_drained_, nullptr);
  if (!on_drained) return;
  const auto waited = std::chrono::duration_cast<Milliseconds>(clock_.Now() - began_);
  log_.Info("drain.end", {{"message", why}, {"in_flight", InFlight(gateway_)}, {"ms", waited}});
  on_drained();
}

}  // namespace modal::lifecycle

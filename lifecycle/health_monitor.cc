#include "lifecycle/health_monitor.h"

#include "agent/base/strings.h"

namespace modal::lifecycle {

HealthMonitor::HealthMonitor(Clock& clock, Log& log, health::SocketTable& table, Gateway* gateway,
                             Options options, std::function<void(const Report&)> on_checked,
                             std::function<void(const std::string&)> on_unhealthy)
    : clock_(clock),
      log_(log),
      table_(table),
      gateway_(gateway),
      options_(std::move(options)),
      on_checked_(std::move(on_checked)),
      on_unhealthy_(std::move(on_unhealthy)),
      accept_queue_(table, options_.port),
      state_(options_.threshold),
      alive_(std::make_shared<bool>(true)) {}

HealthMonitor::~HealthMonitor() { *alive_ = false; }

void HealthMonitor::Start() {
  next_ = clock_.After(options_.interval, [this] { Check(); });
}

std::optional<std::string> HealthMonitor::Look() {
  if (options_.instead_of_port) return options_.instead_of_port();
  // All local looks are taken each time: the accept queue compares with the look before.
  const std::optional<std::string> port =
      health::CheckPortListens(table_, options_.port, options_.before, options_.loopback_is_enough);
  const std::optional<std::string> queue = accept_queue_.Check();
  return port ? port : queue;
}

void HealthMonitor::Check() {
  if (const std::optional<std::string> failure = Look()) return Done(*failure);
  if (options_.path.empty()) return Done("");
  gateway_->Probe(options_.address, options_.port, options_.path, options_.timeout,
                  [this, alive = alive_](const ProbeResult& result) {
                    if (!*alive) return;
                    if (result.ok()) return Done("");
                    Done(result.status ? Concat("GET ", options_.path, " answers ", result.status)
                                       : Concat("GET ", options_.path, ": ", result.error));
                  });
}

void HealthMonitor::Done(const std::string& failure) {
  ++report_.checks;
  if (!failure.empty()) return Failed(failure);
  if (report_.consecutive > 0) {
    log_.Info("health.recovered", {{"failures", report_.consecutive}});
  }
  state_.Succeeded();
  report_.consecutive = 0;
  Start();
  on_checked_(report_);
}

void HealthMonitor::Failed(const std::string& failure) {
  ++report_.failures;
  const health::HealthState::Verdict verdict = state_.Failed();
  report_.consecutive = state_.consecutive_failures();
  report_.last_failure = failure;
  log_.Warn(
      "health.failed",
      {{"message", failure}, {"failures", report_.consecutive}, {"threshold", options_.threshold}});
  if (verdict != health::HealthState::Verdict::kUnhealthy) Start();
  on_checked_(report_);
  if (verdict == health::HealthState::Verdict::kUnhealthy) on_unhealthy_(failure);
}

}  // namespace modal::lifecycle

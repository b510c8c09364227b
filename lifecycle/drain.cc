#include "lifecycle/drain.h"

#include <algorithm>

namespace modal::lifecycle {
namespace {

// Short requests end within milliseconds, long ones may take the whole grace: look often at first.
Milliseconds LookAgainAfter(Milliseconds waited) {
  return std::clamp(waited / 10, Milliseconds(5), Milliseconds(50));
}

}  // namespace

Drain::Drain(Clock& clock, Log& log, Options options, std::function<size_t()> count,
             std::function<void()> on_drained)
    : clock_(clock),
      log_(log),
      options_(options),
      count_(std::move(count)),
      on_drained_(std::move(on_drained)) {}

void Drain::Begin() {
  if (options_.delay.count() == 0) return StartGrace();
  look_ = clock_.After(options_.delay, [this] { StartGrace(); });
}

void Drain::StartGrace() {
  began_ = clock_.Now();
  in_flight_ = count_();
  log_.Info("drain.begin", {{"in_flight", in_flight_}, {"grace_ms", options_.grace}});
  if (in_flight_ == 0) return Finish("nothing in flight");
  grace_ = clock_.After(options_.grace, [this] { Finish("the grace period is over"); });
  look_ = clock_.After(LookAgainAfter(Milliseconds(0)), [this] { Look(); });
}

void Drain::Look() {
  in_flight_ = count_();
  if (in_flight_ == 0) return Finish("nothing in flight");
  const auto waited = std::chrono::duration_cast<Milliseconds>(clock_.Now() - began_);
  look_ = clock_.After(LookAgainAfter(waited), [this] { Look(); });
}

void Drain::Finish(const char* why) {
  const auto waited = std::chrono::duration_cast<Milliseconds>(clock_.Now() - began_);
  log_.Info("drain.end", {{"message", why}, {"in_flight", in_flight_}, {"ms", waited}});
  grace_.reset();
  look_.reset();
  const auto on_drained = std::move(on_drained_);
  on_drained_ = nullptr;
  on_drained();
}

}  // namespace modal::lifecycle

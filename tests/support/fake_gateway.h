// A Gateway that probes nothing: a test answers in its place.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "lifecycle/gateway.h"

namespace modal::test {

class FakeGateway : public lifecycle::Gateway {
 public:
  struct Probed {
    uint16_t port;
    std::string address;
    std::string path;
    Milliseconds timeout;
    std::function<void(const lifecycle::ProbeResult&)> on_result;
  };

  int starts = 0;
  int stops = 0;
  std::deque<Probed> probes;  // all, in order; those that are answered have no `on_result` any more

  void Answer(Probed& probe, const lifecycle::ProbeResult& result) {
    const auto on_result = std::exchange(probe.on_result, nullptr);
    if (stops == 0 && on_result) on_result(result);
  }
  void AnswerLast(int status) { Answer(probes.back(), {status, ""}); }

  void Start() override { ++starts; }
  void Stop() override { ++stops; }
  void Probe(const std::string& address, uint16_t port, const std::string& path,
             Milliseconds timeout,
             std::function<void(const lifecycle::ProbeResult&)> on_result) override {
    probes.push_back({port, address, path, timeout, std::move(on_result)});
  }
  std::optional<health::GatewayStatus> status() const override { return std::nullopt; }
  uint32_t restarts() const override { return 0; }
};

}  // namespace modal::test

// A Gateway that probes and carries nothing: a test answers in its place.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

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

  // What it was told, in order; the last of each is what counts.
  std::vector<health::Carriage> carriages;
  std::vector<lifecycle::DataPlane> configurations;
  std::optional<Error> refuse_configuration;
  std::optional<health::GatewayStatus> board;
  std::function<void()> on_drained;

  int starts = 0;
  int stops = 0;
  std::deque<Probed> probes;  // all, in order; those that are answered have no `on_result` any more

  void Answer(Probed& probe, const lifecycle::ProbeResult& result) {
    const auto on_result = std::exchange(probe.on_result, nullptr);
    if (stops == 0 && on_result) on_result(result);
  }
  void AnswerLast(int status) { Answer(probes.back(), {status, ""}); }

  health::Carriage carriage() const {
    return carriages.empty() ? health::Carriage::kNotYet : carriages.back();
  }
  void HaveInFlight(uint64_t requests) {
    board.emplace();
    board->carries = 1;
    board->traffic.in_flight = requests;
  }
  // As the gateway does when the last request has left.
  void Drained() {
    const auto drained = std::exchange(on_drained, nullptr);
    if (stops == 0 && drained) drained();
  }

  void Start() override { ++starts; }
  void Stop() override { ++stops; }
  void Probe(const std::string& address, uint16_t port, const std::string& path,
             Milliseconds timeout,
             std::function<void(const lifecycle::ProbeResult&)> on_result) override {
    probes.push_back({port, address, path, timeout, std::move(on_result)});
  }
  void SetCarriage(health::Carriage carriage, std::function<void()> drained) override {
    carriages.push_back(carriage);
    on_drained = std::move(drained);
  }
  Result<void> Reconfigure(const lifecycle::DataPlane& data_plane) override {
    if (refuse_configuration) return *refuse_configuration;
    configurations.push_back(data_plane);
    return {};
  }
  std::optional<health::GatewayStatus> status() const override { return board; }
  uint32_t restarts() const override { return 0; }
};

}  // namespace modal::test

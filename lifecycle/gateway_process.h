// Runs the gateway: a process of this same binary, unprivileged, replaced with back-off when it
// ends. The listening sockets stay open here, so connections that wait are served by its successor.
#pragma once

#include <list>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "agent/base/log.h"
#include "agent/base/status_board.h"
#include "agent/base/unique_fd.h"
#include "agent/event/loop.h"
#include "agent/event/poller.h"
#include "agent/process/launcher.h"
#include "healthcheck/gateway_channel.h"
#include "lifecycle/backoff.h"
#include "lifecycle/gateway.h"
#include "lifecycle/process_tree.h"

namespace modal::lifecycle {

class GatewayProcess : public Gateway {
 public:
  struct Listeners {
    std::vector<UniqueFd> admin;
    std::vector<UniqueFd> data;  // one for each thread
  };

  // Reconfigure() comes before Start(). `agent_board` is the supervisor's board, which the gateway
  // reads; it outlives this object. `executable` is the path of the agent's own binary.
  GatewayProcess(event::Loop& loop, Clock& clock, process::Launcher& launcher, ProcessTree& tree,
                 Log& log, Listeners listeners, const BoardMapping& agent_board,
                 std::string executable);
  ~GatewayProcess() override;

  void Start() override;
  void Stop() override;
  void Probe(const std::string& address, uint16_t port, const std::string& path,
             Milliseconds timeout, std::function<void(const ProbeResult&)> on_result) override;
  void SetCarriage(health::Carriage carriage, std::function<void()> on_drained) override;
  Result<void> Reconfigure(const DataPlane& data_plane) override;
  std::optional<health::GatewayStatus> status() const override;
  uint32_t restarts() const override { return restarts_; }

 private:
  struct PendingProbe {
    std::function<void(const ProbeResult&)> on_result;
    std::unique_ptr<Timer> timeout;
  };

  Result<void> Launch(bool as_nobody);
  void OnExit(ExitStatus status);
  process::LaunchSpec Spec() const;
  // Whether the gateway has taken the message; if not, errno says why.
  bool Send(const health::GatewayRequest& request);
  void SendCarriage();
  Result<void> SendConfig();
  void OnReply();
  void Drained();
  void DrainedSoon();
  void Finish(uint32_t id, const ProbeResult& result);
  void FailAll(const std::string& why);
  void StartAgainLater();

  event::Loop& loop_;
  Clock& clock_;
  process::Launcher& launcher_;
  ProcessTree& tree_;
  Log& log_;
  Listeners listeners_;
  const BoardMapping& agent_board_;
  std::string executable_;

  UniqueFd config_;
  UniqueFd access_log_;
  health::Carriage carriage_ = health::Carriage::kNotYet;
  uint32_t carriage_id_ = 0;  // of the last SetCarriage()
  std::function<void()> on_drained_;

  bool stopped_ = false;
  bool as_nobody_ = true;
  uint32_t restarts_ = 0;
  uint32_t last_probe_ = 0;
  Backoff backoff_{Milliseconds(100), Milliseconds(10000)};
  Clock::TimePoint started_{};
  UniqueFd channel_;
  std::unique_ptr<event::Poller> poller_;
  std::unique_ptr<BoardReader<health::GatewayStatus>> board_;
  std::unordered_map<uint32_t, PendingProbe> probes_;
  std::unique_ptr<process::Process> process_;
  std::unique_ptr<Timer> again_;
  std::unique_ptr<Timer> drained_;
};

}  // namespace modal::lifecycle

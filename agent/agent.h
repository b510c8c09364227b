// The agent itself: builds every part, wires them up, and runs the loop until the supervisor is
// done. Owned by main().
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "agent/base/descriptor_sink.h"
#include "agent/base/log.h"
#include "agent/base/status_board.h"
#include "agent/cli.h"
#include "agent/event/log_pump.h"
#include "agent/event/loop.h"
#include "agent/event/signals.h"
#include "agent/event/uv_clock.h"
#include "agent/process/launcher.h"
#include "agent/process/reaper.h"
#include "healthcheck/socket_table.h"
#include "healthcheck/status.h"
#include "lifecycle/control_server.h"
#include "lifecycle/gateway_process.h"
#include "lifecycle/job_control.h"
#include "lifecycle/keeper_launcher.h"
#include "lifecycle/process_tree.h"
#include "lifecycle/snapshotter.h"
#include "lifecycle/supervisor.h"
#include "lifecycle/workload_output.h"

namespace modal {

class Agent {
 public:
  // `parse_again` reads flags, environment and file anew, for a reload.
  // `loop` outlives the agent.
  Agent(event::Loop& loop, Invocation invocation, std::function<Result<Invocation>()> parse_again);

  // Until the container is to end; returns its exit code.
  int Run();

 private:
  // Everything that can be refused before anything is started.
  Result<void> SetUp();
  Result<void> MakeGateway();
  Result<void> MakeSnapshots();
  Result<std::vector<UniqueFd>> OpenAdminListeners();
  Result<std::vector<UniqueFd>> OpenDataListeners();
  void StartControl();
  std::string Answer(const std::string& command);
  void OnSignal(const event::SignalEvent& signal);
  void CollectChildren();
  void Count(health::AgentStatus& status);
  Result<lifecycle::Options> Reload(std::vector<std::string>& changed);

  Invocation invocation_;
  std::function<Result<Invocation>()> parse_again_;
  bool is_process_1_;
  int exit_code_;

  event::Loop& loop_;
  event::UvClock clock_;
  Clock::TimePoint started_;
  DescriptorSink sink_;
  event::LogPump pump_;
  Log log_;
  process::Reaper reaper_;
  process::ProcessLauncher launcher_;
  lifecycle::RealProcessTree tree_;
  health::KernelSocketTable table_;
  health::ProcSocketOwners owners_;
  std::unique_ptr<BoardWriter<health::AgentStatus>> board_;
  std::unique_ptr<event::Signals> signals_;
  std::set<uint64_t> own_listeners_;  // inodes
  std::unique_ptr<lifecycle::GatewayProcess> gateway_;
  std::unique_ptr<lifecycle::JobControl> job_control_;
  std::unique_ptr<lifecycle::WorkloadOutput> output_;
  std::unique_ptr<lifecycle::KeeperLauncher> keeper_;
  std::unique_ptr<lifecycle::Snapshotter> snapshots_;
  std::string no_snapshots_;  // why there are none, though they were asked for
  std::unique_ptr<lifecycle::Supervisor> supervisor_;
  std::unique_ptr<lifecycle::ControlServer> control_;
  std::unique_ptr<Timer> control_start_;
  std::unique_ptr<Timer> collect_again_;
  std::unique_ptr<Timer> reload_;
};

}  // namespace modal

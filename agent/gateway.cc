#include "agent/gateway.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "agent/base/descriptor_sink.h"
#include "agent/base/exit_status.h"
#include "agent/base/log.h"
#include "agent/base/strings.h"
#include "agent/event/loop.h"
#include "agent/event/uv_clock.h"
#include "agent/gateway_filter.h"
#include "agent/gateway_service.h"
#include "healthcheck/gateway_channel.h"

namespace modal {
namespace {

constexpr size_t kMostListeners = 64;

void Say(std::string_view message) {
  ::dprintf(STDERR_FILENO, "%s: %.*s\n", health::kGatewayArgv0, static_cast<int>(message.size()),
            message.data());
}

// Ours from now on.
Result<UniqueFd> TakeOver(int number) {
  if (::fcntl(number, F_SETFD, FD_CLOEXEC) == 0) return UniqueFd(number);
  return Error::FromErrno(Concat("descriptor ", number), errno)
      .While("modal-agent starts this itself, with descriptors of its own");
}

Result<std::vector<UniqueFd>> TakeOverListeners(int first, uint64_t count) {
  std::vector<UniqueFd> listeners;
  for (uint64_t i = 0; i < count; ++i) {
    Result<UniqueFd> listener = TakeOver(first + static_cast<int>(i));
    if (!listener) return std::move(listener.error());
    listeners.push_back(*std::move(listener));
  }
  return listeners;
}

// One of our arguments: how many listeners there are.
Result<uint64_t> ListenerCount(std::span<char* const> argv, size_t index) {
  const std::optional<uint64_t> count =
      ParseUnsigned(argv.size() == 3 ? std::string_view(argv[index]) : "");
  if (count && *count <= kMostListeners) return *count;
  return Error("modal-agent starts this itself, with the numbers of listeners");
}

Result<GatewayService::Parts> TakeOverAll(std::span<char* const> argv) {
  const Result<uint64_t> admin = ListenerCount(argv, 1);
  if (!admin) return admin.error();
  const Result<uint64_t> data = ListenerCount(argv, 2);
  if (!data) return data.error();
  Result<UniqueFd> channel = TakeOver(health::kGatewayChannelFd);
  if (!channel) return std::move(channel.error());
  Result<UniqueFd> agent_fd = TakeOver(health::kGatewayAgentBoardFd);
  if (!agent_fd) return std::move(agent_fd.error());
  Result<UniqueFd> own_fd = TakeOver(health::kGatewayOwnBoardFd);
  if (!own_fd) return std::move(own_fd.error());
  Result<UniqueFd> config_fd = TakeOver(health::kGatewayConfigFd);
  if (!config_fd) return std::move(config_fd.error());
  Result<UniqueFd> access_log = TakeOver(health::kGatewayAccessLogFd);
  if (!access_log) return std::move(access_log.error());
  Result<BoardMapping> agent_board =
      BoardMapping::OpenReadOnly(*std::move(agent_fd), sizeof(BoardLayout<health::AgentStatus>));
  if (!agent_board) return std::move(agent_board.error()).While("the agent's board");
  Result<BoardMapping> own_board =
      BoardMapping::OpenWritable(*std::move(own_fd), sizeof(BoardLayout<health::GatewayStatus>));
  if (!own_board) return std::move(own_board.error()).While("our own board");
  auto policy = ReadPolicy(config_fd->get());
  if (!policy) return std::move(policy.error());

  GatewayService::Parts parts{
      *std::move(channel), *std::move(agent_board), *std::move(own_board), {}};
  parts.policy = *std::move(policy);
  parts.access_log = *std::move(access_log);
  Result<std::vector<UniqueFd>> listeners =
      TakeOverListeners(health::kGatewayFirstListenerFd, *admin);
  if (!listeners) return std::move(listeners.error());
  parts.listeners = *std::move(listeners);
  listeners = TakeOverListeners(health::kGatewayFirstListenerFd + static_cast<int>(*admin), *data);
  if (!listeners) return std::move(listeners.error());
  parts.data_listeners = *std::move(listeners);
  return parts;
}

uint64_t DescriptorLimit() {
  rlimit limit{};
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 0;
}

Result<void> Serve(std::span<char* const> argv) {
  Result<GatewayService::Parts> parts = TakeOverAll(argv);
  if (!parts) return std::move(parts.error());
  const ConnectionLimits limits =
      MostConnections(DescriptorLimit(), parts->listeners.size(), parts->data_listeners.size());
  parts->most_connections = limits.admin;
  parts->most_data_connections = limits.data;
  const policy::GatewayConfig& config = parts->policy->config;
  const GatewayReach reach{.unix_sockets = config.upstream_path[0] != '\0',
                           .datagrams = config.upstream_name[0] != '\0'};
  // Left to itself, the C library counts the CPUs to know how many arenas to make: with system
  // calls that are not allowed any more when it does.
  ::mallopt(M_ARENA_MAX, static_cast<int>(parts->data_listeners.size()) + 1);
  event::Loop loop;
  event::UvClock clock(loop);
  DescriptorSink sink(STDERR_FILENO, false);
  Log log(sink, config.log_json != 0 ? LogFormat::kJson : LogFormat::kText, LogLevel::kInfo);
  Result<std::unique_ptr<GatewayService>> service =
      GatewayService::Start(loop, clock, log, *std::move(parts), [&loop] { loop.Stop(); });
  if (!service) return std::move(service.error());
  // Some kernels have no seccomp. Serving is worth more than the last of many walls; `status` and
  // the metrics tell.
  const Result<void> sealed = SealGateway(reach);
  if (!sealed) Say("goes on without a seccomp filter: " + sealed.error().message());
  (*service)->Run(sealed.ok());
  loop.Run();
  return {};
}

}  // namespace

int RunGateway(std::span<char* const> argv) {
  const Result<void> served = Serve(argv);
  if (!served) Say(served.error().message());
  // Not through exit(): there is nothing to flush, and a leak checker would have to trace us.
  ::_exit(served ? 0 : kExitAgentError);
}

}  // namespace modal

#include "agent/gateway.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <string>

#include "agent/base/exit_status.h"
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

Result<GatewayService::Parts> TakeOverAll(std::span<char* const> argv) {
  const std::optional<uint64_t> listeners =
      ParseUnsigned(argv.size() == 2 ? std::string_view(argv[1]) : "");
  if (!listeners || *listeners > kMostListeners) {
    return Error("modal-agent starts this itself, with the number of listeners");
  }
  Result<UniqueFd> channel = TakeOver(health::kGatewayChannelFd);
  if (!channel) return std::move(channel.error());
  Result<UniqueFd> agent_fd = TakeOver(health::kGatewayAgentBoardFd);
  if (!agent_fd) return std::move(agent_fd.error());
  Result<UniqueFd> own_fd = TakeOver(health::kGatewayOwnBoardFd);
  if (!own_fd) return std::move(own_fd.error());
  Result<BoardMapping> agent_board =
      BoardMapping::OpenReadOnly(*std::move(agent_fd), sizeof(BoardLayout<health::AgentStatus>));
  if (!agent_board) return std::move(agent_board.error()).While("the agent's board");
  Result<BoardMapping> own_board =
      BoardMapping::OpenWritable(*std::move(own_fd), sizeof(BoardLayout<health::GatewayStatus>));
  if (!own_board) return std::move(own_board.error()).While("our own board");

  GatewayService::Parts parts{
      *std::move(channel), *std::move(agent_board), *std::move(own_board), {}};
  for (size_t i = 0; i < *listeners; ++i) {
    Result<UniqueFd> listener = TakeOver(health::kGatewayFirstListenerFd + static_cast<int>(i));
    if (!listener) return std::move(listener.error());
    parts.listeners.push_back(*std::move(listener));
  }
  return parts;
}

uint64_t DescriptorLimit() {
  rlimit limit{};
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 0;
}

// Nobody of our user can trace us or read our memory, and there is no way back from here.
Result<void> Seal() {
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  // The C library reads the file of the time zone when it first converts a time, be it to UTC.
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return Error::FromErrno("PR_SET_NO_NEW_PRIVS", errno);
  }
  Result<process::SeccompFilter> filter = GatewayFilter();
  if (!filter) return std::move(filter.error());
  return filter->Install();
}

Result<void> Serve(std::span<char* const> argv) {
  Result<GatewayService::Parts> parts = TakeOverAll(argv);
  if (!parts) return std::move(parts.error());
  parts->most_connections = MostConnections(DescriptorLimit(), parts->listeners.size());
  event::Loop loop;
  event::UvClock clock(loop);
  Result<std::unique_ptr<GatewayService>> service =
      GatewayService::Start(loop, clock, *std::move(parts), [&loop] { loop.Stop(); });
  if (!service) return std::move(service.error());
  // Some kernels have no seccomp. Serving is worth more than the last of many walls; `status` and
  // the metrics tell.
  const Result<void> sealed = Seal();
  if (!sealed) Say("goes on without a seccomp filter: " + sealed.error().message());
  (*service)->set_sealed(sealed.ok());
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

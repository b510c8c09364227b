// One binary, several personalities: the agent, its gateway, and the subcommands.

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/cli.h"
#include "agent/criu_trial.h"
#include "agent/event/signals.h"
#include "agent/gateway.h"
#include "agent/process/title.h"
#include "healthcheck/gateway_channel.h"
#include "lifecycle/keeper.h"
#include "lifecycle/keeper_protocol.h"
#include "snapshot/page_worker.h"

namespace {

// A descriptor below 3 that is closed would be given to the next file that anybody opens, and a
// program's complaints would end up there.
void FillStandardDescriptors() {
  for (int fd = 0; fd < 3; ++fd) {
    if (::fcntl(fd, F_GETFD) >= 0) continue;
    // Opens as the lowest free number, which is this one. An image may lack /dev; then something
    // that can be neither read nor written stands there.
    if (::open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY) < 0) (void)::open("/", O_PATH);
  }
}

int Fail(const modal::Error& error) {
  ::dprintf(STDERR_FILENO, "modal-agent: %s\n", error.message().c_str());
  return modal::kExitAgentError;
}

}  // namespace

int main(int argc, char** argv) {
  modal::event::BlockSignals();
  modal::process::KeepArguments(argc, argv);
  FillStandardDescriptors();
  const std::span<char* const> arguments(argv, static_cast<size_t>(argc));
  if (argc > 0 && std::string_view(argv[0]) == modal::health::kGatewayArgv0) {
    return modal::RunGateway(arguments);
  }
  if (argc > 0 && std::string_view(argv[0]) == modal::lifecycle::kKeeperArgv0) {
    return modal::lifecycle::RunKeeper(arguments);
  }
  if (argc > 0 && std::string_view(argv[0]) == modal::snapshot::kPagesArgv0) {
    return modal::snapshot::RunPageWorker(arguments);
  }
  if (argc > 0 && std::string_view(argv[0]) == modal::kCriuTrialArgv0) {
    return modal::RunCriuTrialProcess();
  }
  const auto parse = [arguments] {
    return modal::ParseCommandLine(arguments, environ, ::getpid() == 1);
  };
  modal::Result<modal::Invocation> invocation = parse();
  if (!invocation) return Fail(invocation.error());
  if (invocation->mode != modal::Mode::kServe) {
    modal::event::UnblockSignals();
    return modal::RunCommand(*invocation);
  }
  modal::Result<std::unique_ptr<modal::event::Loop>> loop = modal::event::Loop::Create();
  if (!loop) return Fail(loop.error());
  modal::Agent agent(**loop, *std::move(invocation), parse);
  return agent.Run();
}

#include "snapshot/criu_launch.h"

#include "agent/base/strings.h"
#include "snapshot/worker_protocol.h"

namespace modal::snapshot {

process::LaunchSpec SwrkSpec(const std::string& criu, const std::string& cache_dir, int socket) {
  process::LaunchSpec spec;
  spec.executable = criu;
  // Whatever configuration the image may hold is none of ours.
  spec.argv = {"criu", "--no-default-config", "swrk", Concat(kCriuSocketFd)};
  spec.environment = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
  if (!cache_dir.empty()) spec.environment.push_back("XDG_RUNTIME_DIR=" + cache_dir);
  spec.workdir = "/";
  spec.fds.push_back({socket, kCriuSocketFd});
  return spec;
}

}  // namespace modal::snapshot

#include "agent/base/control_protocol.h"

#include <unistd.h>

#include <cstddef>
#include <cstring>

#include "agent/base/strings.h"

namespace modal {
namespace {

// "4026531836" from "pid:[4026531836]"; "0" without /proc.
std::string PidNamespace() {
  char link[64];
  const ssize_t size = ::readlink("/proc/self/ns/pid", link, sizeof link);
  std::string digits;
  for (ssize_t i = 0; i < size; ++i) {
    if (link[i] >= '0' && link[i] <= '9') digits += link[i];
  }
  return digits.empty() ? "0" : digits;
}

}  // namespace

std::vector<std::string> ControlSocketPaths(const std::string& chosen,
                                            const std::string& runtime_dir, uid_t uid) {
  if (!chosen.empty()) return {chosen};
  std::vector<std::string> paths{"/run/modal-agent/control.sock"};
  if (runtime_dir.starts_with('/')) paths.push_back(runtime_dir + "/modal-agent/control.sock");
  paths.push_back(Concat("/tmp/modal-agent-", uid, "/control.sock"));
  paths.push_back(Concat("@modal-agent-", uid, "-", PidNamespace()));
  return paths;
}

bool IsAbstractSocket(const std::string& path) { return path.starts_with('@'); }

Result<ControlAddress> ControlSocketAddress(const std::string& path) {
  ControlAddress address;
  address.name.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.name.sun_path) {
    return Error(
        Concat("longer than ", sizeof address.name.sun_path - 1, " bytes; choose a shorter path"));
  }
  std::memcpy(address.name.sun_path, path.data(), path.size());
  address.size = sizeof address.name;
  if (IsAbstractSocket(path)) {
    // The first byte is NUL, and every byte up to the size belongs to the name.
    address.name.sun_path[0] = '\0';
    address.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  }
  return address;
}

}  // namespace modal

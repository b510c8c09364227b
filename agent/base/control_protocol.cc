#include "agent/base/control_protocol.h"

#include "agent/base/strings.h"

namespace modal {

std::vector<std::string> ControlSocketPaths(const std::string& chosen,
                                            const std::string& runtime_dir, uid_t uid) {
  if (!chosen.empty()) return {chosen};
  std::vector<std::string> paths{"/run/modal-agent/control.sock"};
  if (runtime_dir.starts_with('/')) paths.push_back(runtime_dir + "/modal-agent/control.sock");
  paths.push_back(Concat("/tmp/modal-agent-", uid, "/control.sock"));
  return paths;
}

}  // namespace modal

// The environment that hooks, workload and exit handlers get. Pure.
//
// From the agent's own environment everything but the agent's own variables (MODAL_AGENT_*; the
// links that Kubernetes injects for a service of that name are none), then, each replacing what
// stood there: HOME, USER and LOGNAME if the user changes, the env files and --env in their order,
// and last PORT and, if a place was chosen, MODAL_AGENT_CONTROL, so that hooks can call
// `modal-agent status`. What stays keeps its place; what is new comes after it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "agent/env_file.h"
#include "agent/process/credentials.h"

namespace modal {

inline constexpr std::string_view kVariablePrefix = "MODAL_AGENT_";

struct WorkloadEnvironment {
  const process::Credentials* changed_user = nullptr;  // null: the user stays
  std::vector<EnvironmentEntry> entries;               // of --env-file and --env, in order
  uint16_t port = 0;
  std::string control;  // empty: not chosen
};

// `inherited` as environ(7).
std::vector<std::string> MakeEnvironment(const char* const* inherited,
                                         const WorkloadEnvironment& wanted);

// Whether Kubernetes made this variable: for each service it injects NAME_SERVICE_HOST,
// NAME_SERVICE_PORT[_X], NAME_PORT=tcp://..., NAME_PORT_80_TCP[_PROTO|_PORT|_ADDR]; a service
// named "modal-agent" or "modal-agent-x" gives them our prefix.
bool IsServiceLink(std::string_view name, std::string_view value);

}  // namespace modal

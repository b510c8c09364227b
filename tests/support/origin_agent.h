// What the tests of `--listen` share: the gateway process of an agent, its memory and its numbers.
#pragma once

#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>

#include "agent/base/strings.h"
#include "tests/support/agent_process.h"

namespace modal::test {

inline constexpr uint16_t kDataPort = 8080;
inline constexpr uint16_t kAdminPort = 8001;
inline constexpr const char* kOrigin = "/mnt/bin/origin";

// "Vm…:   123 kB" in /proc/PID/status; 0 if the process has gone.
inline size_t MemoryKiB(pid_t host_pid, const std::string& field) {
  std::ifstream status(Concat("/proc/", host_pid, "/status"));
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field + ":")) {
      return std::strtoull(line.c_str() + field.size() + 1, nullptr, 10);
    }
  }
  return 0;
}

// The process that the log told of last; nothing between a gateway's end and the next one's start.
inline std::optional<ProcessSeen> RunningGateway(const AgentProcess& agent) {
  std::string pid;
  for (const LogEvent& event : agent.log()) {
    if (event.name == "gateway.start") pid = event["pid"];
  }
  for (const ProcessSeen& process : agent.Processes("modal-agent-gateway")) {
    if (std::to_string(process.pid) == pid && process.state != 'Z') return process;
  }
  return std::nullopt;
}

// A sample of /metrics without labels; -1 if there is none.
inline double Metric(AgentProcess& agent, const std::string& name) {
  const std::string metrics = agent.Get(kAdminPort, "/metrics").body;
  const size_t at = metrics.find("\n" + name + " ");
  return at == std::string::npos ? -1
                                 : std::strtod(metrics.c_str() + at + name.size() + 2, nullptr);
}

inline void WaitForMetric(AgentProcess& agent, const std::string& name, double value) {
  agent.WaitUntil(Concat(name, " to be ", value), [&] { return Metric(agent, name) == value; });
}

// An agent whose server is origin, reached through `--listen`; serving when this returns.
inline AgentOptions DataPlaneOptions(std::vector<std::string> options) {
  std::vector<std::string> arguments = {"--listen", std::to_string(kDataPort)};
  arguments.insert(arguments.end(), options.begin(), options.end());
  arguments.insert(arguments.end(), {"--", kOrigin});
  return With(std::move(arguments));
}

inline void WaitUntilServed(AgentProcess& agent) {
  agent.WaitFor("lifecycle.ready");
  agent.WaitFor("gateway.start");
  agent.WaitUntil("an answer through the gateway",
                  [&] { return agent.Get(kDataPort, "/small?ready").status == 200; });
}

}  // namespace modal::test

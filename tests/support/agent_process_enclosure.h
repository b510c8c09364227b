// What happens between the birth of an enclosed process and its exec: the file system it sees, its
// network, its descriptors, limits, identity and signals. Runs in the child; what fails is written
// to `gate` as text, and the child ends.
#pragma once

#include <string>

#include "tests/support/agent_process.h"

namespace modal::test {

struct EnclosedStreams {
  int fds[3];  // -1: closed
  bool terminal;
};

// Called by process 1 of the new namespaces: mounts and network.
void PrepareNamespaces(const AgentOptions& options, const std::string& folder, int gate);

// Everything else, and the exec of the agent. `gate` closes with it.
[[noreturn]] void ExecAgent(const AgentOptions& options, const EnclosedStreams& streams, int gate);

// The agent's environment, also that of programs that run beside it.
std::vector<std::string> EnclosedEnvironment(const AgentOptions& options);

[[noreturn]] void FailThroughGate(int gate, const std::string& what);

// Pointers for execve(2); `strings` outlives them.
std::vector<char*> PointersTo(const std::vector<std::string>& strings);

}  // namespace modal::test

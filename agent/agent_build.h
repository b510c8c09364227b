// Which build of the agent this is: a tree that one has dumped may hold its keeper, mapped from its
// file, and another cannot take that over.
#pragma once

#include <string>

namespace modal {

// The version, and "+" with the first 16 hex digits of the linker's build id (the ELF note
// NT_GNU_BUILD_ID); without one the version alone.
std::string AgentBuild();

}  // namespace modal

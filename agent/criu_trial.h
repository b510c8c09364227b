// Shows whether CRIU can dump and restore where we are: a small process of our own is dumped into a
// passing folder, restored, asked what it remembers, and ended. A version number or a list of
// capabilities proves less: seccomp filters, security modules and kernels have their own say.
//
// The process runs as we do, with our capabilities; so does CRIU.
#pragma once

#include <string>

#include "agent/base/clock.h"
#include "agent/base/result.h"

namespace modal {

struct CriuTrial {
  Milliseconds dump{};  // with the start of CRIU
  Milliseconds restore{};
};

inline constexpr Milliseconds kTrialLimit{10'000};
// `criu`: path of the program. `executable`: of our own binary, for the process. Blocks, for
// `limit` at most for each step; leaves neither processes nor files behind. The caller has
// blocked signals (event/signals.h), and no other code of this process waits for children
// meanwhile. An Error says in one line what CRIU has complained about.
Result<CriuTrial> TryCriu(const std::string& criu, const std::string& executable,
                          Milliseconds limit = kTrialLimit);

// The process: a personality of the agent's binary.
inline constexpr const char* kCriuTrialArgv0 = "modal-agent-trial";
int RunCriuTrialProcess();

}  // namespace modal

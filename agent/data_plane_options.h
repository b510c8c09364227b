// What the gateway's settings amount to, once all others are known: part of MakeOptions().
#pragma once

#include <string>
#include <vector>

#include "agent/config.h"

namespace modal {

// Fills in listen, upstream and data plane of the draft's options. Without --listen it warns of
// settings that were given in vain. Tokens are read from their file and from kTokensVariable.
Result<void> FinishDataPlane(const Configuration& configuration, const Surroundings& around,
                             Draft& draft, std::vector<std::string>& warnings);

}  // namespace modal

// Asks the agent of this container something, over its control socket (base/control_protocol.h).
// Blocking, for the subcommands; never longer than the timeout.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/control_protocol.h"
#include "agent/base/result.h"

namespace modal {

// The answer (one JSON object, without the newline) of the first of `paths` behind which an agent
// answers. Only a socket of ours, of root's or of process 1's user is believed. An Error says where
// was looked: "no agent answers at /run/modal-agent/control.sock (No such file or directory) ...".
Result<std::string> AskAgent(const std::vector<std::string>& paths, std::string_view command,
                             Milliseconds timeout = kControlTimeout);

// Where a client looks: the places of an agent of our own user, and, since `docker exec` may come
// as another user than the image's, those of process 1's. Looks at $XDG_RUNTIME_DIR.
std::vector<std::string> ControlPathsToTry(const std::string& chosen);

}  // namespace modal

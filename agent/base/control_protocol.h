// How the subcommands talk to a running agent: constants that client and server share.
//
// A unix socket of type SOCK_STREAM, mode 0600. The client sends one line, the name of a command;
// the server answers with one line that holds a JSON object, and closes. Each side gives up after
// kControlTimeout. `drain` and `reload` are answered with {"ok":true} or
// {"ok":false,"error":"..."}, `health` with {"healthy":true,"phase":"Serving","reason":"..."},
// `status` with the status object (healthcheck/status_json.h), anything else with
// {"ok":false,"error":"..."}.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/clock.h"

namespace modal {

inline constexpr std::string_view kControlStatus = "status";
inline constexpr std::string_view kControlHealth = "health";
inline constexpr std::string_view kControlDrain = "drain";
inline constexpr std::string_view kControlReload = "reload";

inline constexpr Milliseconds kControlTimeout{5000};
inline constexpr size_t kControlLongestRequest = 256;
inline constexpr size_t kControlLongestReply = 64 * 1024;

// Where the socket may stand, best place first. An agent binds the first one that works, a client
// talks to the first one that answers. `chosen` (--control), if not empty, is the only place;
// `runtime_dir` is $XDG_RUNTIME_DIR, possibly empty.
std::vector<std::string> ControlSocketPaths(const std::string& chosen,
                                            const std::string& runtime_dir, uid_t uid);

}  // namespace modal

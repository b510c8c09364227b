// How the subcommands talk to a running agent: constants that client and server share.
//
// A unix socket of type SOCK_STREAM, mode 0600. The client sends one line, the name of a command;
// the server answers with one line that holds a JSON object, and closes. Each side gives up after
// kControlTimeout. `drain` is answered with {"ok":true} or {"ok":false,"error":"..."}; `reload`
// too, with the names of the settings that are "changed" and "waiting" for the next start; `health`
// with
// {"healthy":true,"phase":"Serving","reason":"..."}, `status` with the status object
// (healthcheck/status_json.h), anything else with {"ok":false,"error":"..."}.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/result.h"

namespace modal {

inline constexpr std::string_view kControlStatus = "status";
inline constexpr std::string_view kControlHealth = "health";
inline constexpr std::string_view kControlDrain = "drain";
inline constexpr std::string_view kControlReload = "reload";

inline constexpr Milliseconds kControlTimeout{5000};
inline constexpr size_t kControlLongestRequest = 256;
inline constexpr size_t kControlLongestReply = size_t{64} * 1024;

// Where the socket may stand, best place first. An agent binds the first one that works, a client
// talks to the first one that answers. `chosen` (--control), if not empty, is the only place;
// `runtime_dir` is $XDG_RUNTIME_DIR, possibly empty. The last place is a name in the abstract
// namespace of unix(7), written with '@' in front, for a container in which nothing is writable; it
// holds the PID namespace's number, since the network namespace may be shared with other agents.
std::vector<std::string> ControlSocketPaths(const std::string& chosen,
                                            const std::string& runtime_dir, uid_t uid);

// What bind(2) and connect(2) take for such a place. An Error if the path is too long.
struct ControlAddress {
  sockaddr_un name{};
  socklen_t size = 0;
};
Result<ControlAddress> ControlSocketAddress(const std::string& path);
// Whether it is a name that no file stands for, and that no file mode protects.
bool IsAbstractSocket(const std::string& path);

}  // namespace modal

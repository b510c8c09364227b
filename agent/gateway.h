// The gateway personality: the process that faces the network, so that the supervisor need not.
//
// The supervisor starts it with the descriptors of healthcheck/gateway_channel.h, as a user of its
// own, without capabilities, in a session of its own. It serves the admin endpoints, makes the HTTP
// requests of health checks, and has no other way out: before it takes the first connection it
// seals itself (gateway_filter.h), and whoever takes it over can neither run a program nor open a
// file.
//
// It ends when its channel closes, and not before: main() has blocked every signal.
#pragma once

#include <span>

namespace modal {

// Returns what main() returns; an error has been said on stderr. `argv` is kGatewayArgv0 and the
// number of listeners.
int RunGateway(std::span<char* const> argv);

}  // namespace modal

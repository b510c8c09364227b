// Starts a connection without waiting for it.
//
// The socket is non-blocking and close-on-exec; it becomes writable when the outcome is known, and
// ConnectOutcome() then tells it. TCP sockets send at once (TCP_NODELAY) and have their peer's
// life looked after by the kernel (SO_KEEPALIVE).
#pragma once

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/event/listener.h"

namespace modal::event {

// `at_once`, if given, is set to whether it is connected already.
Result<UniqueFd> StartConnect(const SocketAddress& address, bool* at_once = nullptr);
// 0, or the errno of what went wrong.
int ConnectOutcome(int fd);

}  // namespace modal::event

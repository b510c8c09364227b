// The terminal on a descriptor, if it is one. A terminal may vanish at any moment and every call on
// it may fail; nobody can do anything about it, so nothing here is an Error.
//
// Setting the foreground group from a background group raises SIGTTOU, which must be blocked: the
// caller has all signals blocked (event/signals.h).
#pragma once

#include <sys/types.h>

#include <optional>

namespace modal::process {

bool IsTerminal(int fd);
// In columns; nothing where that is not known, and never 0.
std::optional<size_t> TerminalWidth(int fd);
// Also nothing where the terminal is not the controlling one of our session.
std::optional<pid_t> ForegroundGroup(int fd);
bool SetForegroundGroup(int fd, pid_t group);

}  // namespace modal::process

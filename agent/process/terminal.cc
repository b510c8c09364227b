#include "agent/process/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

namespace modal::process {

bool IsTerminal(int fd) { return ::isatty(fd) == 1; }

std::optional<size_t> TerminalWidth(int fd) {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return std::nullopt;
  return size.ws_col;
}

std::optional<pid_t> ForegroundGroup(int fd) {
  const pid_t group = ::tcgetpgrp(fd);
  if (group <= 0) return std::nullopt;  // 0: the group lives outside of this PID namespace
  return group;
}

bool SetForegroundGroup(int fd, pid_t group) { return ::tcsetpgrp(fd, group) == 0; }

}  // namespace modal::process

#include "agent/control_client.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "agent/base/control_protocol.h"
#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"

namespace modal {
namespace {

using SteadyClock = std::chrono::steady_clock;

// What everything has to be done by.
struct Limit {
  Milliseconds timeout;
  SteadyClock::time_point deadline;

  Error Exceeded() const {
    return Error(Concat("it accepts connections, but gave no answer within ", timeout.count(),
                        " ms: is the agent stopped?"));
  }
};

// Waits for `events` on the socket; false at the deadline.
bool WaitFor(int socket, short events, const Limit& limit) {
  for (;;) {
    const auto left =
        std::chrono::duration_cast<Milliseconds>(limit.deadline - SteadyClock::now()).count();
    if (left <= 0) return false;
    pollfd waiting{socket, events, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(left) + 1);
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

std::optional<uid_t> UserOfProcess1() {
  struct stat info {};
  if (::stat("/proc/1", &info) != 0) return std::nullopt;
  return info.st_uid;
}

// In /tmp anybody could have put a socket for us to find.
bool IsTrusted(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  return peer.uid == 0 || peer.uid == ::geteuid() || UserOfProcess1() == peer.uid;
}

Result<UniqueFd> Connect(const std::string& path) {
  Result<ControlAddress> address = ControlSocketAddress(path);
  if (!address) return std::move(address.error());
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return Error(::strerror(errno));
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address->name), address->size) !=
      0) {
    // A unix socket connects at once or not at all.
    if (errno == EAGAIN) return Error("too many wait for an answer already: is the agent stopped?");
    return Error(::strerror(errno));
  }
  if (!IsTrusted(socket.get())) return Error("it belongs to a user that is not trusted");
  return socket;
}

Result<void> Send(int socket, std::string_view text, const Limit& limit) {
  while (!text.empty()) {
    const ssize_t sent = ::send(socket, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      text.remove_prefix(static_cast<size_t>(sent));
    } else if (errno == EAGAIN) {
      if (!WaitFor(socket, POLLOUT, limit)) return limit.Exceeded();
    } else if (errno != EINTR) {
      return Error(::strerror(errno));
    }
  }
  return {};
}

Result<std::string> ReceiveLine(int socket, const Limit& limit) {
  std::string line;
  char buffer[4096];
  while (line.size() <= kControlLongestReply) {
    if (!WaitFor(socket, POLLIN, limit)) return limit.Exceeded();
    const ssize_t size = ::recv(socket, buffer, sizeof buffer, 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (size < 0) return Error(::strerror(errno));
    if (size == 0) return Error("it closed the connection without an answer");
    line.append(buffer, static_cast<size_t>(size));
    const size_t end = line.find('\n');
    if (end == std::string::npos) continue;
    line.resize(end);
    return line;
  }
  return Error("its answer is too long");
}

Result<std::string> Ask(const std::string& path, std::string_view command, const Limit& limit) {
  const Result<UniqueFd> socket = Connect(path);
  if (!socket) return socket.error();
  if (Result<void> sent = Send(socket->get(), Concat(command, "\n"), limit); !sent) {
    return std::move(sent.error());
  }
  return ReceiveLine(socket->get(), limit);
}

}  // namespace

Result<std::string> AskAgent(const std::vector<std::string>& paths, std::string_view command,
                             Milliseconds timeout) {
  const Limit limit{timeout, SteadyClock::now() + timeout};
  std::string tried;
  for (const std::string& path : paths) {
    Result<std::string> answer = Ask(path, command, limit);
    if (answer) return answer;
    tried += Concat(tried.empty() ? "" : ", ", path, " (", answer.error().message(), ")");
  }
  return Error("no agent answers at " + tried);
}

std::vector<std::string> ControlPathsToTry(const std::string& chosen) {
  const char* runtime_dir = ::getenv("XDG_RUNTIME_DIR");
  const std::string folder = runtime_dir ? runtime_dir : "";
  std::vector<std::string> paths = ControlSocketPaths(chosen, folder, ::geteuid());
  if (const std::optional<uid_t> other = UserOfProcess1()) {
    for (std::string& path : ControlSocketPaths(chosen, folder, *other)) {
      if (std::find(paths.begin(), paths.end(), path) == paths.end()) paths.push_back(path);
    }
  }
  return paths;
}

}  // namespace modal

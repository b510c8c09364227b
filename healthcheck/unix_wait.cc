#include "healthcheck/unix_wait.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"

namespace modal::health {
namespace {

constexpr int kShareOfTheWait = 500;
constexpr Milliseconds kShortestInterval(1);
constexpr Milliseconds kLongestInterval(20);

}  // namespace

std::optional<std::string> CheckUnixListens(const std::string& path) {
  const std::string what = Concat("unix:", path);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return Concat(what, ": the path is too long");
  std::memcpy(address.sun_path, path.data(), path.size());
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // What we lack ourselves says nothing about the server.
  if (!fd) return std::nullopt;
  const auto* name = reinterpret_cast<const sockaddr*>(&address);
  if (::connect(fd.get(), name, sizeof address) == 0) return std::nullopt;
  if (errno == EAGAIN) return std::nullopt;  // somebody does, and its queue is full
  if (errno == ENOENT || errno == ECONNREFUSED) return Concat("nothing listens on ", what);
  return Concat("cannot connect to ", what, ": ", ::strerror(errno));
}

UnixWait::UnixWait(Clock& clock, std::string path, std::function<void()> on_open,
                   std::function<void(const std::string&)> on_note)
    : clock_(clock),
      path_(std::move(path)),
      on_open_(std::move(on_open)),
      on_note_(std::move(on_note)) {}

void UnixWait::Start() {
  started_ = clock_.Now();
  LookNow();
}

void UnixWait::LookNow() {
  if (!on_open_) return;
  timer_.reset();
  const std::optional<std::string> failure = CheckUnixListens(path_);
  if (!failure) {
    const auto on_open = std::exchange(on_open_, nullptr);
    return on_open();  // may destroy us
  }
  if (*failure != note_) {
    note_ = *failure;
    on_note_(note_);
  }
  const auto share =
      std::chrono::duration_cast<Milliseconds>((clock_.Now() - started_) / kShareOfTheWait);
  timer_ =
      clock_.After(std::clamp(share, kShortestInterval, kLongestInterval), [this] { LookNow(); });
}

}  // namespace modal::health

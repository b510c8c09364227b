#include "lifecycle/control_server.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "agent/base/control_protocol.h"
#include "agent/base/strings.h"

namespace modal::lifecycle {
namespace {

constexpr Milliseconds kAcceptPause{100};

bool IsOursOrRoots(const struct stat& info) {
  return info.st_uid == ::geteuid() || info.st_uid == 0;
}

// A folder of our own; in /tmp anybody could have made one of that name, or a link, before us.
Result<void> PrepareFolder(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos || slash == 0) return {};
  const std::string folder = path.substr(0, slash);
  const int made = ::mkdir(folder.c_str(), 0700) == 0 ? EEXIST : errno;
  struct stat itself {};
  struct stat target {};
  if (::lstat(folder.c_str(), &itself) != 0 || ::stat(folder.c_str(), &target) != 0) {
    return Error::FromErrno("control socket " + path, made == EEXIST ? errno : made);
  }
  if (!S_ISDIR(target.st_mode)) {
    return Error(Concat("control socket ", path, ": ", folder, " is no folder"));
  }
  if (!IsOursOrRoots(itself) || !IsOursOrRoots(target)) {
    return Error(Concat("control socket ", path, ": ", folder, " belongs to somebody else"));
  }
  return {};
}

// Removes the socket of an agent that is gone, and nothing else.
Result<void> RemoveStale(const std::string& path, const ControlAddress& address) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) return Error::FromErrno("control socket " + path, errno);
  if (!S_ISSOCK(info.st_mode)) {
    return Error(Concat("control socket ", path, ": something else is there"));
  }
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return Error::FromErrno("control socket", errno);
  const int refusal =
      ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address.name), address.size) == 0
          ? 0
          : errno;
  if (refusal == 0 || refusal == EAGAIN) {
    return Error(Concat("control socket ", path, ": another agent answers there"));
  }
  if (refusal != ECONNREFUSED) return Error::FromErrno("control socket " + path, refusal);
  if (::unlink(path.c_str()) != 0) return Error::FromErrno("control socket " + path, errno);
  return {};
}

Result<void> BindFile(int socket, const std::string& path, const ControlAddress& address) {
  if (Result<void> folder = PrepareFolder(path); !folder) return folder;
  const auto* name = reinterpret_cast<const sockaddr*>(&address.name);
  // On Linux the file gets the socket's own mode: it is never open to others, not for a moment.
  ::fchmod(socket, 0600);
  if (::bind(socket, name, address.size) != 0) {
    if (errno != EADDRINUSE) return Error::FromErrno("control socket " + path, errno);
    if (Result<void> removed = RemoveStale(path, address); !removed) return removed;
    if (::bind(socket, name, address.size) != 0) {
      return Error::FromErrno("control socket " + path, errno);
    }
  }
  ::chmod(path.c_str(), 0600);
  return {};
}

Result<UniqueFd> Bind(const std::string& path) {
  Result<ControlAddress> address = ControlSocketAddress(path);
  if (!address) return std::move(address.error()).While("control socket " + path);
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return Error::FromErrno("control socket", errno);
  if (!IsAbstractSocket(path)) {
    Result<void> bound = BindFile(socket.get(), path, *address);
    if (!bound) return std::move(bound.error());
  } else if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address->name),
                    address->size) != 0) {
    return Error::FromErrno("control socket " + path, errno);
  }
  if (::listen(socket.get(), 16) != 0) return Error::FromErrno("control socket " + path, errno);
  return socket;
}

// Whom a file's mode would have let through.
bool MayConnect(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
         (peer.uid == 0 || peer.uid == ::geteuid());
}

}  // namespace

struct ControlServer::Client {
  UniqueFd socket;
  std::string line;
  std::string reply;
  std::unique_ptr<event::Poller> poller;
  std::unique_ptr<Timer> timeout;
};

Result<std::unique_ptr<ControlServer>> ControlServer::Listen(
    event::Loop& loop, Clock& clock, const std::vector<std::string>& paths,
    std::function<std::string(const std::string&)> answer) {
  std::string why;
  for (const std::string& path : paths) {
    Result<UniqueFd> socket = Bind(path);
    if (!socket) {
      why += (why.empty() ? "" : "; ") + socket.error().message();
      continue;
    }
    std::unique_ptr<ControlServer> server(
        new ControlServer(loop, clock, path, *std::move(socket), std::move(answer)));
    ControlServer* self = server.get();
    Result<std::unique_ptr<event::Poller>> poller = event::Poller::Watch(
        loop, server->socket_.get(), [self](event::Poller::Ready) { self->Accept(); });
    if (!poller) return std::move(poller.error()).While("control socket " + path);
    server->poller_ = *std::move(poller);
    server->poller_->WaitFor(true, false);
    return server;
  }
  return Error(why);
}

ControlServer::ControlServer(event::Loop& loop, Clock& clock, std::string path, UniqueFd socket,
                             std::function<std::string(const std::string&)> answer)
    : loop_(loop),
      clock_(clock),
      path_(std::move(path)),
      socket_(std::move(socket)),
      answer_(std::move(answer)) {}

ControlServer::~ControlServer() {
  if (!IsAbstractSocket(path_)) ::unlink(path_.c_str());
}

void ControlServer::Accept() {
  UniqueFd socket(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket) {
    // Without a free descriptor the client stays in the queue, and would be reported at once again.
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      poller_->WaitFor(false, false);
      accept_again_ = clock_.After(kAcceptPause, [this] { WaitForClients(); });
    }
    return;
  }
  if (!MayConnect(socket.get())) return;
  auto client = std::make_unique<Client>();
  Client* self = client.get();
  client->socket = std::move(socket);
  Result<std::unique_ptr<event::Poller>> poller = event::Poller::Watch(
      loop_, client->socket.get(), [this, self](event::Poller::Ready) { OnReady(self); });
  if (!poller) return;
  client->poller = *std::move(poller);
  client->poller->WaitFor(true, false);
  client->timeout = clock_.After(kTimeout, [this, self] { Retire(self); });
  clients_.push_back(std::move(client));
  WaitForClients();
}

void ControlServer::WaitForClients() { poller_->WaitFor(clients_.size() < kMaxClients, false); }

void ControlServer::OnReady(Client* client) {
  if (client->reply.empty()) {
    char buffer[kLongestLine];
    const ssize_t size = ::recv(client->socket.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (size <= 0) return Retire(client);
    client->line.append(buffer, static_cast<size_t>(size));
    const size_t end = client->line.find('\n');
    if (end == std::string::npos && client->line.size() < kLongestLine) return;
    client->reply = answer_(client->line.substr(0, end)) + "\n";
    client->poller->WaitFor(false, true);
  }
  const ssize_t sent = ::send(client->socket.get(), client->reply.data(), client->reply.size(),
                              MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (sent <= 0) return Retire(client);
  client->reply.erase(0, static_cast<size_t>(sent));
  if (client->reply.empty()) Retire(client);
}

void ControlServer::Retire(Client* client) {
  clients_.remove_if([client](const std::unique_ptr<Client>& one) { return one.get() == client; });
  WaitForClients();
}

}  // namespace modal::lifecycle

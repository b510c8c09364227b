#include "healthcheck/socket_table.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"
#include "healthcheck/proc_net_tcp.h"
#include "healthcheck/sock_diag.h"
#include "healthcheck/tcp_socket.h"

namespace modal::health {
namespace {

// Errors that will not go away: the kernel, its configuration, a filter or a sandbox says no.
bool IsLasting(int code) {
  switch (code) {
    case EPERM:
    case EACCES:
    case ENOSYS:
    case ENOENT:  // inet_diag is a module and not loaded
    case EINVAL:
    case EOPNOTSUPP:
    case EAFNOSUPPORT:
    case EPROTONOSUPPORT:
    case ESOCKTNOSUPPORT:
    case ECONNREFUSED:  // no such netlink family in this namespace
      return true;
    default:
      return false;
  }
}

constexpr size_t kLeastRoom = 8192;

Result<std::string> ReadWhole(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return Error::FromErrno(Concat("open ", path), errno);
  std::string text;
  size_t size = 0;
  for (;;) {
    // The kernel hands out whole lines, as many as fit.
    if (text.size() - size < kLeastRoom) text.resize(2 * (text.size() + kLeastRoom));
    const ssize_t got = ::read(file.get(), text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::FromErrno(Concat("read ", path), errno);
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  text.resize(size);
  return text;
}

ListeningSocket AsListener(const TcpSocket& socket) {
  ListeningSocket listener;
  listener.local = socket.local;
  listener.v6_only = socket.v6_only;
  listener.accept_queue = socket.receive_queue;
  listener.uid = socket.uid;
  listener.inode = socket.inode;
  return listener;
}

Connection AsConnection(const TcpSocket& socket) {
  Connection connection;
  connection.local = socket.local;
  connection.remote = socket.remote;
  connection.receive_queue = socket.receive_queue;
  connection.send_queue = socket.send_queue;
  connection.inode = socket.inode;
  connection.half_closed = socket.state == TCP_CLOSE_WAIT;
  connection.last_sent_ms = socket.last_sent_ms;
  connection.last_received_ms = socket.last_received_ms;
  connection.bytes_received = socket.bytes_received;
  connection.segments_received = socket.segments_received;
  connection.segments_sent = socket.segments_sent;
  return connection;
}

template <class Entry>
Result<std::vector<Entry>> Convert(Result<std::vector<TcpSocket>> sockets,
                                   Entry (*convert)(const TcpSocket&)) {
  if (!sockets) return std::move(sockets.error());
  std::vector<Entry> entries(sockets->size());
  std::transform(sockets->begin(), sockets->end(), entries.begin(), convert);
  return entries;
}

}  // namespace

KernelSocketTable::KernelSocketTable(std::string proc) : proc_(std::move(proc)) {}
KernelSocketTable::~KernelSocketTable() = default;

Result<std::vector<ListeningSocket>> KernelSocketTable::Listeners(uint16_t port) {
  return Convert(Read(kListening, port), AsListener);
}

Result<std::vector<Connection>> KernelSocketTable::Connections(uint16_t port) {
  return Convert(Read(kConnected, port), AsConnection);
}

Result<std::vector<TcpSocket>> KernelSocketTable::Read(uint32_t states, uint16_t port) {
  if (!sock_diag_works_) return ReadProc(states, port);
  Result<std::vector<TcpSocket>> sockets = ReadSockDiag(states, port);
  if (sockets) return sockets;
  sock_diag_.reset();
  Result<std::vector<TcpSocket>> instead = ReadProc(states, port);
  if (!instead) {
    return Error(Concat(sockets.error().message(), "; ", instead.error().message()));
  }
  if (IsLasting(sockets.error().code())) sock_diag_works_ = false;
  return instead;
}

Result<std::vector<TcpSocket>> KernelSocketTable::ReadSockDiag(uint32_t states, uint16_t port) {
  if (!sock_diag_) {
    Result<SockDiag> opened = SockDiag::Open();
    if (!opened) return std::move(opened.error());
    sock_diag_ = std::make_unique<SockDiag>(*std::move(opened));
  }
  return sock_diag_->Dump(states, port);
}

Result<std::vector<TcpSocket>> KernelSocketTable::ReadProc(uint32_t states, uint16_t port) {
  Result<std::string> ipv4 = ReadWhole(proc_ + "/net/tcp");
  if (!ipv4) return std::move(ipv4.error());
  std::vector<TcpSocket> sockets = ParseProcNetTcp(*ipv4, states, port);
  Result<std::string> ipv6 = ReadWhole(proc_ + "/net/tcp6");
  if (!ipv6) {
    if (ipv6.error().code() == ENOENT) return sockets;  // a kernel without IPv6
    return std::move(ipv6.error());
  }
  const std::vector<TcpSocket> more = ParseProcNetTcp(*ipv6, states, port);
  sockets.insert(sockets.end(), more.begin(), more.end());
  return sockets;
}

}  // namespace modal::health

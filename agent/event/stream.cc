#include "agent/event/stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>

#include "agent/base/check.h"
#include "agent/event/pipe.h"

namespace modal::event {
namespace {

IoResult Failed(int error) {
  if (error == EAGAIN || error == EWOULDBLOCK) return {IoResult::Kind::kAgain};
  return {IoResult::Kind::kError, 0, error};
}

}  // namespace

Result<std::unique_ptr<SocketStream>> SocketStream::Open(Loop& loop, UniqueFd fd) {
  std::unique_ptr<SocketStream> stream(new SocketStream(std::move(fd)));
  SocketStream* self = stream.get();
  Result<std::unique_ptr<Poller>> poller =
      Poller::Watch(loop, stream->fd_.get(), [self](Poller::Ready ready) { self->OnReady(ready); });
  if (!poller) return std::move(poller.error()).While("stream");
  stream->poller_ = *std::move(poller);
  return stream;
}

void SocketStream::WaitFor(bool readable, bool writable) {
  wanted_ = {readable, writable};
  if (!poller_) return;
  const bool more = (readable && !told_.readable) || (writable && !told_.writable);
  // Writable is nearly always: waiting for it in vain would wake us at once.
  const bool less = told_.writable && !writable;
  if (!more && !less) return;
  told_ = wanted_;
  poller_->WaitFor(readable, writable);
}

void SocketStream::OnReady(Poller::Ready ready) {
  ready.readable = ready.readable && wanted_.readable;
  ready.writable = ready.writable && wanted_.writable;
  if (!ready.readable && !ready.writable) {
    told_ = wanted_;
    poller_->WaitFor(wanted_.readable, wanted_.writable);
    return;
  }
  listener_->OnReady(ready);  // last: we may be gone after it
}

IoResult SocketStream::Read(std::span<char> buffer) {
  for (;;) {
    const ssize_t size = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (size > 0) return {IoResult::Kind::kDone, static_cast<size_t>(size)};
    if (size == 0) return {IoResult::Kind::kEnd};
    if (errno != EINTR) return Failed(errno);
  }
}

IoResult SocketStream::Write(std::string_view data) {
  for (;;) {
    const ssize_t size = ::send(fd_.get(), data.data(), data.size(), MSG_NOSIGNAL);
    if (size > 0) return {IoResult::Kind::kDone, static_cast<size_t>(size)};
    if (size == 0) return {IoResult::Kind::kAgain};
    if (errno != EINTR) return Failed(errno);
  }
}

IoResult SocketStream::Write(std::span<const std::string_view> pieces) {
  std::array<iovec, kMostPieces> parts;
  MODAL_CHECK(pieces.size() <= parts.size());
  for (size_t i = 0; i < pieces.size(); ++i) {
    parts[i] = {const_cast<char*>(pieces[i].data()), pieces[i].size()};
  }
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = pieces.size();
  for (;;) {
    const ssize_t size = ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
    if (size > 0) return {IoResult::Kind::kDone, static_cast<size_t>(size)};
    if (size == 0) return {IoResult::Kind::kAgain};
    if (errno != EINTR) return Failed(errno);
  }
}

IoResult SocketStream::ReadInto(Pipe& pipe, size_t most) { return pipe.ReadFrom(fd_.get(), most); }
IoResult SocketStream::WriteFrom(Pipe& pipe) { return pipe.WriteTo(fd_.get()); }

void SocketStream::AcknowledgeNow() {
  // An even number: this once (net/ipv4/tcp.c, __tcp_sock_set_quickack()). With 1 every segment
  // from now on would be acknowledged for itself.
  const int once = 2;
  ::setsockopt(fd_.get(), IPPROTO_TCP, TCP_QUICKACK, &once, sizeof once);
}

void SocketStream::ShutdownWrite() { ::shutdown(fd_.get(), SHUT_WR); }

void SocketStream::Close() {
  poller_.reset();
  fd_.Reset();
}

void SocketStream::Reset() {
  if (fd_) {
    const linger now{1, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
  Close();
}

}  // namespace modal::event

#include "agent/event/pipe.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace modal::event {
namespace {

// What a pipe may hold: as much as an unprivileged process gets (pipe-max-size), so that a whole
// socket buffer fits. The kernel may grant less.
constexpr int kWanted = 1024 * 1024;

IoResult Outcome(ssize_t size) {
  if (size > 0) return {IoResult::Kind::kDone, static_cast<size_t>(size)};
  if (size == 0) return {IoResult::Kind::kEnd};
  if (errno == EAGAIN) return {IoResult::Kind::kAgain};
  return {IoResult::Kind::kError, 0, errno};
}

ssize_t Splice(int from, int to, size_t most) {
  for (;;) {
    const ssize_t size =
        ::splice(from, nullptr, to, nullptr, most, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (size >= 0 || errno != EINTR) return size;
  }
}

}  // namespace

Result<std::unique_ptr<Pipe>> Pipe::Open() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return Error::FromErrno("pipe", errno);
  std::unique_ptr<Pipe> pipe(new Pipe(UniqueFd(ends[0]), UniqueFd(ends[1])));
  (void)::fcntl(pipe->write_end_.get(), F_SETPIPE_SZ, kWanted);
  return pipe;
}

IoResult Pipe::ReadFrom(int socket, size_t most) {
  const IoResult result = Outcome(Splice(socket, write_end_.get(), most));
  size_ += result.size;
  return result;
}

IoResult Pipe::WriteTo(int socket) {
  const IoResult result = Outcome(Splice(read_end_.get(), socket, size_));
  size_ -= result.size;
  return result;
}

}  // namespace modal::event

#include "agent/base/descriptor_sink.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

namespace modal {
namespace {

UniqueFd OpenToWrite(const std::string& path) {
  return UniqueFd(::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
}

// Where a container's terminal has a name: /dev/console is bound to it, or it is a /dev/pts of our
// own; as our controlling terminal it is /dev/tty.
UniqueFd OpenTerminalAnew(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISCHR(info.st_mode)) return {};
  for (const std::string& path :
       {std::string("/dev/console"), "/dev/pts/" + std::to_string(minor(info.st_rdev))}) {
    struct stat same {};
    if (::stat(path.c_str(), &same) != 0 || same.st_dev != info.st_dev ||
        same.st_ino != info.st_ino) {
      continue;
    }
    if (UniqueFd opened = OpenToWrite(path)) return opened;
  }
  // Succeeds for nothing but the controlling terminal (tty_ioctl(4), TIOCGSID).
  return ::tcgetsid(fd) >= 0 ? OpenToWrite("/dev/tty") : UniqueFd();
}

UniqueFd OpenAnew(int fd) {
  UniqueFd opened = OpenToWrite("/proc/self/fd/" + std::to_string(fd));
  return opened ? std::move(opened) : OpenTerminalAnew(fd);
}

// Nothing can be written now, but later: a full pipe, a full disk.
bool IsForNow(int error) {
  return error == EAGAIN || error == ENOSPC || error == EDQUOT || error == EFBIG ||
         error == ENOBUFS || error == ENOMEM;
}

uint64_t LinesIn(std::string_view bytes) {
  return static_cast<uint64_t>(std::count(bytes.begin(), bytes.end(), '\n'));
}

}  // namespace

DescriptorSink::DescriptorSink(int fd, bool may_open)
    : fd_(fd), may_open_(may_open), way_(Way::kNoWait) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) {
    way_ = Way::kBroken;
  } else if (S_ISREG(info.st_mode)) {
    way_ = Way::kFile;
  } else if (S_ISSOCK(info.st_mode)) {
    way_ = Way::kSocket;
  }
}

void DescriptorSink::Write(std::string_view line) {
  if (!kept_.empty()) Flush();
  if (kept_.empty()) {
    line.remove_prefix(TryWrite(line));
    if (line.empty()) return;
    // The rest of a line that was begun is kept in any case, or two lines would run together.
    kept_ = line;
    return;
  }
  if (way_ == Way::kBroken || kept_.size() + line.size() > kMostKept) {
    lost_lines_ += LinesIn(line);
    return;
  }
  kept_ += line;
}

void DescriptorSink::Flush() {
  kept_.erase(0, TryWrite(kept_));
  if (kept_.empty()) std::string().swap(kept_);
}

void DescriptorSink::FlushFor(int milliseconds) {
  using std::chrono::steady_clock;
  const auto end = steady_clock::now() + std::chrono::milliseconds(milliseconds);
  Flush();
  pollfd writable{own_ ? own_.get() : fd_, POLLOUT, 0};
  while (!kept_.empty()) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - steady_clock::now());
    const int wait = static_cast<int>(std::max<int64_t>(0, left.count()));
    if (::poll(&writable, 1, wait) != 1) return;
    const size_t before = kept_.size();
    Flush();
    if (kept_.size() == before || steady_clock::now() >= end) return;
  }
}

size_t DescriptorSink::TryWrite(std::string_view bytes) {
  size_t written = 0;
  while (written < bytes.size()) {
    const ssize_t size = WriteOnce(bytes.substr(written));
    if (size > 0) {
      written += static_cast<size_t>(size);
    } else if (size < 0 && errno == EINTR) {
      continue;
    } else if (size < 0 && way_ == Way::kNoWait && (errno == EOPNOTSUPP || errno == ENOSYS)) {
      way_ = LastWay();
    } else if (size < 0 && !IsForNow(errno)) {
      // The reader is gone (EPIPE, EIO): nothing that is written will ever be read.
      way_ = Way::kBroken;
      lost_lines_ += LinesIn(bytes);
      return bytes.size();
    } else {
      break;
    }
  }
  return written;
}

DescriptorSink::Way DescriptorSink::LastWay() {
  if (may_open_) own_ = OpenAnew(fd_);
  if (own_) return Way::kOwnDescription;
  struct stat info {};
  int ends[2];
  const bool is_pipe = ::fstat(fd_, &info) == 0 && S_ISFIFO(info.st_mode);
  if (!is_pipe || ::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return Way::kBroken;
  splice_out_ = UniqueFd(ends[0]);
  splice_in_ = UniqueFd(ends[1]);
  return Way::kSplice;
}

ssize_t DescriptorSink::Splice(std::string_view bytes) {
  // No more than PIPE_BUF: others may write too, and up to there nothing is mixed (pipe(7)).
  const ssize_t size =
      ::write(splice_in_.get(), bytes.data(), std::min<size_t>(bytes.size(), PIPE_BUF));
  if (size < 0) return size;
  const ssize_t moved = ::splice(splice_out_.get(), nullptr, fd_, nullptr,
                                 static_cast<size_t>(size), SPLICE_F_NONBLOCK);
  const int error = errno;
  char rest[PIPE_BUF];  // what did not fit; it will be tried again
  while (::read(splice_out_.get(), rest, sizeof rest) > 0) {
  }
  errno = error;
  return moved;
}

ssize_t DescriptorSink::WriteOnce(std::string_view bytes) {
  switch (way_) {
    case Way::kFile:
      return ::write(fd_, bytes.data(), bytes.size());
    case Way::kSocket:
      return ::send(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    case Way::kNoWait: {
      const iovec piece{const_cast<char*>(bytes.data()), bytes.size()};
      return ::pwritev2(fd_, &piece, 1, -1, RWF_NOWAIT);
    }
    case Way::kOwnDescription:
      return ::write(own_.get(), bytes.data(), bytes.size());
    case Way::kSplice:
      return Splice(bytes);
    case Way::kBroken:
      errno = EPIPE;
      return -1;
  }
  return -1;
}

}  // namespace modal

#include "agent/base/descriptor_sink.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

namespace modal {
namespace {

UniqueFd OpenAnew(int fd) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  return UniqueFd(::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
}

// Nothing can be written now, but later: a full pipe, a full disk.
bool IsForNow(int error) {
  return error == EAGAIN || error == ENOSPC || error == EDQUOT || error == EFBIG ||
         error == ENOBUFS || error == ENOMEM;
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
    ++lost_lines_;
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
      if (may_open_) own_ = OpenAnew(fd_);
      way_ = own_ ? Way::kOwnDescription : Way::kPoll;
    } else if (size < 0 && !IsForNow(errno)) {
      // The reader is gone (EPIPE, EIO): nothing that is written will ever be read.
      way_ = Way::kBroken;
      lost_lines_ += static_cast<uint64_t>(std::count(bytes.begin(), bytes.end(), '\n'));
      return bytes.size();
    } else {
      break;
    }
  }
  return written;
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
    case Way::kPoll: {
      // A pipe that polls writable takes PIPE_BUF bytes at once (pipe(7)).
      pollfd writable{fd_, POLLOUT, 0};
      if (::poll(&writable, 1, 0) != 1) {
        errno = EAGAIN;
        return -1;
      }
      return ::write(fd_, bytes.data(), std::min<size_t>(bytes.size(), PIPE_BUF));
    }
    case Way::kBroken:
      errno = EPIPE;
      return -1;
  }
  return -1;
}

}  // namespace modal

// A pipe between two sockets, through which bytes pass without being copied (splice(2)). Both ends
// are ours: it holds what has been read from one Stream and not been written to the other yet.
#pragma once

#include <cstddef>
#include <memory>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/event/stream.h"

namespace modal::event {

class Pipe {
 public:
  static Result<std::unique_ptr<Pipe>> Open();

  // Bytes in it.
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  // As Read() and Write() of a socket, at most `most` bytes into the pipe, and all that is in it
  // out of it. kError with EINVAL: that descriptor cannot be spliced.
  IoResult ReadFrom(int socket, size_t most);
  IoResult WriteTo(int socket);
  // For streams that are no sockets.
  int write_end() const { return write_end_.get(); }
  int read_end() const { return read_end_.get(); }
  void Count(ptrdiff_t more) { size_ += static_cast<size_t>(more); }

 private:
  Pipe(UniqueFd read_end, UniqueFd write_end)
      : read_end_(std::move(read_end)), write_end_(std::move(write_end)) {}

  UniqueFd read_end_;
  UniqueFd write_end_;
  size_t size_ = 0;
};

}  // namespace modal::event

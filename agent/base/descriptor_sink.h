// A LogSink that writes to a descriptor which it shares with others, and never blocks on it.
//
// The descriptor is usually our stderr, and the workload has the same one: O_NONBLOCK must not be
// set on it, since that would change it for everybody. So: send(MSG_DONTWAIT) on a socket,
// pwritev2(RWF_NOWAIT) where the kernel has it for pipes (Linux 6.4), else the same file opened
// anew with O_NONBLOCK, through /proc/self/fd or a terminal's own name. Where that cannot be (no
// /proc), what goes into a pipe is moved there with splice(2), which can be told not to wait. No
// poll(2) before a write would do: somebody else may fill the pipe in between, and a ^S on the
// terminal halts it. So a terminal that cannot be opened anew gets nothing. A regular file never
// makes anybody wait.
//
// What cannot be written now is kept, up to kMostKept bytes; what does not fit is lost and counted.
// Whoever owns the sink calls Flush() now and then while pending().
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/log.h"
#include "agent/base/unique_fd.h"

namespace modal {

class DescriptorSink : public LogSink {
 public:
  static constexpr size_t kMostKept = size_t{64} * 1024;

  // `fd` is not owned. Where no file may be opened (a sealed process), a pipe is written to with
  // splice(2) and a terminal not at all, if the kernel knows no better.
  explicit DescriptorSink(int fd, bool may_open = true);

  void Write(std::string_view line) override;
  void Flush();
  bool pending() const { return !kept_.empty(); }
  uint64_t lost_lines() const { return lost_lines_; }
  // For the last words of a program: flushes for at most this long.
  void FlushFor(int milliseconds);

 private:
  enum class Way { kFile, kSocket, kNoWait, kOwnDescription, kSplice, kBroken };

  // How many bytes were taken; 0 if none can be now.
  size_t TryWrite(std::string_view bytes);
  ssize_t WriteOnce(std::string_view bytes);
  ssize_t Splice(std::string_view bytes);
  Way LastWay();

  int fd_;
  bool may_open_;
  Way way_;
  UniqueFd own_;
  UniqueFd splice_in_, splice_out_;  // a pipe of our own, empty between calls
  std::string kept_;
  uint64_t lost_lines_ = 0;
};

}  // namespace modal

// The standard descriptors of a workload that may be dumped.
//
// A pipe that leads out of the tree can be put in its place again in another container, and so can
// /dev/null. Anything else (a terminal, a file, a socket) is replaced by a pipe, and what comes
// through it is passed on from here: as fast as the other end takes it, and not faster.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/event/loop.h"

namespace modal::lifecycle {

class WorkloadOutput {
 public:
  // For our own descriptors 1 and 2; standard input is /dev/null.
  static Result<std::unique_ptr<WorkloadOutput>> Make(event::Loop& loop, Clock& clock);
  ~WorkloadOutput();

  // What the workload gets as 0, 1 and 2. Owned here, or ours.
  const std::array<int, 3>& standard() const { return standard_; }
  // For the end, when nobody writes any more: passes on what has come until now, for at most this
  // long.
  void FlushFor(int milliseconds);

 private:
  class Relay;

  WorkloadOutput();
  Result<int> PassOn(event::Loop& loop, Clock& clock, int fd);

  std::array<int, 3> standard_{};
  std::vector<UniqueFd> owned_;
  std::vector<std::unique_ptr<Relay>> relays_;
};

}  // namespace modal::lifecycle

// Fills the memory of a tree that CRIU restores with lazy pages: what is touched at once, together
// with what lies around it, and everything else in large pieces as soon as nothing was touched for
// a moment: who waits for a page is not to wait for the CPU as well.
//
// CRIU connects to a listening socket in its work folder and hands over a userfaultfd for each
// process. Children that are forked meanwhile get theirs here. What does not have its checksum
// (page_sums.h) is an Error. What has not come is never seen as something else: after an Error all
// descriptors stay open in this object, and whoever touches what is missing waits. Blocks.
#pragma once

#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "snapshot/missing_memory.h"

namespace modal::snapshot {

class PageServer {
 public:
  struct Counts {
    uint64_t pages = 0;   // that came this way
    uint64_t faults = 0;  // of these and of others, how often somebody had to wait
  };

  // `folder`: holds the images, by the name "images". `owner` (not owned): if its other end is
  // closed before CRIU has come, nobody will.
  PageServer(UniqueFd listener, UniqueFd folder, int owner);
  ~PageServer();

  // Returns when everything is in, or nobody is left to need it.
  Result<void> Serve();
  const Counts& counts() const { return counts_; }

 private:
  class PagesFile;
  struct Space;
  using Instant = std::chrono::steady_clock::time_point;
  using Spaces = std::list<std::unique_ptr<Space>>;
  enum class Progress { kDone, kLater, kGone };

  Result<void> Accept();
  Result<void> OnCriu();
  Result<UniqueFd> ReceiveDescriptor();
  Result<void> Open(int pid, UniqueFd userfaultfd);
  Result<void> Wait();
  Result<void> ReadEvents(Space& space);
  Result<void> AnswerFaults(Space& space);
  Result<Progress> Answer(Space& space, uint64_t address);
  Result<Progress> Fill(Space& space, uint64_t address, uint64_t end);
  Result<void> FillAhead();
  void PutOff();
  bool IsToFillAhead() const;
  void CloseWhatIsDone();

  UniqueFd listener_;
  UniqueFd folder_;
  int owner_;
  UniqueFd images_;
  UniqueFd criu_;
  bool is_restored_ = false;  // CRIU has said that everything is in place
  const uint64_t page_;
  Spaces spaces_;
  Space* touched_ = nullptr;  // last
  bool is_around_due_ = false;
  Instant calm_{};    // from when on everything else is filled
  Instant latest_{};  // the same, whatever is touched
  Counts counts_;
};

}  // namespace modal::snapshot

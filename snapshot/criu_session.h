// The real Criu: speaks with one `criu swrk`, which serves one call and ends.
//
// Blocks; whoever started both ends them if it takes too long: a CRIU that hangs on a damaged image
// never answers.
#pragma once

#include <string>

#include "agent/base/unique_fd.h"
#include "snapshot/criu.h"
#include "snapshot/criu_rpc.h"

namespace modal::snapshot {

class CriuSession : public Criu {
 public:
  // `socket`: the other end of the SOCK_SEQPACKET socket that `criu swrk` was given.
  explicit CriuSession(UniqueFd socket) : socket_(std::move(socket)) {}

  Result<CriuTimes> Dump(const DumpSpec& spec) override;
  bool HasLeftTreeSuspect() const override { return tree_is_suspect_; }
  Result<Restored> Restore(const RestoreSpec& spec) override;

 private:
  using Step = std::function<Result<void>(const CriuAnswer&)>;

  Result<CriuAnswer> Call(CriuCall call, const CriuOptions& options, const Step& on_step,
                          const OnCriuMoment& on_moment);
  Result<void> Send(const std::string& packet);
  Result<CriuAnswer> Receive();

  UniqueFd socket_;
  bool has_answered_ = false;
  bool tree_is_suspect_ = false;
};

// What CRIU has complained about first, from its log; empty if there is nothing.
std::string FirstComplaint(std::string_view log);

}  // namespace modal::snapshot

// `modal-agent snapshot list | inspect | verify | delete | prune | pack | unpack`: looks after a
// snapshot folder. Blocks; needs no agent and no CRIU.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/snapshot_request.h"
#include "snapshot/store.h"

namespace modal {

struct SnapshotOutcome {
  std::string text;                     // for standard output
  std::vector<std::string> complaints;  // one line each; none: all was done
};

// `json`: the text is JSON.
SnapshotOutcome RunSnapshotCommand(const SnapshotRequest& request, bool json, int64_t now_unix_ms);

// The one snapshot whose key begins so. An Error: there is none, or there are several.
Result<const snapshot::Entry*> FindEntry(const std::vector<snapshot::Entry>& entries,
                                         std::string_view abbreviated);

}  // namespace modal

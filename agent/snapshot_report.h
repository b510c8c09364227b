// What `modal-agent snapshot …` prints: for people in columns, for programs as JSON. Pure. What a
// snapshot says of itself is shown, and never obeyed (Printable()).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "snapshot/store.h"

namespace modal {

// `uptime_ms`: of this machine, which must be no less than what a snapshot needs.
std::string ListText(const std::vector<snapshot::Entry>& entries, const std::string& folder,
                     int64_t now_unix_ms, uint64_t uptime_ms);
std::string ListJson(const std::vector<snapshot::Entry>& entries, const std::string& folder);

// `reasons`: why it cannot be restored here; none: it can, as far as one can tell.
std::string InspectText(const snapshot::Entry& entry, const std::vector<std::string>& reasons,
                        int64_t now_unix_ms);
std::string InspectJson(const snapshot::Entry& entry, const std::vector<std::string>& reasons);

// What became of each of several snapshots.
struct SnapshotResult {
  std::string key;
  std::string problem;  // empty: none
  uint64_t bytes = 0;
};
// `what`: the word for success, "verified" or "deleted".
std::string ResultsText(const std::vector<SnapshotResult>& results, std::string_view what);
std::string ResultsJson(const std::vector<SnapshotResult>& results, std::string_view what);

std::string PruneText(const std::vector<snapshot::Entry>& gone, bool dry_run, int64_t now_unix_ms);
std::string PruneJson(const std::vector<snapshot::Entry>& gone, bool dry_run);

}  // namespace modal

// What `modal-agent snapshot …` is asked to do, parsed and checked. Pure.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "snapshot/store.h"

namespace modal {

enum class SnapshotAction { kList, kInspect, kVerify, kDelete, kPrune, kPack, kUnpack };

struct SnapshotRequest {
  SnapshotAction action = SnapshotAction::kList;
  std::string folder;             // --snapshot-dir
  std::string criu;               // --criu, for kInspect
  std::vector<std::string> keys;  // whole or abbreviated; kVerify: none are all
  std::string file;               // of kPack and kUnpack; "-": standard output or input
  snapshot::PruneRules rules;     // kPrune
  bool dry_run = false;           // kPrune
};

// The verbs that stand behind `modal-agent snapshot`. `create` is one of them, and is serving.
struct SnapshotVerb {
  std::string_view name;
  std::string_view operands;             // "KEY...", for the help
  std::optional<SnapshotAction> action;  // empty: create
  bool json;                             // takes --json
};
std::span<const SnapshotVerb> SnapshotVerbs();
inline constexpr std::string_view kCreateVerb = "create";
// The verb of that name. An Error: there is none, and which may have been meant.
Result<SnapshotVerb> FindSnapshotVerb(std::string_view name);

// Options of `snapshot prune`, as they were given.
struct PruneWords {
  std::string older_than;
  std::string keep;
  std::string max_size;
  bool dry_run = false;
};

// All but `folder` and `criu`, which are settings. An Error names what is wrong with the words.
Result<SnapshotRequest> MakeSnapshotRequest(const SnapshotVerb& verb,
                                            const std::vector<std::string>& operands,
                                            const PruneWords& prune);

}  // namespace modal

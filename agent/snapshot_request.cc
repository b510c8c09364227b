#include "agent/snapshot_request.h"

#include <algorithm>
#include <array>

#include "agent/base/strings.h"
#include "agent/settings_values.h"

namespace modal {
namespace {

constexpr std::array kVerbs{
    SnapshotVerb{kCreateVerb, "[--] [COMMAND...]", std::nullopt, false},
    SnapshotVerb{"list", "", SnapshotAction::kList, true},
    SnapshotVerb{"inspect", "KEY", SnapshotAction::kInspect, true},
    SnapshotVerb{"verify", "[KEY...]", SnapshotAction::kVerify, true},
    SnapshotVerb{"delete", "KEY...", SnapshotAction::kDelete, true},
    SnapshotVerb{"prune", "", SnapshotAction::kPrune, true},
    SnapshotVerb{"pack", "KEY FILE|-", SnapshotAction::kPack, false},
    SnapshotVerb{"unpack", "FILE|-", SnapshotAction::kUnpack, true},
};

std::string NamesOfVerbs() {
  std::vector<std::string> names;
  for (const SnapshotVerb& verb : kVerbs) names.emplace_back(verb.name);
  return Join(names, ", ");
}

Result<std::string> ParseKey(std::string_view text) {
  constexpr size_t kLongest = 32;
  std::string key = LowerCase(text);
  const bool is_hex = key.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (!key.empty() && key.size() <= kLongest && is_hex) return key;
  return Error(Concat("'", text, "' is no key of a snapshot, nor the beginning of one: those are ",
                      kLongest, " hex digits"));
}

Result<snapshot::PruneRules> ParseRules(const PruneWords& words) {
  snapshot::PruneRules rules;
  if (!words.older_than.empty()) {
    const Result<Milliseconds> age = ParseDuration(words.older_than);
    if (!age) return Error(age.error()).While("--older-than " + words.older_than);
    rules.older_than = *age;
  }
  if (!words.keep.empty()) {
    const std::optional<uint64_t> count = ParseUnsigned(words.keep);
    if (!count) return Error(Concat("--keep ", words.keep, ": not a number of snapshots"));
    rules.keep = *count;
  }
  if (!words.max_size.empty()) {
    const Result<uint64_t> size = ParseSize(words.max_size, 0);
    if (!size) return Error(size.error()).While("--max-size " + words.max_size);
    rules.max_bytes = *size;
  }
  if (!rules.older_than && !rules.keep && !rules.max_bytes) {
    return Error(
        "`modal-agent snapshot prune` needs to be told what may go: --older-than, --keep or "
        "--max-size");
  }
  return rules;
}

}  // namespace

std::span<const SnapshotVerb> SnapshotVerbs() { return kVerbs; }

Result<SnapshotVerb> FindSnapshotVerb(std::string_view name) {
  if (name.empty()) {
    return Error(Concat("`modal-agent snapshot` needs to be told what to do: ", NamesOfVerbs()));
  }
  std::vector<std::string> names;
  for (const SnapshotVerb& verb : kVerbs) {
    if (verb.name == name) return verb;
    names.emplace_back(verb.name);
  }
  const std::optional<std::string> nearest = Nearest(name, names);
  return Error(
      Concat("`modal-agent snapshot ", name, "` is nothing it can do; ",
             nearest ? Concat("did you mean ", *nearest, "?") : "there are " + NamesOfVerbs()));
}

Result<SnapshotRequest> MakeSnapshotRequest(const SnapshotVerb& verb,
                                            const std::vector<std::string>& operands,
                                            const PruneWords& prune) {
  MODAL_CHECK(verb.action);
  SnapshotRequest request;
  request.action = *verb.action;
  const bool has_file =
      request.action == SnapshotAction::kPack || request.action == SnapshotAction::kUnpack;
  // How many keys there may be.
  size_t least = 0;
  size_t most = 0;
  switch (request.action) {
    case SnapshotAction::kInspect:
    case SnapshotAction::kPack:
      least = most = 1;
      break;
    case SnapshotAction::kDelete:
      least = 1;
      most = operands.size();
      break;
    case SnapshotAction::kVerify:
      most = operands.size();
      break;
    case SnapshotAction::kList:
    case SnapshotAction::kPrune:
    case SnapshotAction::kUnpack:
      break;
  }
  const size_t files = has_file ? 1 : 0;
  if (operands.size() < least + files || operands.size() > most + files) {
    const std::string takes = verb.operands.empty() ? "no more words" : std::string(verb.operands);
    return Error(Concat("`modal-agent snapshot ", verb.name, "` takes ", takes, ", and got ",
                        operands.empty() ? "none" : ShellJoin(operands)));
  }
  for (size_t i = 0; i + files < operands.size(); ++i) {
    Result<std::string> key = ParseKey(operands[i]);
    if (!key) return std::move(key.error());
    request.keys.push_back(*std::move(key));
  }
  if (has_file) {
    request.file = operands.back();
    if (request.file.empty()) return Error("FILE is empty; - is standard input or output");
  }
  if (request.action == SnapshotAction::kPrune) {
    const Result<snapshot::PruneRules> rules = ParseRules(prune);
    if (!rules) return rules.error();
    request.rules = *rules;
    request.dry_run = prune.dry_run;
  }
  return request;
}

}  // namespace modal

#include "agent/snapshot_command.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "agent/agent_build.h"
#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"
#include "agent/criu_rights.h"
#include "agent/process/terminal.h"
#include "agent/snapshot_report.h"
#include "agent/whole_file.h"
#include "snapshot/archive.h"
#include "snapshot/criu_location.h"
#include "snapshot/restorable.h"

namespace modal {
namespace {

using snapshot::Entry;
using snapshot::Store;

// Level 3 packs as fast as most disks read.
constexpr int kCompression = 3;
constexpr std::string_view kStandard = "-";

Result<std::unique_ptr<Store>> OpenStore(const SnapshotRequest& request) {
  const bool changes = request.action == SnapshotAction::kDelete ||
                       request.action == SnapshotAction::kUnpack ||
                       (request.action == SnapshotAction::kPrune && !request.dry_run);
  return Store::Open(request.folder, changes ? Store::Use::kWrite : Store::Use::kRead);
}

// Every key in full; each once.
Result<std::vector<Entry>> Chosen(Store& store, const std::vector<std::string>& keys) {
  Result<std::vector<Entry>> entries = store.List();
  if (!entries) return std::move(entries.error());
  std::vector<Entry> chosen;
  for (const std::string& key : keys) {
    const Result<const Entry*> entry = FindEntry(*entries, key);
    if (!entry) return Error(entry.error()).While(store.folder());
    const bool again = std::any_of(chosen.begin(), chosen.end(), [&entry](const Entry& other) {
      return other.key == (*entry)->key;
    });
    if (!again) chosen.push_back(**entry);
  }
  return chosen;
}

// What keeps CRIU from restoring anything here goes to `reasons`.
snapshot::Place LookHere(const SnapshotRequest& request, std::vector<std::string>& reasons) {
  snapshot::Place place;
  utsname system{};
  if (::uname(&system) == 0) place.kernel = system.release;
  place.agent_version = AgentBuild();
  const char* path = ::getenv("PATH");
  const auto criu = snapshot::LocateCriu(request.criu, path ? path : "");
  if (criu) {
    place.criu_build = criu->build;
    std::string lacks = WhatCriuLacks(LookAtCriuRights(criu->path, false));
    if (!lacks.empty()) reasons.push_back(std::move(lacks));
  } else {
    reasons.push_back(criu.error().message());
  }
  place.uptime_ms = snapshot::UptimeMs();
  return place;
}

// Also what only the files themselves tell: their sizes.
std::vector<std::string> WhyNot(Store& store, const Entry& entry, const SnapshotRequest& request) {
  if (!entry.manifest) return {entry.problem};
  std::vector<std::string> reasons;
  const snapshot::Place here = LookHere(request, reasons);
  for (std::string& reason : WhyNotHere(*entry.manifest, entry.verdict, here)) {
    reasons.push_back(std::move(reason));
  }
  const auto found = store.Find(entry.key);
  if (!found) reasons.push_back("it is damaged: " + found.error().message());
  return reasons;
}

Result<std::string> List(Store& store, bool json, int64_t now_unix_ms) {
  const Result<std::vector<Entry>> entries = store.List();
  if (!entries) return entries.error();
  return json ? ListJson(*entries, store.folder())
              : ListText(*entries, store.folder(), now_unix_ms, snapshot::UptimeMs());
}

Result<std::string> Inspect(Store& store, const SnapshotRequest& request, bool json,
                            int64_t now_unix_ms) {
  const Result<std::vector<Entry>> chosen = Chosen(store, request.keys);
  if (!chosen) return chosen.error();
  const Entry& entry = chosen->front();
  const std::vector<std::string> reasons = WhyNot(store, entry, request);
  return json ? InspectJson(entry, reasons) : InspectText(entry, reasons, now_unix_ms);
}

// `verify` and `delete`: goes on where one fails.
template <class Action>
Result<SnapshotOutcome> ForEach(const std::vector<Entry>& chosen, std::string_view what, bool json,
                                const Action& action) {
  SnapshotOutcome outcome;
  std::vector<SnapshotResult> results;
  for (const Entry& entry : chosen) {
    const Result<void> done = action(entry.key);
    results.push_back({entry.key, done ? "" : done.error().message(), entry.bytes});
    if (!done) outcome.complaints.push_back(done.error().message());
  }
  outcome.text = json ? ResultsJson(results, what) : ResultsText(results, what);
  return outcome;
}

Result<SnapshotOutcome> Verify(Store& store, const SnapshotRequest& request, bool json) {
  const Result<std::vector<Entry>> chosen =
      request.keys.empty() ? store.List() : Chosen(store, request.keys);
  if (!chosen) return chosen.error();
  return ForEach(*chosen, "verified", json,
                 [&store](const std::string& key) { return store.Verify(key); });
}

Result<SnapshotOutcome> Delete(Store& store, const SnapshotRequest& request, bool json) {
  const Result<std::vector<Entry>> chosen = Chosen(store, request.keys);
  if (!chosen) return chosen.error();
  return ForEach(*chosen, "deleted", json,
                 [&store](const std::string& key) { return store.Delete(key); });
}

Result<std::string> Prune(Store& store, const SnapshotRequest& request, bool json,
                          int64_t now_unix_ms) {
  const Result<std::vector<Entry>> gone = request.dry_run
                                              ? store.WouldPrune(request.rules, now_unix_ms)
                                              : store.Prune(request.rules, now_unix_ms);
  if (!gone) return gone.error();
  return json ? PruneJson(*gone, request.dry_run) : PruneText(*gone, request.dry_run, now_unix_ms);
}

Error IsTerminal(std::string_view what) {
  return Error(Concat("an archive is nothing for a terminal; ", what, " or name a file"));
}

// Into a pipe or a device, which has no other name to be renamed from.
Result<void> PackInto(Store& store, const std::string& key, int fd) {
  if (process::IsTerminal(fd)) return IsTerminal("redirect standard output,");
  return snapshot::Pack(store, key, fd, kCompression);
}

Result<void> PackToFile(Store& store, const std::string& key, const std::string& path) {
  struct stat info {};
  const bool is_there = ::stat(path.c_str(), &info) == 0;
  if (is_there && S_ISDIR(info.st_mode)) return Error::FromErrno(path, EISDIR);
  if (is_there && !S_ISREG(info.st_mode)) {
    const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY));
    if (!fd) return Error::FromErrno(path, errno);
    return PackInto(store, key, fd.get());
  }
  Result<WholeFile> file = WholeFile::Create(path);
  if (!file) return std::move(file.error());
  Result<void> packed = snapshot::Pack(store, key, file->fd(), kCompression);
  if (!packed) return packed;
  return file->Publish();
}

Result<std::string> Pack(Store& store, const SnapshotRequest& request) {
  const Result<std::vector<Entry>> chosen = Chosen(store, request.keys);
  if (!chosen) return chosen.error();
  const std::string& key = chosen->front().key;
  Result<void> packed = request.file == kStandard ? PackInto(store, key, STDOUT_FILENO)
                                                  : PackToFile(store, key, request.file);
  if (!packed) return std::move(packed.error());
  return std::string();
}

Result<std::string> Unpack(Store& store, const SnapshotRequest& request, bool json) {
  UniqueFd opened;
  int fd = STDIN_FILENO;
  if (request.file != kStandard) {
    opened.Reset(::open(request.file.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
    if (!opened) return Error::FromErrno(request.file, errno);
    fd = opened.get();
  }
  if (process::IsTerminal(fd)) return IsTerminal("redirect standard input,");
  const Result<std::string> key = snapshot::Unpack(store, fd);
  if (!key) return Error(key.error()).While("unpack " + request.file);
  const Result<std::vector<Entry>> entries = Chosen(store, {*key});
  if (!entries) return entries.error();
  const std::vector<SnapshotResult> results{{*key, "", entries->front().bytes}};
  return json ? ResultsJson(results, "unpacked") : ResultsText(results, "unpacked");
}

Result<SnapshotOutcome> Said(Result<std::string> text) {
  if (!text) return std::move(text.error());
  return SnapshotOutcome{*std::move(text), {}};
}

Result<SnapshotOutcome> Run(const SnapshotRequest& request, bool json, int64_t now_unix_ms) {
  Result<std::unique_ptr<Store>> opened = OpenStore(request);
  if (!opened) return std::move(opened.error());
  Store& store = **opened;
  switch (request.action) {
    case SnapshotAction::kList:
      return Said(List(store, json, now_unix_ms));
    case SnapshotAction::kInspect:
      return Said(Inspect(store, request, json, now_unix_ms));
    case SnapshotAction::kVerify:
      return Verify(store, request, json);
    case SnapshotAction::kDelete:
      return Delete(store, request, json);
    case SnapshotAction::kPrune:
      return Said(Prune(store, request, json, now_unix_ms));
    case SnapshotAction::kPack:
      return Said(Pack(store, request));
    case SnapshotAction::kUnpack:
      return Said(Unpack(store, request, json));
  }
  return Error("there is no such command");
}

}  // namespace

Result<const Entry*> FindEntry(const std::vector<Entry>& entries, std::string_view abbreviated) {
  constexpr size_t kMostNamed = 5;
  std::vector<const Entry*> found;
  for (const Entry& entry : entries) {
    if (entry.key.starts_with(abbreviated)) found.push_back(&entry);
  }
  if (found.size() == 1) return found.front();
  if (found.empty()) return Error(Concat("no snapshot's key begins with ", abbreviated));
  std::vector<std::string> keys;
  for (const Entry* entry : found) {
    if (keys.size() < kMostNamed) keys.push_back(entry->key);
  }
  return Error(Concat(found.size(), " snapshots' keys begin with ", abbreviated, ": ",
                      Join(keys, ", "), found.size() > kMostNamed ? ", ..." : ""));
}

SnapshotOutcome RunSnapshotCommand(const SnapshotRequest& request, bool json, int64_t now_unix_ms) {
  Result<SnapshotOutcome> outcome = Run(request, json, now_unix_ms);
  if (outcome) return *std::move(outcome);
  return {"", {outcome.error().message()}};
}

}  // namespace modal

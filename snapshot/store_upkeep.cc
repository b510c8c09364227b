// What looks after a snapshot folder: listing, verifying, deleting, pruning, sweeping.
#include <errno.h>

#include <algorithm>
#include <utility>

#include "agent/base/strings.h"
#include "snapshot/checksum.h"
#include "snapshot/folder.h"
#include "snapshot/snapshot_files.h"
#include "snapshot/store.h"
#include "snapshot/store_lock.h"
#include "snapshot/store_state.h"

namespace modal::snapshot {
namespace {

constexpr size_t kKeyLength = 32;

Result<std::optional<UniqueFd>> TakeAlone(int dir, const std::string& key, Milliseconds patience,
                                          LockFile file) {
  return TakeLock(dir, LockName(key), LockKind::kAlone, patience, file);
}

bool IsInUse(int dir, const std::string& key) {
  const auto lock = TakeAlone(dir, key, Milliseconds{0}, LockFile::kMustExist);
  return lock && !*lock;  // without a lock nobody can know
}

// The key of a staging folder's name, or nothing if it is none.
std::optional<std::string> KeyOfStaging(const std::string& name) {
  const std::string start = StagingPrefix("");  // ".staging--"
  const size_t begin = start.size() - 1;
  if (name.size() != begin + kKeyLength + 1 + kRandomLength) return std::nullopt;
  const std::string key = name.substr(begin, kKeyLength);
  if (!IsKey(key) || !name.starts_with(StagingPrefix(key))) return std::nullopt;
  return key;
}

bool IsTrash(const std::string& name) {
  return name.size() == kTrashPrefix.size() + kRandomLength && name.starts_with(kTrashPrefix);
}

std::optional<std::string> KeyBefore(const std::string& name, std::string_view suffix) {
  if (!name.ends_with(suffix)) return std::nullopt;
  const std::string key = name.substr(0, name.size() - suffix.size());
  return IsKey(key) ? std::optional(key) : std::nullopt;
}

// In one step, so that whoever still works in it can publish no half of it.
Result<std::string> MoveToTrash(int dir, const std::string& name) {
  const std::string trash = RandomName(std::string(kTrashPrefix));
  Result<void> renamed = RenameNewIn(dir, name, trash);
  if (!renamed) return std::move(renamed.error());
  return trash;
}

// What differs from the manifest, in words.
std::vector<std::string> Differences(int folder, const Manifest& manifest) {
  std::vector<std::string> found;
  std::vector<std::string> known{kManifestName};
  SnapshotFiles files(folder);
  for (const ImageFile& file : manifest.files) {
    known.push_back(file.name);
    const Result<uint64_t> size = files.SizeOf(file.name);
    if (!size) {
      found.push_back(Concat(file.name, " (", size.error().message(), ")"));
      continue;
    }
    if (*size != file.size) {
      found.push_back(Concat(file.name, " (", *size, " bytes instead of ", file.size, ")"));
      continue;
    }
    const Result<UniqueFd> opened = files.Open(file.name);
    const Result<FileChecksum> checksum =
        opened ? ChecksumOf(opened->get()) : Result<FileChecksum>(opened.error());
    if (!checksum) {
      found.push_back(Concat(file.name, " (", checksum.error().message(), ")"));
    } else if (checksum->text != file.checksum) {
      found.push_back(file.name + " (checksum)");
    }
  }
  const Result<SnapshotFiles::Tree> tree = files.Read();
  if (!tree) {
    found.push_back(tree.error().message());
    return found;
  }
  std::sort(known.begin(), known.end());
  for (const std::string& name : tree->files) {
    if (!std::binary_search(known.begin(), known.end(), name)) {
      found.push_back(name + " (is not in the manifest)");
    }
  }
  return found;
}

// What the rules do not keep, of entries with the youngest first.
std::vector<Entry> Superfluous(const std::vector<Entry>& entries, const PruneRules& rules,
                               int64_t now_unix_ms) {
  size_t kept = 0;
  uint64_t kept_bytes = 0;
  for (const Entry& entry : entries) {
    if (!entry.in_use) continue;
    ++kept;
    kept_bytes += entry.bytes;
  }
  std::vector<Entry> superfluous;
  bool is_full = false;
  for (const Entry& entry : entries) {
    if (entry.in_use || entry.is_foreign) continue;
    const bool is_old =
        rules.older_than && entry.made_unix_ms < now_unix_ms - rules.older_than->count();
    is_full = is_full || (rules.keep && kept >= *rules.keep) ||
              (rules.max_bytes && kept_bytes + entry.bytes > *rules.max_bytes);
    if (is_old || is_full) {
      superfluous.push_back(entry);
    } else {
      ++kept;
      kept_bytes += entry.bytes;
    }
  }
  return superfluous;
}

}  // namespace

Result<std::vector<Entry>> Store::List() {
  const int dir = state_->dir.get();
  const Result<std::vector<std::string>> names = NamesIn(dir);
  if (!names) return Error(names.error()).While(state_->folder);
  std::vector<Entry> entries;
  for (const std::string& key : *names) {
    if (!IsKey(key)) continue;
    const Result<Named> named = LookUpIn(dir, key);
    if (named && named->kind == Kind::kNothing) continue;  // deleted since
    Entry entry;
    entry.key = key;
    entry.path = Concat(state_->folder, "/", key);
    if (named) entry.made_unix_ms = named->changed_unix_ms;
    entry.bytes = DiskBytesIn(dir, key);
    entry.in_use = IsInUse(dir, key);
    Result<State::Opened> opened = state_->Open(key);
    if (opened) {
      entry.made_unix_ms = opened->manifest.created_unix_ms;
      entry.manifest = std::move(opened->manifest);
    } else {
      entry.problem = opened.error().message();
      const Result<UniqueFd> folder = OpenFolderIn(dir, key);
      const Result<std::string> text =
          folder ? ReadFileIn(folder->get(), kManifestName, kLargestManifest) : Error("");
      const Result<uint32_t> format = text ? ParseFormat(*text) : Error("");
      entry.is_foreign = (format && *format != kFormat) || (named && named->kind != Kind::kFolder);
    }
    Result<Verdict> verdict = ReadVerdict(key);
    if (verdict) {
      entry.verdict = *std::move(verdict);
    } else if (entry.problem.empty()) {
      entry.problem = verdict.error().message();
    }
    entries.push_back(std::move(entry));
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(b.made_unix_ms, std::string_view(a.key)) <
           std::pair(a.made_unix_ms, std::string_view(b.key));
  });
  return entries;
}

Result<void> Store::Verify(const std::string& key) {
  if (Result<void> checked = CheckKey(key); !checked) return checked;
  // Nobody deletes it meanwhile; where there are no locks, that is seen as missing files.
  const auto lock =
      TakeLock(state_->dir.get(), LockName(key), LockKind::kShared, kMoment, LockFile::kMustExist);
  const Result<State::Opened> opened = state_->Open(key);
  if (!opened && opened.error().code() == ENOENT) return Error("there is no snapshot " + key);
  if (!opened) return opened.error();
  const std::vector<std::string> found = Differences(opened->folder.get(), opened->manifest);
  if (found.empty()) return {};
  return InSnapshot(key, Error("is damaged: " + Join(found, ", ")));
}

Result<bool> Store::State::Remove(const std::string& key) const {
  Result<std::optional<UniqueFd>> lock =
      TakeAlone(dir.get(), key, kMoment, LockFile::kMakeIfMissing);
  if (!lock) return ExplainLocks(std::move(lock.error()));
  if (!*lock) return false;
  const Result<std::string> trash = MoveToTrash(dir.get(), key);
  const bool is_gone = !trash && trash.error().code() == ENOENT;  // somebody else was here
  if (!trash && !is_gone) return trash.error();
  RemoveVerdict(key);
  (void)RemoveFileIn(dir.get(), LockName(key));
  (void)SyncFolder(dir.get());
  lock->reset();  // a new one may be made while the old one's files go
  if (is_gone) return true;
  if (Result<void> removed = RemoveTreeIn(dir.get(), *trash); !removed) {
    return std::move(removed.error());
  }
  return true;
}

Result<void> Store::Delete(const std::string& key) {
  if (Result<void> checked = CheckKey(key); !checked) return checked;
  if (Result<void> writable = state_->CheckWritable(); !writable) return writable;
  const Result<Named> named = LookUpIn(state_->dir.get(), key);
  if (!named) return InSnapshot(key, named.error());
  if (named->kind == Kind::kNothing) return Error("there is no snapshot " + key);
  if (named->kind != Kind::kFolder) return InSnapshot(key, Error("is no folder, and stays"));
  Result<bool> removed = state_->Remove(key);
  if (!removed) return InSnapshot(key, std::move(removed.error()));
  if (!*removed) return InSnapshot(key, Error("is in use"));
  state_->Sweep("");
  return {};
}

Result<std::vector<Entry>> Store::WouldPrune(const PruneRules& rules, int64_t now_unix_ms) {
  const Result<std::vector<Entry>> entries = List();
  if (!entries) return entries.error();
  return Superfluous(*entries, rules, now_unix_ms);
}

Result<std::vector<Entry>> Store::Prune(const PruneRules& rules, int64_t now_unix_ms) {
  if (Result<void> writable = state_->CheckWritable(); !writable) {
    return std::move(writable.error());
  }
  const Result<std::vector<Entry>> superfluous = WouldPrune(rules, now_unix_ms);
  if (!superfluous) return superfluous.error();
  std::vector<Entry> gone;
  std::optional<Error> problem;
  for (const Entry& entry : *superfluous) {
    const Result<bool> removed = state_->Remove(entry.key);
    if (removed && *removed) gone.push_back(entry);
    if (!removed && !problem) problem = InSnapshot(entry.key, removed.error());
  }
  state_->Sweep("");
  if (problem) return *problem;
  return gone;
}

void Store::State::Sweep(const std::string& held) const {
  const Result<std::vector<std::string>> names = NamesIn(dir.get());
  if (!names) return;
  std::vector<std::string> trash;
  // Under the lock of a key that is free: nobody works there.
  const auto sweep_key = [&](const std::string& key, const std::string& name) {
    Result<std::optional<UniqueFd>> lock = std::optional<UniqueFd>();
    if (key != held) {
      lock = TakeAlone(dir.get(), key, Milliseconds{0}, LockFile::kMakeIfMissing);
      if (!lock || !*lock) return;
    }
    if (name != LockName(key)) {
      if (Result<std::string> moved = MoveToTrash(dir.get(), name)) {
        trash.push_back(*std::move(moved));
      }
    }
    const Result<Named> named = LookUpIn(dir.get(), key);
    if (key != held && named && named->kind == Kind::kNothing) {
      (void)RemoveFileIn(dir.get(), LockName(key));
    }
  };
  for (const std::string& name : *names) {
    if (IsTrash(name)) {
      trash.push_back(name);
    } else if (const auto staged = KeyOfStaging(name)) {
      sweep_key(*staged, name);
    } else if (const auto locked = KeyBefore(name, ".lock"); locked && *locked != held) {
      const Result<Named> named = LookUpIn(dir.get(), *locked);
      if (named && named->kind == Kind::kNothing) sweep_key(*locked, name);
    }
  }
  for (const std::string& name : trash) (void)RemoveTreeIn(dir.get(), name);
}

}  // namespace modal::snapshot

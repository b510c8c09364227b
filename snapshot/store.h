// The folder of --snapshot-dir: many containers share it, on one machine or over a network volume,
// and any of them may be killed at any moment.
//
//   DIR/README                what this folder is
//   DIR/KEY/                  a published snapshot, never changed afterwards
//           manifest.json
//           images/…          CRIU's
//           files.tar         changed files that travel along, if there are any
//           criu.kdat         CRIU's cache of what this kernel can do, if there is one
//   DIR/KEY.verdict           what is known of its worth (verdict.h); replaced by rename
//   DIR/KEY.lock              who dumps or deletes holds it alone (flock), who restores shares it
//   DIR/.lock                 held alone for the moment in which a verdict changes
//   DIR/KEY.verdict.new       of that moment
//   DIR/.staging-KEY-XXXXXX/  a snapshot that is being made; its maker holds KEY.lock alone
//   DIR/.trash-XXXXXX/        a snapshot that is being deleted
//
// Published by one rename after every file and folder was synced: a key has a whole snapshot or
// none. Staging and trash folders whose maker is gone are removed by whoever stages, deletes or
// prunes next. Nothing here follows a symbolic link below DIR, leaves DIR, or enters what is
// mounted in it, and names that are none of the above are neither read nor removed. All calls
// block.
//
// Locks go with the process that holds them, in whatever container. On a file system without flock
// snapshots are found and listed, but none is made, deleted or judged: those calls are Errors. So
// they are in a folder that cannot be written (Use::kRead). Where locks of one machine are not seen
// by another (some FUSE volumes), two machines may make the same snapshot at once; one of them is
// told that it was second or that its folder is gone, and what is published is whole all the same.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "snapshot/manifest.h"
#include "snapshot/verdict.h"

namespace modal::snapshot {

// Keeps others from deleting what it was made for, or from dumping the same key, while it lives.
class StoreLock {
 public:
  // Without a file: there are no locks here, and nobody is kept from anything.
  explicit StoreLock(UniqueFd file) : file_(std::move(file)) {}

 private:
  UniqueFd file_;
};

// A snapshot under construction: its maker puts regular files into the folder and into folders in
// it (manifest.h, IsFileName()), and closes them. Destroyed without Publish(): everything in it is
// removed. May outlive its Store.
class Staging {
 public:
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  const std::string& path() const;  // of the folder
  std::string images_dir() const;   // exists, empty, mode 0700

 private:
  friend class Store;
  struct State;
  explicit Staging(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

struct Entry {
  std::string key;
  std::string path;
  std::optional<Manifest> manifest;  // empty: `problem` says why
  std::string problem;
  bool is_foreign = false;   // of a format that this agent does not know, or no folder at all
  int64_t made_unix_ms = 0;  // by the manifest; without one, when the folder last changed
  Verdict verdict;
  bool in_use = false;  // somebody holds its lock at this moment
  uint64_t bytes = 0;   // on disk
};

// What Prune() may remove; empty: no such limit. The youngest are kept: the first that is too many
// or does not fit goes, and all that are older. Those in use stay and count first.
struct PruneRules {
  std::optional<Milliseconds> older_than;
  std::optional<size_t> keep;
  std::optional<uint64_t> max_bytes;
};

class Store {
 public:
  enum class Use { kRead, kWrite };

  // Makes the folder if it is missing (kWrite; not those above it), mode 0700. An Error says what
  // is wrong with it: no folder, not writable, on a read-only file system, open to other users (who
  // could put memory of their own there for us to restore), ...
  static Result<std::unique_ptr<Store>> Open(const std::string& folder, Use use);
  ~Store();

  // The snapshot of this key: its manifest, with the sizes of all files checked and its lock shared
  // from now on. Nothing if there is none, or it is being deleted. An Error: it is damaged (a
  // failure of the snapshot).
  struct Found {
    Manifest manifest;
    std::string path;
    std::unique_ptr<StoreLock> lock;
  };
  Result<std::optional<Found>> Find(const std::string& key);

  // The youngest that `fits`, of the few youngest that there are; as Find(). Those that are damaged
  // or locked at this moment are passed over.
  std::optional<Found> FindYoungest(const std::function<bool(const Manifest&)>& fits);

  // To make a snapshot of this key. Nothing if it has one already, or somebody is at it right now.
  Result<std::unique_ptr<Staging>> Stage(const std::string& key);
  // Checksums every file, writes the manifest (key and files are filled in), syncs all and renames;
  // what was known of an older snapshot's worth is forgotten. Whoever publishes the same key second
  // is told so by an Error, and its staging folder goes, as after any Error.
  Result<void> Publish(std::unique_ptr<Staging> staging, Manifest manifest);

  Result<Verdict> ReadVerdict(const std::string& key);  // kUnproven if there is none
  // Reads, changes and replaces it under a lock: of two containers none is forgotten. One that is
  // damaged is as none.
  Result<Verdict> ChangeVerdict(const std::string& key,
                                const std::function<Verdict(Verdict)>& change);

  Result<std::vector<Entry>> List();  // the youngest first
  // Reads every byte and compares checksums. The Error names each file that differs, is missing or
  // does not belong there.
  Result<void> Verify(const std::string& key);
  // And its verdict. An Error if it is in use, or there is none.
  Result<void> Delete(const std::string& key);
  // Returns what was removed. Snapshots in use stay, and what is foreign. An Error: one could not
  // be removed (the others are).
  Result<std::vector<Entry>> Prune(const PruneRules& rules, int64_t now_unix_ms);
  // What Prune() would try to remove at this moment.
  Result<std::vector<Entry>> WouldPrune(const PruneRules& rules, int64_t now_unix_ms);

  const std::string& folder() const;

 private:
  struct State;
  explicit Store(std::unique_ptr<State> state);
  Result<std::optional<Found>> FindWithin(const std::string& key, Milliseconds patience);
  std::unique_ptr<State> state_;
};

}  // namespace modal::snapshot

// What Store is made of, for its own files: store.cc (finding and making), store_upkeep.cc (listing
// and removing).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "snapshot/manifest.h"
#include "snapshot/store.h"
#include "snapshot/store_lock.h"

namespace modal::snapshot {

inline constexpr const char* kManifestName = "manifest.json";

// A lock is held for long by who dumps or restores, for a moment by all others.
inline constexpr Milliseconds kMoment{100};

// Names in DIR.
std::string LockName(const std::string& key);
std::string VerdictName(const std::string& key);
std::string NewVerdictName(const std::string& key);
std::string StagingPrefix(const std::string& key);
inline constexpr std::string_view kTrashPrefix = ".trash-";

struct Store::State {
  std::string folder;
  UniqueFd dir;
  Use use = Use::kRead;

  // For what changes something in DIR.
  Result<void> CheckWritable() const;

  // The folder of a snapshot and what it says about itself. The Error has ENOENT if there is none.
  struct Opened {
    UniqueFd folder;
    Manifest manifest;
  };
  Result<Opened> Open(const std::string& key) const;

  // Renames it away, with what belongs to it, and removes the files then. False: it is in use.
  Result<bool> Remove(const std::string& key) const;
  // Forgets the verdict.
  void RemoveVerdict(const std::string& key) const;
  // Removes what makers and deleters have left behind that are gone. `held` is a key whose lock the
  // caller holds alone, or "". What cannot be removed now is left to the next.
  void Sweep(const std::string& held) const;
};

// "snapshot KEY: ".
Error InSnapshot(const std::string& key, Error error);
Result<void> CheckKey(const std::string& key);

}  // namespace modal::snapshot

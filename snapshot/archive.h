// A snapshot as one file that can be copied between machines: a tar archive (POSIX pax, so that tar
// lists it) compressed with zstd, with its manifest as the first member.
//
// Unpack() trusts nothing: it takes the members that the manifest names and no others, in this
// order, each of the size and with the checksum given there, into a staging folder; only when all
// is well is it published. Both calls block and stream: memory does not grow with the snapshot.
#pragma once

#include <string>

#include "agent/base/result.h"
#include "snapshot/store.h"

namespace modal::snapshot {

// Writes to `fd` from its current place on; `level` as in zstd(1), 1 to 19.
Result<void> Pack(Store& store, const std::string& key, int fd, int level);

// Returns the key. An Error if the store has a snapshot of this key already.
Result<std::string> Unpack(Store& store, int fd);

}  // namespace modal::snapshot

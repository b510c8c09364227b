// A snapshot as one file that can be copied between machines: a tar archive (POSIX pax, so that
// `tar --zstd` lists and extracts it) compressed with zstd. Its first member is KEY/manifest.json,
// then come the files that it names, each as KEY/NAME.
//
// Unpack() trusts nothing: it takes the members that the manifest names and no others, in this
// order, each of the size and with the checksum given there, into a staging folder; only when all
// is well is it published. What is more than the disk has room for is refused before it is written.
// Both calls block and stream: memory does not grow with the snapshot. The verdict stays behind.
#pragma once

#include <string>

#include "agent/base/result.h"
#include "snapshot/store.h"

namespace modal::snapshot {

// Writes to `fd` from its current place on; `level` as in zstd(1), 1 to 19. The snapshot is
// verified as it is read: an Error, and the archive is worthless.
Result<void> Pack(Store& store, const std::string& key, int fd, int level);

// Reads `fd` to its end and returns the key. An Error if the store has a snapshot of this key
// already.
Result<std::string> Unpack(Store& store, int fd);

}  // namespace modal::snapshot

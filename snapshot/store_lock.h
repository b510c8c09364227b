// Lock files, by flock(2): the lock belongs to the open file, goes when its holder dies however it
// dies, and is seen from other containers, whatever their namespaces. Over NFS it holds between
// machines; some FUSE volumes keep it to one machine; file systems without it are told by
// IsWithoutLocks().
#pragma once

#include <optional>
#include <string>

#include "agent/base/clock.h"
#include "agent/base/result.h"
#include "agent/base/unique_fd.h"

namespace modal::snapshot {

enum class LockKind { kShared, kAlone };
enum class LockFile { kMakeIfMissing, kMustExist };

// Nothing: others have it, and had it still after `patience`. The file is the lock: closed, it is
// free. An Error with ENOENT: there is no such file (kMustExist).
Result<std::optional<UniqueFd>> TakeLock(int folder, const std::string& name, LockKind kind,
                                         Milliseconds patience, LockFile file);

// Whether an Error of TakeLock() means that there can be no locks here.
bool IsWithoutLocks(const Error& error);
// The same error; if it means that, it says so.
Error ExplainLocks(Error error);

}  // namespace modal::snapshot

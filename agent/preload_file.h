// The library under which a workload finds no io_uring (snapshot/preload), as a file that the
// dynamic loader finds: at the same path in each container of an image, since a restored process
// maps it.
#pragma once

#include "agent/base/result.h"
#include "lifecycle/options.h"

namespace modal {

// Writes the file where there is none yet, and names it in LD_PRELOAD of hooks and workload. An
// Error: there is no folder for it; then a server that uses io_uring cannot be dumped.
Result<void> HideIoUring(lifecycle::Options& options);

}  // namespace modal

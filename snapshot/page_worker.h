// The page server as a process: a personality of the agent's own binary (page_protocol.h).
#pragma once

#include <span>

#include "snapshot/page_protocol.h"

namespace modal::snapshot {

// argv is kPagesArgv0 alone, descriptors as in page_protocol.h.
int RunPageWorker(std::span<char* const> argv);

}  // namespace modal::snapshot

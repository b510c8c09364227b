// Whether a snapshot's memory is brought back as a whole before anything runs (eager), or as it is
// touched (lazy, page_server.h). Pure.
#pragma once

#include <cstdint>
#include <string>

#include "snapshot/manifest.h"
#include "snapshot/verdict.h"

namespace modal::snapshot {

enum class Pages { kAuto, kEager, kLazy };

// Less than so much is there sooner than anybody could ask for it.
inline constexpr uint64_t kLazyFrom = uint64_t{128} << 20;

// By kAuto: lazy if one process alone makes it worth it. Workers that were forked share what they
// have not written; filled one by one each would have a copy of its own. What has failed once is
// tried in the plain way.
bool WantsLazyPages(Pages pages, const Manifest& manifest, const Verdict& verdict);

// Of the processes' memory, in all images.
uint64_t MemoryBytes(const Manifest& manifest);

}  // namespace modal::snapshot

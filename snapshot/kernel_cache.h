// criu.kdat: what CRIU has found out about the kernel. Without it it takes 15 to 35 ms to find out
// anew. It looks for it in $XDG_RUNTIME_DIR, which is its job's work folder, and writes it there if
// that is on a tmpfs.
#pragma once

#include <cstdint>
#include <string>

#include "agent/base/result.h"

namespace modal::snapshot {

inline constexpr const char* kKernelCache = "criu.kdat";

// From one folder to the other; an Error if there is none.
Result<void> CopyKernelCache(const std::string& from, const std::string& to);

// An unprivileged CRIU does not look for userfaultfd(2), and then asks for none of the events that
// a page server must have. Whoever has found out which there are (userfaultfd.h) puts them into the
// bytes of such a cache. An Error, and nothing is changed: it is not laid out as CRIU 4 does it.
Result<void> PutUserfaultfd(std::string& cache, uint64_t features);
// The same for the cache in a folder, which is replaced.
Result<void> PutUserfaultfdInto(const std::string& folder, uint64_t features);

}  // namespace modal::snapshot

// Where CRIU is, and which build of it: looked for without running it.
#pragma once

#include <string>

#include "agent/base/result.h"

namespace modal::snapshot {

// The bundle that packaging/criu/bundle.sh makes, in an image.
inline constexpr const char* kBundledCriu = "/opt/modal-agent/criu/criu";

struct CriuLocation {
  std::string path;
  // Tells apart two builds, for the snapshot's key: the bundle's own, else size and time of change
  // of the program.
  std::string build;
};

// `asked`: --criu, which must be there; empty: the bundle, else "criu" of `path` (a $PATH). An
// Error says that there is none and how to get one.
Result<CriuLocation> LocateCriu(const std::string& asked, const std::string& path);

}  // namespace modal::snapshot

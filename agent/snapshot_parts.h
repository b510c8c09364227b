// What the agent needs for snapshots, made of its settings: or why there will be none.
#pragma once

#include <string>

#include "agent/base/result.h"
#include "lifecycle/options.h"
#include "lifecycle/snapshotter.h"

namespace modal {

// `environment`: our own, in which CRIU is looked for. `executable`: of our own binary. An Error
// says in one line why snapshots stay off.
Result<lifecycle::Snapshotter::Options> MakeSnapshotOptions(const lifecycle::Options& options,
                                                            const std::string& path,
                                                            const std::string& executable);

}  // namespace modal

// Which runtime the processes of a tree belong to: "python/gunicorn", "node", "jvm/app.jar",
// "shell", "native", and "keeper" for our own. Told from their programs and command lines, for
// people to read. Pure.
#pragma once

#include <string>
#include <vector>

#include "snapshot/manifest.h"

namespace modal {

// One for each process. What a process does not tell itself it has from its parent, if that is of
// the same language.
std::vector<std::string> RuntimesOf(const std::vector<snapshot::DumpedProcess>& processes);

}  // namespace modal

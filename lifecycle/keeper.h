// The keeper: a personality of the agent's own binary, above all that can be dumped.
//
// Snapshots take one tree, with its sessions inside of it. The keeper is the subreaper of all that
// runs in it (hooks' servers, daemons, wrappers), leads the session of the hooks, and starts
// startup hooks and workload when the supervisor asks for it. Where there is nobody but the
// workload and its descendants, these are dumped without it (snapshot/tree.h). Before a dump it is
// told to leave: it closes its channel, holds no descriptor but its standard ones from then on, and
// goes on alone, for the tree may be woken in another container. What it still has to say it says
// by its own end:
//
//   the workload failed, or was ended by a signal   the keeper ends in the same way, at once
//   the workload ended with 0                       likewise, or, if it left daemons behind, once
//                                                   these are gone, as the last of them did; who
//                                                   still has its channel is told at once
//   it never had a workload (a hook's server)       it ends as the last child did, after kLeave
//
// It runs as the workload's user, with the workload's capabilities and limits, and ignores every
// signal but SIGKILL and SIGSTOP. It allocates little: its memory is part of every snapshot.
#pragma once

#include <span>

namespace modal::lifecycle {

// Never returns normally: it ends as described above.
int RunKeeper(std::span<char* const> argv);

}  // namespace modal::lifecycle

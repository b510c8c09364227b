// How `criu swrk` is started, which CriuSession speaks with.
#pragma once

#include <optional>
#include <string>

#include "agent/process/launcher.h"

namespace modal::snapshot {

// `criu`: path of the program. `cache_dir`: where it keeps what it has found out about the kernel,
// if that is a tmpfs; empty: nowhere. `socket`: one end of a SOCK_SEQPACKET pair, which becomes
// kCriuSocketFd (worker_protocol.h). `user`: if it is not to run as what we are; it then has all
// capabilities that we have. Standard descriptors, and what is to be passed on beside them, are the
// caller's.
process::LaunchSpec SwrkSpec(const std::string& criu, const std::string& cache_dir, int socket,
                             const std::optional<process::Credentials>& user = std::nullopt);

}  // namespace modal::snapshot

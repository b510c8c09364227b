// How `criu swrk` is started, which CriuSession speaks with.
#pragma once

#include <string>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/process/launcher.h"

namespace modal::snapshot {

// `criu`: path of the program. `cache_dir`: where it keeps what it has found out about the kernel,
// if that is a tmpfs; empty: nowhere. `socket`: one end of a SOCK_SEQPACKET pair, which becomes
// kCriuSocketFd (worker_protocol.h). Standard descriptors, and what is to be passed on beside them,
// are the caller's.
process::LaunchSpec SwrkSpec(const std::string& criu, const std::string& cache_dir, int socket);

// A file in its work folder for CRIU's own standard output and error, and null for its input: what
// it says before it has a log. CriuSession looks there for why it has failed.
struct CriuOutput {
  UniqueFd input;
  UniqueFd said;
};
Result<CriuOutput> OpenCriuOutput(const std::string& work_dir);
// At most so much of it as an error has room for; empty: nothing.
std::string WhatCriuSaid(const std::string& work_dir);

// For a CRIU of the bundle (packaging/criu) that runs as root, as we do: what its launcher does,
// done without it, which is one exec less. For other users the launcher hands capabilities on.
void SkipLauncher(process::LaunchSpec& spec);

// Ends it, or what it has left, with its whole group: what it had started to find out what this
// kernel can do would wait for it for ever, and hold its socket open.
void EndCriu(process::Process& criu);

}  // namespace modal::snapshot

// The system calls that a gateway may make once it serves: those of its loop, of sockets that it
// has or that connect over TCP (or ask a name server), and of memory that is never executable. Any
// other call ends it with SIGSYS, but for a few questions that a C library asks, which are refused
// (EPERM). There is none to run, trace or signal a process, to open a file, or to gain a right.
#pragma once

#include "agent/base/result.h"
#include "agent/process/seccomp_filter.h"

namespace modal {

// What a gateway may make beside TCP sockets.
struct GatewayReach {
  bool unix_sockets = false;  // streams
  bool datagrams = false;     // UDP, to ask name servers
};

// For the process that calls it: the filter knows its pid.
Result<process::SeccompFilter> GatewayFilter(const GatewayReach& reach);

// Puts this process behind the filter, all threads of it, and there is no way back. Nobody of our
// user can trace us or read our memory from then on.
Result<void> SealGateway(const GatewayReach& reach);

}  // namespace modal

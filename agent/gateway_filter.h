// The system calls that a gateway may make once it serves: those of its loop, of sockets that it
// has or that connect over TCP, and of memory that is never executable. Any other call ends it with
// SIGSYS. There is none to run, trace or signal a process, to open a file, or to gain a right.
#pragma once

#include "agent/base/result.h"
#include "agent/process/seccomp_filter.h"

namespace modal {

// For the process that calls it: the filter knows its pid.
// `unix_sockets`: it may connect to these as well as over TCP.
Result<process::SeccompFilter> GatewayFilter(bool unix_sockets);

// Puts this process behind the filter, all threads of it, and there is no way back. Nobody of our
// user can trace us or read our memory from then on.
Result<void> SealGateway(bool unix_sockets);

}  // namespace modal

// Linux capabilities (capabilities(7)) as 64-bit sets: bit n is capability n.
//
// Raw system calls, each for the calling thread alone: glibc has no wrappers, and libcap would be a
// library for two of them. DropAllCapabilities() therefore comes before the first thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace modal::process {

// Every capability that we hold, whichever they are.
inline constexpr uint64_t kAllCapabilities = ~uint64_t{0};

struct CapabilitySets {
  uint64_t effective = 0;
  uint64_t permitted = 0;
  uint64_t inheritable = 0;
};

// "CAP_CHOWN" for 0, "CAP_63" for what has no name yet.
std::string CapabilityName(int number);
// 0 for "CAP_CHOWN", "chown" and "Chown".
std::optional<int> CapabilityNumber(std::string_view name);

// "CAP_NET_BIND_SERVICE,chown", "all" (kAllCapabilities) or "none".
Result<uint64_t> ParseCapabilities(std::string_view list);
// "CAP_CHOWN,CAP_KILL", "none" for the empty set.
std::string CapabilitiesToString(uint64_t set);

CapabilitySets CurrentCapabilities();
Result<void> SetCapabilities(const CapabilitySets& sets);
// What a program that runs as root could get at most.
uint64_t BoundingSet();
// What a program's file gives to who runs it (setcap(8)); none if that cannot be read.
uint64_t FileCapabilities(const std::string& path);

// Gives up everything in this thread: effective, permitted, inheritable, ambient, and the bounding
// set where that is permitted (CAP_SETPCAP; without it no_new_privs has the same effect).
Result<void> DropAllCapabilities();

}  // namespace modal::process

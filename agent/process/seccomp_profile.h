// A seccomp profile as its file says it, checked, and cut down to what applies here. Knows JSON and
// names, and nothing of BPF: seccomp_filter turns it into a program.
#pragma once

#include <seccomp.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace modal::process {

struct SeccompRule {
  std::vector<std::string> names;
  uint32_t action = 0;                   // SCMP_ACT_...
  std::vector<scmp_arg_cmp> conditions;  // all must hold; none: always
};

struct SeccompProfile {
  uint32_t default_action = 0;
  std::vector<uint32_t> architectures;  // SCMP_ARCH_..., beside the native one
  std::vector<SeccompRule> rules;
  // Every name in the file, also those of rules that do not apply here: what its author knew of.
  std::vector<std::string> known_names;
  unsigned flags = 0;  // SECCOMP_FILTER_FLAG_...
};

// What the conditions of a profile (includes, excludes) are held against.
struct SeccompSurroundings {
  uint64_t capabilities = 0;
  unsigned kernel_major = 0;
  unsigned kernel_minor = 0;
};

// `name` stands in errors: "profile.json: syscalls[3].action: ...".
Result<SeccompProfile> ReadSeccompProfile(std::string_view json, const std::string& name,
                                          const SeccompSurroundings& surroundings);

}  // namespace modal::process

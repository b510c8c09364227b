// A seccomp program: built ahead of time through libseccomp, installed by one seccomp(2).
//
// Profiles are files in the JSON format of Docker and the OCI runtime specification
// (linux.seccomp: defaultAction, architectures/archMap, syscalls with names, action, args,
// errnoRet, includes/excludes by capability, architecture and kernel). "default" is the profile
// built into the agent, "unconfined" is none.
//
// As in runc, names that libseccomp does not know are skipped, and where a profile's default is to
// refuse, system calls that are newer than all it names fail with ENOSYS, so that a C library
// falls back on older ones. Keys that are not part of the format are refused: a misspelt "args"
// would widen a rule.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/result.h"

namespace modal::process {

class SeccompFilter {
 public:
  // From the text of a profile; `name` stands in errors ("profile.json: syscalls[3].action: ...").
  // `capabilities` is what the process will hold: includes.caps and excludes.caps look at it.
  static Result<SeccompFilter> FromProfile(std::string_view json, const std::string& name,
                                           uint64_t capabilities);
  // Allows exactly these system calls (names that this architecture lacks are skipped); any other
  // ends the process with SIGSYS, or fails with EPERM if `deny_with_errno`.
  static Result<SeccompFilter> AllowOnly(const std::vector<std::string>& names,
                                         bool deny_with_errno);
  // The same, with conditions: a call is allowed if all its `matches` hold; several entries of one
  // name are alternatives.
  struct AllowedCall {
    struct Match {
      unsigned argument;  // (argument & mask) == value
      uint64_t mask;
      uint64_t value;
    };
    std::string name;
    std::vector<Match> matches = {};
  };
  // `refused` are denied with EPERM whatever becomes of the others.
  static Result<SeccompFilter> AllowOnlyMatching(const std::vector<AllowedCall>& calls,
                                                 bool deny_with_errno,
                                                 const std::vector<AllowedCall>& refused = {});
  // The default profile's text, for `FromProfile` and for people.
  static std::string_view DefaultProfile();

  // For seccomp(SECCOMP_SET_MODE_FILTER, flags, &program). Valid as long as this object is.
  sock_fprog program() const {
    return {static_cast<unsigned short>(code_.size()), const_cast<sock_filter*>(code_.data())};
  }
  unsigned flags() const { return flags_; }
  // Installs it in this process, all threads of it, for good (needs no_new_privs or CAP_SYS_ADMIN).
  Result<void> Install() const;

 private:
  SeccompFilter(std::vector<sock_filter> code, unsigned flags)
      : code_(std::move(code)), flags_(flags) {}
  std::vector<sock_filter> code_;
  unsigned flags_;
};

}  // namespace modal::process

#include "agent/process/seccomp_filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>

#include "agent/base/exit_status.h"
#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"
#include "agent/process/seccomp_profile.h"

namespace modal::process {
namespace {

constexpr uint32_t kX32Bit = 0x40000000;    // __X32_SYSCALL_BIT
constexpr size_t kMostInstructions = 4096;  // BPF_MAXINSNS

struct ReleaseContext {
  void operator()(void* context) const { ::seccomp_release(context); }
};
using Context = std::unique_ptr<void, ReleaseContext>;

Error LibraryError(std::string_view what, int negative_errno) {
  return Error::FromErrno(what, -negative_errno);
}

Result<Context> NewContext(uint32_t default_action) {
  Context context(::seccomp_init(default_action));
  if (!context) return Error("seccomp_init failed");
  // A call through the interface of another architecture (x32, i386) ends the process, too: the
  // library's default ends the thread that makes it, and leaves the others alone with its locks.
  if (const int failed =
          ::seccomp_attr_set(context.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
      failed != 0) {
    return LibraryError("set the action for other architectures", failed);
  }
  return context;
}

// libseccomp writes to a descriptor only.
Result<std::vector<sock_filter>> Export(const Context& context) {
  const UniqueFd file(::memfd_create("seccomp", MFD_CLOEXEC));
  if (!file) return Error::FromErrno("memfd_create", errno);
  if (const int failed = ::seccomp_export_bpf(context.get(), file.get()); failed != 0) {
    return LibraryError("make the seccomp program", failed);
  }
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return Error::FromErrno("fstat", errno);
  std::vector<sock_filter> code(static_cast<size_t>(status.st_size) / sizeof(sock_filter));
  const size_t size = code.size() * sizeof(sock_filter);
  if (::pread(file.get(), code.data(), size, 0) != static_cast<ssize_t>(size)) {
    return Error::FromErrno("read the seccomp program", errno);
  }
  return code;
}

// One rule of the library's for one of ours.
Result<void> AddRule(const Context& context, uint32_t action, int number, const std::string& name,
                     const std::vector<scmp_arg_cmp>& conditions) {
  const int failed = ::seccomp_rule_add_array(
      context.get(), action, number, static_cast<unsigned>(conditions.size()), conditions.data());
  // Twice the same is no harm. EDOM: not on any of the architectures.
  if (failed == 0 || failed == -EEXIST || failed == -EDOM) return {};
  return LibraryError("add the rule for " + name, failed);
}

bool HasRepeatedArgument(const std::vector<scmp_arg_cmp>& conditions) {
  for (size_t i = 0; i < conditions.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (conditions[i].arg == conditions[j].arg) return true;
    }
  }
  return false;
}

Result<void> AddRules(const Context& context, const SeccompRule& rule) {
  for (const std::string& name : rule.names) {
    const int number = ::seccomp_syscall_resolve_name(name.c_str());
    if (number == __NR_SCMP_ERROR) continue;  // newer than the library, or of another machine
    if (!HasRepeatedArgument(rule.conditions)) {
      if (auto done = AddRule(context, rule.action, number, name, rule.conditions); !done) {
        return done;
      }
      continue;
    }
    // The library takes each argument once. As in runc, conditions on the same argument are then
    // alternatives: "0 or 8".
    for (const scmp_arg_cmp& condition : rule.conditions) {
      if (auto done = AddRule(context, rule.action, number, name, {condition}); !done) return done;
    }
  }
  return {};
}

bool Permits(uint32_t action) {
  return action == SCMP_ACT_ALLOW || action == SCMP_ACT_LOG ||
         (action & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_TRACE;
}

// The highest number of a system call that the profile's author named.
uint32_t NewestKnown(const SeccompProfile& profile, uint32_t architecture) {
  int newest = 0;
  for (const std::string& name : profile.known_names) {
    const int number = ::seccomp_syscall_resolve_name_arch(architecture, name.c_str());
    if (number > newest && (static_cast<uint32_t>(number) & kX32Bit) == 0) newest = number;
  }
  return static_cast<uint32_t>(newest);
}

// Goes in front of the program: on this architecture, what is newer than `newest` is ENOSYS.
std::vector<sock_filter> UnknownIsEnosys(uint32_t architecture, uint32_t newest) {
  constexpr uint32_t kNumber = offsetof(seccomp_data, nr);
  constexpr uint32_t kArchitecture = offsetof(seccomp_data, arch);
  return {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kArchitecture),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, architecture, 0, 4),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kNumber),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, kX32Bit, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, newest, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
  };
}

std::vector<sock_filter> NewerThan(const SeccompProfile& profile) {
  std::vector<sock_filter> code;
  if (Permits(profile.default_action) || profile.default_action == SCMP_ACT_ERRNO(ENOSYS)) {
    return code;
  }
  std::vector<uint32_t> architectures = profile.architectures;
  architectures.push_back(::seccomp_arch_native());
  std::sort(architectures.begin(), architectures.end());
  architectures.erase(std::unique(architectures.begin(), architectures.end()), architectures.end());
  for (const uint32_t architecture : architectures) {
    if (architecture == SCMP_ARCH_X32) continue;  // shares its number with x86-64
    const auto part = UnknownIsEnosys(architecture, NewestKnown(profile, architecture));
    code.insert(code.end(), part.begin(), part.end());
  }
  return code;
}

Result<std::vector<sock_filter>> Compile(const SeccompProfile& profile) {
  Result<Context> context = NewContext(profile.default_action);
  if (!context) return context.error();
  // A binary search instead of a walk through all rules, which is hundreds of instructions long.
  ::seccomp_attr_set(context->get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);
  for (const uint32_t architecture : profile.architectures) {
    const int failed = ::seccomp_arch_add(context->get(), architecture);
    // EEXIST: the native one. EDOM: of the other byte order, so it cannot occur here.
    if (failed != 0 && failed != -EEXIST && failed != -EDOM) {
      return LibraryError("add an architecture", failed);
    }
  }
  for (const SeccompRule& rule : profile.rules) {
    // The library refuses a rule that does what the default does.
    if (rule.action == profile.default_action) continue;
    if (auto done = AddRules(*context, rule); !done) return done.error();
  }
  const Result<std::vector<sock_filter>> program = Export(*context);
  if (!program) return program.error();
  std::vector<sock_filter> code = NewerThan(profile);
  code.insert(code.end(), program->begin(), program->end());
  if (code.size() > kMostInstructions) {
    return Error(Concat("makes a program of ", code.size(), " instructions; the kernel takes ",
                        kMostInstructions));
  }
  return code;
}

SeccompSurroundings Surroundings(uint64_t capabilities) {
  SeccompSurroundings surroundings{capabilities, 0, 0};
  utsname kernel{};
  ::uname(&kernel);
  const char* const end = kernel.release + sizeof(kernel.release);
  const auto major = std::from_chars(kernel.release, end, surroundings.kernel_major);
  if (major.ec == std::errc() && *major.ptr == '.') {
    std::from_chars(major.ptr + 1, end, surroundings.kernel_minor);
  }
  return surroundings;
}

}  // namespace

Result<SeccompFilter> SeccompFilter::FromProfile(std::string_view json, const std::string& name,
                                                 uint64_t capabilities) {
  const Result<SeccompProfile> profile = ReadSeccompProfile(json, name, Surroundings(capabilities));
  if (!profile) return Error(profile.error()).WithExitCode(kExitAgentError);
  Result<std::vector<sock_filter>> code = Compile(*profile);
  if (!code) return std::move(code.error()).While(name).WithExitCode(kExitAgentError);
  return SeccompFilter(*std::move(code), profile->flags);
}

Result<SeccompFilter> SeccompFilter::AllowOnly(const std::vector<std::string>& names,
                                               bool deny_with_errno) {
  std::vector<AllowedCall> calls;
  calls.reserve(names.size());
  for (const std::string& name : names) calls.push_back({name});
  return AllowOnlyMatching(calls, deny_with_errno);
}

Result<SeccompFilter> SeccompFilter::AllowOnlyMatching(const std::vector<AllowedCall>& calls,
                                                       bool deny_with_errno,
                                                       const std::vector<AllowedCall>& refused) {
  const uint32_t denied = SCMP_ACT_ERRNO(EPERM);
  const Result<Context> context = NewContext(deny_with_errno ? denied : SCMP_ACT_KILL_PROCESS);
  if (!context) return context.error();
  const auto add = [&context](const AllowedCall& call, uint32_t action) {
    std::vector<scmp_arg_cmp> conditions;
    for (const AllowedCall::Match& match : call.matches) {
      conditions.push_back({match.argument, SCMP_CMP_MASKED_EQ, match.mask, match.value});
    }
    return AddRules(*context, {{call.name}, action, conditions});
  };
  for (const AllowedCall& call : calls) {
    if (auto done = add(call, SCMP_ACT_ALLOW); !done) return done.error();
  }
  if (!deny_with_errno) {
    for (const AllowedCall& call : refused) {
      if (auto done = add(call, denied); !done) return done.error();
    }
  }
  Result<std::vector<sock_filter>> code = Export(*context);
  if (!code) return code.error();
  return SeccompFilter(*std::move(code), 0);
}

Result<void> SeccompFilter::Install() const {
  const sock_fprog filter = program();
  const long failed =
      ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags_ | SECCOMP_FILTER_FLAG_TSYNC, &filter);
  if (failed == 0) return {};
  if (failed > 0)
    return Error("install the seccomp filter: another thread has a filter of its own");
  return Error::FromErrno("install the seccomp filter", errno);
}

}  // namespace modal::process

#include "agent/process/capabilities.h"

#include <endian.h>
#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <vector>

#include "agent/base/strings.h"

namespace modal::process {
namespace {

// In the kernel's order (include/uapi/linux/capability.h).
constexpr std::array<std::string_view, 41> kNames{"chown",
                                                  "dac_override",
                                                  "dac_read_search",
                                                  "fowner",
                                                  "fsetid",
                                                  "kill",
                                                  "setgid",
                                                  "setuid",
                                                  "setpcap",
                                                  "linux_immutable",
                                                  "net_bind_service",
                                                  "net_broadcast",
                                                  "net_admin",
                                                  "net_raw",
                                                  "ipc_lock",
                                                  "ipc_owner",
                                                  "sys_module",
                                                  "sys_rawio",
                                                  "sys_chroot",
                                                  "sys_ptrace",
                                                  "sys_pacct",
                                                  "sys_admin",
                                                  "sys_boot",
                                                  "sys_nice",
                                                  "sys_resource",
                                                  "sys_time",
                                                  "sys_tty_config",
                                                  "mknod",
                                                  "lease",
                                                  "audit_write",
                                                  "audit_control",
                                                  "setfcap",
                                                  "mac_override",
                                                  "mac_admin",
                                                  "syslog",
                                                  "wake_alarm",
                                                  "block_suspend",
                                                  "audit_read",
                                                  "perfmon",
                                                  "bpf",
                                                  "checkpoint_restore"};
static_assert(kNames[CAP_NET_BIND_SERVICE] == "net_bind_service");
static_assert(kNames[CAP_SYS_ADMIN] == "sys_admin");
static_assert(kNames[CAP_SYS_RESOURCE] == "sys_resource");
static_assert(kNames[CAP_CHECKPOINT_RESTORE] == "checkpoint_restore");

std::string Lower(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

std::string Upper(std::string_view text) {
  std::string upper(text);
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return upper;
}

Error UnknownCapability(std::string_view word) {
  std::vector<std::string> known{"all", "none"};
  for (const std::string_view name : kNames) {
    known.emplace_back(name);
    known.push_back("cap_" + std::string(name));
  }
  std::string message = Concat("unknown capability '", word, "'");
  if (const auto nearest = Nearest(Lower(word), known)) {
    const bool is_set = *nearest == "all" || *nearest == "none";
    message += Concat("; did you mean ", is_set ? *nearest : Upper(*nearest), "?");
  }
  return Error(std::move(message));
}

__user_cap_header_struct Header() { return {_LINUX_CAPABILITY_VERSION_3, 0}; }

uint32_t Low(uint64_t set) { return static_cast<uint32_t>(set); }
uint32_t High(uint64_t set) { return static_cast<uint32_t>(set >> 32); }
uint64_t Set64(uint32_t low, uint32_t high) { return low | uint64_t{high} << 32; }

}  // namespace

std::string CapabilityName(int number) {
  if (number >= 0 && static_cast<size_t>(number) < kNames.size()) {
    return "CAP_" + Upper(kNames[static_cast<size_t>(number)]);
  }
  return "CAP_" + std::to_string(number);
}

std::optional<int> CapabilityNumber(std::string_view name) {
  const std::string lower = Lower(name);
  std::string_view bare = lower;
  if (bare.starts_with("cap_")) bare.remove_prefix(4);
  const auto* const found = std::find(kNames.begin(), kNames.end(), bare);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<int>(found - kNames.begin());
}

Result<uint64_t> ParseCapabilities(std::string_view list) {
  const std::string whole = Lower(Trim(list));
  if (whole == "all") return kAllCapabilities;
  if (whole == "none") return uint64_t{0};
  if (whole.empty()) return Error("no capability is named; to keep none, write 'none'");
  uint64_t set = 0;
  for (const std::string& piece : Split(list, ',')) {
    const std::string_view word = Trim(piece);
    const std::optional<int> number = CapabilityNumber(word);
    if (!number) {
      const std::string lower = Lower(word);
      if (lower == "all" || lower == "none") {
        return Error(
            Concat("'", lower, "' stands alone; no other capability can be named with it"));
      }
      return UnknownCapability(word);
    }
    set |= uint64_t{1} << *number;
  }
  return set;
}

std::string CapabilitiesToString(uint64_t set) {
  if (set == 0) return "none";
  if (set == kAllCapabilities) return "all";
  std::vector<std::string> names;
  for (int number = 0; number < 64; ++number) {
    if (set >> number & 1) names.push_back(CapabilityName(number));
  }
  return Join(names, ",");
}

CapabilitySets CurrentCapabilities() {
  __user_cap_header_struct header = Header();
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data{};
  MODAL_CHECK(::syscall(SYS_capget, &header, data.data()) == 0);
  return {Set64(data[0].effective, data[1].effective), Set64(data[0].permitted, data[1].permitted),
          Set64(data[0].inheritable, data[1].inheritable)};
}

Result<void> SetCapabilities(const CapabilitySets& sets) {
  __user_cap_header_struct header = Header();
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data{};
  data[0] = {Low(sets.effective), Low(sets.permitted), Low(sets.inheritable)};
  data[1] = {High(sets.effective), High(sets.permitted), High(sets.inheritable)};
  if (::syscall(SYS_capset, &header, data.data()) == 0) return {};
  return Error::FromErrno("capset", errno);
}

uint64_t BoundingSet() {
  uint64_t set = 0;
  for (int number = 0; number < 64; ++number) {
    const int held = ::prctl(PR_CAPBSET_READ, number, 0, 0, 0);
    if (held < 0) break;  // EINVAL: past the last one that this kernel has
    if (held == 1) set |= uint64_t{1} << number;
  }
  return set;
}

uint64_t FileCapabilities(const std::string& path) {
  vfs_ns_cap_data data{};  // little-endian; older revisions are the first part of it
  const ssize_t size = ::getxattr(path.c_str(), "security.capability", &data, sizeof data);
  const uint32_t revision = le32toh(data.magic_etc) & VFS_CAP_REVISION_MASK;
  const bool is_known = revision == VFS_CAP_REVISION_2 || revision == VFS_CAP_REVISION_3;
  if (size < static_cast<ssize_t>(XATTR_CAPS_SZ_2) || !is_known) return 0;
  return Set64(le32toh(data.data[0].permitted), le32toh(data.data[1].permitted));
}

Result<void> DropAllCapabilities() {
  for (int number = 0; number < 64; ++number) {
    // EINVAL: past the last one. EPERM: no CAP_SETPCAP, so no other would go either.
    if (::prctl(PR_CAPBSET_DROP, number, 0, 0, 0) != 0) break;
  }
  ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  return SetCapabilities({});
}

}  // namespace modal::process

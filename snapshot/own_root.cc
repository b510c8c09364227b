#include "snapshot/own_root.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include <cerrno>
#include <filesystem>

namespace modal::snapshot {
namespace {

// Nothing: errno says why.
std::optional<uint64_t> DeviceOf(const std::string& path) {
  struct statx facts {};
  constexpr int kFlags = AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC;
  if (::statx(AT_FDCWD, path.c_str(), kFlags, STATX_TYPE, &facts) != 0) return std::nullopt;
  return makedev(facts.stx_dev_major, facts.stx_dev_minor);
}

}  // namespace

bool EndsWithContainer(const FolderPlace& place) {
  return place.root_file_system == OVERLAYFS_SUPER_MAGIC && place.device == place.root_device;
}

std::optional<FolderPlace> LookAtPlace(const std::string& folder) {
  struct statfs root_system {};
  if (::statfs("/", &root_system) != 0) return std::nullopt;
  const std::optional<uint64_t> root = DeviceOf("/");
  std::optional<uint64_t> own = DeviceOf(folder);
  if (!own && errno == ENOENT) own = DeviceOf(std::filesystem::path(folder).parent_path());
  if (!root || !own) return std::nullopt;
  return FolderPlace{*own, *root, static_cast<int64_t>(root_system.f_type)};
}

}  // namespace modal::snapshot

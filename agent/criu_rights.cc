#include "agent/criu_rights.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <string_view>
#include <vector>

#include "agent/base/strings.h"
#include "agent/process/capabilities.h"

namespace modal {
namespace {

constexpr uint64_t Bit(int capability) { return uint64_t{1} << capability; }
constexpr uint64_t kNeeded = Bit(CAP_CHECKPOINT_RESTORE) | Bit(CAP_SETPCAP);
// Of another user's CRIU: what is the agent's, the snapshot folder above all, it reaches by this.
constexpr uint64_t kNeededByAnother = kNeeded | Bit(CAP_DAC_OVERRIDE);

// What it will have once it runs.
uint64_t WhatItGets(const CriuRights& rights) {
  uint64_t held = rights.permitted;
  const bool file_gives = rights.file_counts && !rights.no_new_privileges && !rights.changes_user;
  // A file whose capabilities the container may not have all is not even started.
  if (file_gives && (rights.of_file & ~rights.bounding) == 0) held |= rights.of_file;
  // With it the kernel asks for none of the others.
  if (held & Bit(CAP_SYS_ADMIN)) held |= Bit(CAP_CHECKPOINT_RESTORE);
  return held;
}

// "--cap-add=CHECKPOINT_RESTORE --cap-add=SETPCAP".
std::string AddOptions(uint64_t capabilities) {
  constexpr std::string_view kPrefix = "CAP_";
  std::vector<std::string> options;
  for (const std::string& name : Split(process::CapabilitiesToString(capabilities), ',')) {
    options.push_back("--cap-add=" + name.substr(kPrefix.size()));
  }
  return Join(options, " ");
}

}  // namespace

CriuRights LookAtCriuRights(const std::string& criu, bool changes_user) {
  CriuRights rights;
  rights.criu = criu;
  rights.uid = ::geteuid();
  rights.permitted = process::CurrentCapabilities().permitted;
  rights.bounding = process::BoundingSet();
  rights.of_file = process::FileCapabilities(criu);
  struct statvfs system {};
  rights.file_counts = ::statvfs(criu.c_str(), &system) != 0 || (system.f_flag & ST_NOSUID) == 0;
  rights.no_new_privileges = ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
  rights.has_filter = ::prctl(PR_GET_SECCOMP, 0, 0, 0, 0) > 0;
  rights.changes_user = changes_user;
  return rights;
}

std::string WhatCriuLacks(const CriuRights& rights) {
  const uint64_t needed = rights.changes_user ? kNeededByAnother : kNeeded;
  const uint64_t missing = needed & ~WhatItGets(rights);
  if (missing == 0) return "";
  const std::string lacks = Concat("CRIU lacks ", process::CapabilitiesToString(missing), ": ");
  // Who has them ambient, as podman gives them to a user, has them permitted.
  const uint64_t outside = missing & ~rights.bounding;
  if (outside != 0) {
    // Podman gives a user those that were added, and not those that are there anyway.
    const uint64_t added = rights.uid == 0 ? outside : missing;
    const char* filter = rights.has_filter ? " --security-opt=seccomp=unconfined" : "";
    return Concat(lacks, "start the container with ", AddOptions(added), filter);
  }
  if (rights.uid == 0) return lacks + "the agent was started without them";
  // Docker gives capabilities to root alone; what a file permits comes from the bounding set.
  const std::string setcap =
      Concat("`setcap cap_checkpoint_restore,cap_setpcap+ep ", rights.criu, "` in the image");
  if (rights.no_new_privileges) {
    return Concat(lacks, "no-new-privileges keeps a user other than root from getting them; run ",
                  "without it and with ", setcap, ", or as root");
  }
  if ((missing & ~rights.of_file) == 0) {
    return Concat(lacks, rights.criu, " has them, but lies on a file system that is mounted ",
                  "nosuid, where that does not count; copy it into the image, or run as root");
  }
  return Concat(lacks, "users other than root get them by ", setcap, "; or run as root");
}

}  // namespace modal

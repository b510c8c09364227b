// The key of a snapshot: everything that must be the same for yesterday's memory to be today's.
//
// Command, working folder, user and groups, a salted hash of each environment value, capabilities,
// kernel release, CPU features, builds of CRIU and agent, and the identity of the image (below).
// New code or rotated configuration thus never meets old memory: it has another key.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace modal::snapshot {

// What names the image: the first that there is.
//   --snapshot-key TEXT           "key:TEXT"
//   kStampFile, made when the     "stamp:" and its contents (one line)
//   image was built
//   a fingerprint of the files    "fingerprint:" and 64 hex digits
//   that the program is made of
struct ImageIdentity {
  std::string text;
  uint64_t files = 0;  // looked at, for a fingerprint
  uint64_t hashed_bytes = 0;
};

inline constexpr const char* kStampFile = "/etc/modal-agent/image-stamp";

// What a fingerprint is made of.
struct FingerprintSpec {
  std::string executable;              // path of COMMAND's program
  std::vector<std::string> arguments;  // words of COMMAND that may name files
  std::string workdir;
  std::vector<std::string> hooks;  // command lines and files of the startup hooks
  std::string root = "/";          // of the file system (tests have another)
  // So many files at most, else there is no fingerprint.
  uint64_t max_files = 500'000;
  // Contents of the program's own files (workdir, arguments) are hashed up to this much; what is
  // beyond is known by its size and time only.
  uint64_t max_hashed = uint64_t{32} << 20;
};

// Looks at the executable (links resolved, its interpreter after "#!" too), the files that words of
// the command or of hooks name, the working folder with all below it, and the package folders that
// belong to the executable: Python's site-packages and dist-packages (of a venv, too), node_modules
// above and below the working folder and the global one, .jar files, gems, PHP's. Names, sizes,
// modes and times of change count; and contents where an image builder has set all times to the
// same (before 1981: reproducible builds), and for the program's own files.
// A folder on another file system counts when it is (or holds) the working folder; pseudo file
// systems (/proc, /sys, /dev) never do. A working folder of "/" is looked at without what is below.
// An Error says why there can be no fingerprint; then there is no identity.
Result<ImageIdentity> Fingerprint(const FingerprintSpec& spec);

// By the order above; `explicit_key` empty: not given.
Result<ImageIdentity> IdentifyImage(const std::string& explicit_key, const std::string& stamp_file,
                                    const FingerprintSpec& spec);

struct KeyInputs {
  ImageIdentity image;
  std::vector<std::string> command;
  std::vector<std::string> hooks;  // of the start
  std::string workdir;
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
  uint64_t capabilities = 0;
  bool no_new_privileges = false;
  std::vector<std::string> limits;  // "nofile=1024:4096"
  uint16_t port = 0;
  std::vector<std::string> environment;  // "NAME=value"
  std::vector<std::string> ignored;      // names, "PREFIX*" too: --snapshot-env-ignore
  std::string kernel;                    // uname -r
  std::string cpu;                       // CpuFeatures()
  std::string criu_build;
  std::string agent_version;
};

struct Key {
  std::string text;  // 32 hex digits
  // Name and salted hash (16 hex digits) of each variable that counts, by name: what `inspect` can
  // tell of two keys that differ.
  std::vector<std::pair<std::string, std::string>> variables;
};

// Pure. HOSTNAME, what Kubernetes injects for services (NAME_SERVICE_HOST, NAME_SERVICE_PORT…,
// NAME_PORT=tcp://… and NAME_PORT_n_TCP…) and `ignored` do not count.
Key MakeKey(const KeyInputs& inputs);
// Whether a variable is left out of the key.
bool IsIgnored(std::string_view name, std::string_view value,
               const std::vector<std::string>& ignored);

// What a program may have found out about the CPU and built itself upon: vendor, family, model and
// feature flags of /proc/cpuinfo's first processor, in a fixed order. (A restore on a CPU that
// lacks an instruction ends in SIGILL.)
Result<std::string> CpuFeatures(std::string_view cpuinfo);

}  // namespace modal::snapshot

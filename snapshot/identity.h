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
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "snapshot/fingerprint.h"

namespace modal::snapshot {

// What names the image: the first that there is.
//   --snapshot-key TEXT           "key:TEXT"; whoever gives it answers for all files, mounted too
//   kStampFile, made when the     "stamp:" and its contents (one line); what is mounted over the
//   image was built               program's files, if anything is: "+mounted:" and its fingerprint
//   a fingerprint of the files    "fingerprint:" and 32 hex digits (fingerprint.h)
//   that the program is made of
struct ImageIdentity {
  std::string text;
  uint64_t files = 0;  // looked at, for a fingerprint
  uint64_t hashed_bytes = 0;
};

inline constexpr const char* kStampFile = "/etc/modal-agent/image-stamp";
inline constexpr size_t kLongestName = 1024;  // of a key that was given, and of a stamp

// By the order above; `explicit_key` empty: not given. An Error: there is no identity, and why. A
// stamp that is there and cannot be used is one, too: whoever made it relies on it.
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
  std::vector<std::string> environment;  // of the workload: "NAME=value"
  std::vector<std::string> ignored;      // --snapshot-env-ignore
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

// Pure. Groups and limits count whatever their order; so do variables (counted_variables.h), but
// for those of the same name. Values are hashed with a salt made of image identity and name: equal
// containers agree without a shared secret, and equal values of two images or variables do not
// show. It is no protection for a value that can be guessed; the memory beside it holds it in
// clear.
Key MakeKey(const KeyInputs& inputs);

// What a program may have found out about the CPU and built itself upon: vendor, family, model and
// feature flags of /proc/cpuinfo's first processor (x86 and ARM), in a fixed order. (A restore on a
// CPU that lacks an instruction ends in SIGILL.) An Error: the text does not tell.
Result<std::string> CpuFeatures(std::string_view cpuinfo);

}  // namespace modal::snapshot

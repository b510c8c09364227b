// What a snapshot says about itself: manifest.json, written last, before the snapshot is published.
//
// Pure: text to Manifest and back. Whatever a damaged or foreign file holds is an Error of one line
// that names the field; no name of a file in it leads out of the snapshot's folder (IsFileName()).
// Its own last field is a checksum of its text.
// Fields that are not known are passed over. Texts are what the dumped program called itself: they
// may hold anything, and whoever shows them on a terminal escapes them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "snapshot/memory_kinds.h"

namespace modal::snapshot {

// Of this layout of folder and manifest. A snapshot of another format is left alone.
inline constexpr uint32_t kFormat = 1;

// A manifest is a few hundred bytes for each process and each file; a larger one is none.
inline constexpr size_t kLargestManifest = size_t{4} << 20;

// Whether `text` is a key: 32 lower-case hex digits.
bool IsKey(std::string_view text);

// Whether `name` may be a file's of a snapshot: "NAME" or "FOLDER/NAME", UTF-8 without control
// characters, no "." or "..", and not manifest.json itself.
bool IsFileName(std::string_view name);

struct ImageFile {
  std::string name;      // within the snapshot's folder: "images/pages-1.img"
  uint64_t size = 0;     // bytes
  std::string checksum;  // XXH3, 128 bits, 32 hex digits
};

struct DumpedProcess {
  pid_t pid = 0;
  pid_t parent = 0;
  std::string name;        // comm
  uint64_t memory = 0;     // resident bytes
  uint64_t anonymous = 0;  // of these: what travels in the images
  uint32_t threads = 0;
  std::vector<std::string> stack;  // wait channel or syscall of each thread, where the kernel tells
  std::string executable;          // of what it runs, in the container
  std::vector<std::string> command;  // its words, or its title; the first of many
  MemoryKinds kinds;                 // all 0: the kernel did not tell
};

// One of the tree's standard descriptors, held outside of it too.
struct DumpedDescriptor {
  int fd = 0;      // 0, 1 or 2
  std::string id;  // "pipe:[1234]"
};

// Milliseconds of the boot that was dumped, and of the dump; -1: not measured.
struct DumpTimes {
  int64_t cold_ms = -1;    // from the agent's start until it was ready: what a restore has to beat
  int64_t hooks_ms = -1;   // startup hooks
  int64_t frozen_ms = -1;  // how long the tree stood still
  int64_t dump_ms = -1;    // from asking for it until the tree ran again
};

struct Manifest {
  uint32_t format = kFormat;
  std::string key;  // 32 hex digits (identity.h)
  int64_t created_unix_ms = 0;

  std::string agent_version;
  std::string criu_version;
  std::string criu_build;
  std::string kernel;  // uname -r

  std::string image_identity;  // "stamp:…", "fingerprint:…", "key:…"
  std::vector<std::string> command;
  std::vector<std::string> variables;  // names of the environment that is part of the key

  pid_t root = 0;             // of the tree
  pid_t workload = 0;         // the server\'s own process; 0: a hook has started it
  uint64_t capabilities = 0;  // bit mask the tree was pinned to
  uid_t uid = 0;
  gid_t gid = 0;
  std::string listening;   // "0.0.0.0:8000"
  uint64_t uptime_ms = 0;  // CLOCK_BOOTTIME at the dump: a restore needs at least this
  std::vector<DumpedDescriptor> descriptors;
  std::vector<std::string> sockets;  // where the tree had made unix sockets: absolute paths
  // Whether making the tree again, all but running, changes files of the container, or needs some
  // that travel along, or that nobody knows: then it waits for the key.
  bool touches_files = true;
  std::vector<DumpedProcess> processes;
  DumpTimes times;

  std::vector<ImageFile> files;  // everything in the folder but the manifest itself
  uint64_t carried_files = 0;    // changed files of the container's root that travel along
  uint64_t carried_bytes = 0;

  uint64_t TotalBytes() const;  // of all files
};

std::string ToJson(const Manifest& manifest);
Result<Manifest> ParseManifest(std::string_view text);
// The format alone, which every one has: to tell another format from damage.
Result<uint32_t> ParseFormat(std::string_view text);

}  // namespace modal::snapshot

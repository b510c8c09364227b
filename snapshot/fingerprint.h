// What names an image that nobody has named: a hash over the files that a program is made of.
//
// Equal containers must agree: the same image on another host, in another container, unpacked by
// another tool. Hence only what travels in an image's layers counts: names, sizes, modes, targets
// of links, times of change in whole seconds. What differs between hosts does not: inode numbers,
// ctimes, sizes and times of folders, owners (user namespaces shift them), fractions of a second.
//
//   how closely       whose                                           by
//   contents          the program's own files                         contents
//   times             packages, the rest of the image                 size and time of change
//
// The program's own files are: the executable, the interpreters of "#!" lines, every file that a
// word of the command, of a hook, of a shell text or shell script among them, or the whole of a
// variable's value names; the working folder, folders that words name, the folder of a script, and
// PYTHONPATH and its like, with all below them. Packages are: Python's site-packages and
// dist-packages (of the executable's prefix, its venv, conda, pyenv, the user), node_modules above
// and below the working folder and the global ones, gems, PHP's and Perl's folders; vendor and
// node_modules wherever they are met. The rest of the image is all that the distribution's package
// manager does not own: /etc (by contents), /usr/local, /opt, /srv, /root, /home, /var/www, folders
// at the top that are not of the system; the package manager's database stands for what it owns,
// the names in /nix/store for that. A rest of more than kMaxRest files is left out as a whole.
//
// A time of change says nothing if it is before 2001 (reproducible builds, npm, Bazel, Nix), or if
// it is the newest of all and more than a third of the files have it (SOURCE_DATE_EPOCH): then
// contents are hashed. Of files over 256 KiB that are beyond `max_hashed`, samples are hashed
// (first and last 64 KiB, which hold a program's build id and a jar's table of contents, and 14
// pages in between), and their time counts.
//
// Other mounts: volumes are not part of the image, but code and configuration may come by them.
//
//   the working folder, a script's     all, but for what programs leave behind while they run:
//   logs, folder, packages                   pid files, SQLite databases, .git, caches read-only,
//   wherever met            all, by contents (Kubernetes' ConfigMaps and Secrets: without
//                                      the ".." names that differ between pods); in the rest of the
//                                      image only if it holds at most kMaxMounted files
//   writable, at or below a folder     what looks like program text or configuration by its suffix,
//     that counts                      and what may be executed
//   writable, in the rest of the image nothing
//   a single file                      by contents, unless it is what programs leave behind
//   /proc, /sys, /dev                  nothing
//
// Never counted: __pycache__ (Python checks it against the sources), sockets, devices and FIFOs
// (never opened), /.dockerenv, what runtimes write for each container (/etc/hostname, hosts,
// resolv.conf, machine-id, mtab), our own configuration (what of it reaches the workload is in the
// key), Kubernetes' own short-lived tokens, and `left_out`. What cannot
// be read counts as such: equal containers cannot read it either.
//
// A container that is started a second time holds what its first run has written, and may have
// another fingerprint for it; so has an image that was built by running the program.
//
// Loops of links end: a folder is entered once. This hash is no defence against somebody who makes
// two images collide on purpose (it is XXH3): who writes the image writes the program.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/result.h"

namespace modal::snapshot {

inline constexpr uint64_t kMaxRest = 100'000;
inline constexpr uint64_t kMaxMounted = 2'000;

struct FingerprintSpec {
  std::string executable;              // COMMAND's program: a path, or a name for PATH
  std::vector<std::string> arguments;  // words of COMMAND, without the program
  std::string workdir;
  std::vector<std::string> hooks;  // command lines and files of the startup hooks
  // "NAME=value", without those that do not count (CountedVariables()): PATH, PYTHONPATH and their
  // like are followed.
  std::vector<std::string> environment;
  // Paths with all below them that are ours: --snapshot-dir, run folder, logs, the CRIU bundle.
  std::vector<std::string> left_out;
  std::string root = "/";  // of the file system (tests have another)
  // So many files at most (the rest of the image has its own limit), else there is no fingerprint.
  uint64_t max_files = 500'000;
  // So many bytes of the program's own files are hashed whole (eight times as many of packages).
  uint64_t max_hashed = uint64_t{32} << 20;
  // Only what lies on other mounts than the root: beside a stamp, which names the image alone.
  bool mounted_only = false;
  // A second thread helps where there are CPUs to spare (read_ahead.h); the digest is the same.
  bool reads_ahead = true;
};

struct FingerprintResult {
  std::string digest;  // 32 hex digits; empty: nothing was there (mounted_only)
  uint64_t files = 0;  // looked at
  uint64_t hashed_bytes = 0;
};

// Blocks; about 2 microseconds a file. An Error says why there can be no fingerprint.
Result<FingerprintResult> Fingerprint(const FingerprintSpec& spec);

}  // namespace modal::snapshot

// What the supervisor is told to do: the settings, parsed and checked. Filled from flags,
// environment and file by agent/config; the defaults stand there, in one table.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/process/launcher.h"
#include "lifecycle/data_plane.h"
#include "snapshot/pages_choice.h"

namespace modal::lifecycle {

enum class Restart { kNo, kOnFailure };

// Where to listen: "8001", "127.0.0.1:8001", "[::1]:8001".
struct ListenAddress {
  std::string address;  // numeric IPv4 or IPv6
  uint16_t port = 0;
};

// What --snapshot is for.
enum class SnapshotMode {
  kAuto,     // restore if there is a snapshot, else start cold and take one
  kCreate,   // take one, try its restore, and end: 0, or 122
  kRestore,  // restore if there is one, never take one
  kOff,
};

struct SnapshotOptions {
  std::string folder;  // empty: off
  SnapshotMode mode = SnapshotMode::kAuto;
  std::string key;                      // what names the image, if somebody says so
  std::vector<std::string> env_ignore;  // names of variables that do not count
  uint32_t warmup = 0;                  // requests before the dump
  snapshot::Pages pages = snapshot::Pages::kAuto;
  std::string criu;                     // path of the program; empty: the first that works

  bool on() const { return !folder.empty() && mode != SnapshotMode::kOff; }
  bool creates() const { return !folder.empty() && mode == SnapshotMode::kCreate; }
  bool operator==(const SnapshotOptions&) const = default;
};

struct Options {
  std::vector<std::string> command;  // empty: a hook starts the server, or we attach to one
  // Said in addition when the command is not found: it may have been meant for us.
  std::string not_found_hint;

  uint16_t port = 8000;
  std::optional<ListenAddress> admin;   // empty: off
  bool admin_is_default = true;         // nobody asked for it: a port that is taken is a warning
  std::optional<ListenAddress> listen;  // of the data plane; empty: off, clients reach the server
  Upstream upstream;                    // with `listen` only
  DataPlane data_plane;                 // with `listen` only
  std::string control;                  // path of the control socket; empty: the first that works

  std::vector<std::string> on_enter;    // startup hooks: command lines for /bin/sh -c
  std::vector<std::string> on_restore;  // run once the server is ready, be it started or restored
  std::vector<std::string> on_exit;     // exit handlers
  std::string hooks_dir;  // hooks.d: enter/ and exit/ hold executables; may be missing
  Milliseconds hook_timeout{};
  Milliseconds startup_timeout{};

  std::string health_path;  // empty: none
  Milliseconds health_interval{};
  Milliseconds health_timeout{};
  uint32_t health_threshold = 3;
  Restart restart = Restart::kNo;

  SnapshotOptions snapshots;

  Milliseconds drain_delay{};
  Milliseconds exit_grace_period{};
  Milliseconds stop_timeout{};
  std::optional<Milliseconds> stop_budget;
  int stop_signal = 15;                 // what the workload's group is sent to stop
  std::vector<int> success_exit_codes;  // taken as 0 after a requested stop ("143")

  // How hooks, workload and exit handlers run.
  std::vector<std::string> environment;        // complete: "NAME=value"
  std::vector<std::string> added_environment;  // of these, what --env and --env-file ask for
  std::string workdir;
  std::optional<process::Credentials> credentials;
  std::vector<process::ResourceLimit> limits;
  bool no_new_privileges = false;
  std::optional<uint64_t> capabilities;  // to keep; empty: all we have
  std::optional<process::SeccompFilter> seccomp;

  bool is_local_run =
      false;  // `modal-agent run`: not the container's process 1, as far as users see
};

}  // namespace modal::lifecycle

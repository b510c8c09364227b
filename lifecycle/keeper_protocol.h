// What the supervisor and the keeper say to each other: fixed-size messages on a SOCK_SEQPACKET
// pair, each launch with a memfd that holds its words. What the keeper says is untrusted: it runs
// as the workload's user.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/exit_status.h"
#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/process/launcher.h"

namespace modal::lifecycle {

inline constexpr const char* kKeeperArgv0 = "modal-agent-keeper";
inline constexpr int kKeeperChannelFd = 3;

// To the keeper.
struct KeeperRequest {
  enum class Kind : uint32_t {
    kLaunch,  // with descriptors (SCM_RIGHTS): the memfd of SealLaunch(), then `fd_count` others
    kLeave,   // nothing more will come: close the channel, and go on alone
  };
  static constexpr size_t kMostDescriptors = 3;

  Kind kind;
  uint32_t id;       // of the launch; comes back in the replies about it
  uint32_t is_main;  // 1: the workload itself; the keeper ends as it does
  uint32_t fd_count;
  std::array<int32_t, kMostDescriptors> theirs;  // what the others become in the child
};

// From the keeper.
struct KeeperReply {
  enum class Kind : uint32_t {
    kLaunched,  // `pid`
    kFailed,    // `exit_code` and `error`, as of process::Launcher
    kExited,    // `pid` has ended with `status`; of the workload itself only if it has left daemons
    kReaped,    // so many `orphans` so far
  };
  Kind kind;
  uint32_t id;
  int32_t pid;
  int32_t exit_code;
  int32_t status_code;
  int32_t status_signal;
  uint32_t orphans;
  char error[480];  // NUL-terminated
};

// The words of a launch: argv, environment and workdir, in a sealed memfd; and back.
struct LaunchWords {
  std::vector<std::string> argv;
  std::vector<std::string> environment;
  std::string workdir;
};
Result<UniqueFd> SealLaunch(const LaunchWords& words);
Result<LaunchWords> ReadLaunch(int fd);

// Sends one message with descriptors; false (and errno) if it did not go.
bool SendRequest(int channel, const KeeperRequest& request, const std::vector<int>& fds);
// Takes one. Nothing and errno 0: the other end has closed.
struct ReceivedRequest {
  KeeperRequest request;
  std::vector<UniqueFd> fds;
};
std::optional<ReceivedRequest> ReceiveRequest(int channel);

}  // namespace modal::lifecycle

// The messages that `criu swrk` and its client exchange: one protobuf message a packet, over a
// SOCK_SEQPACKET socket. Numbers are those of CRIU's images/rpc.proto (CRIU 4). Pure.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace modal::snapshot {

// criu_req_type.
enum class CriuCall : uint32_t { kDump = 1, kRestore = 2, kCheck = 3, kNotify = 6, kVersion = 10 };

// criu_opts, as far as we set them.
struct CriuOptions {
  std::string images_dir;   // the path of a symbolic link to it: CRIU 4.1 takes nothing else
  std::string config_file;  // of CRIU's, for what the message has no field; or empty
  pid_t pid = 0;            // dump: root of the tree
  bool leave_running = false;
  bool notify_scripts = false;  // ask before each step that has a name
  bool restore_sibling = false;
  bool lazy_pages = false;
  bool unprivileged = true;
  bool tcp_close = true;
  bool file_locks = true;
  bool link_remap = false;
  bool shell_job = false;
  uint32_t ghost_limit = 64U << 20;  // bytes of a deleted file that is still open
  uint32_t timeout = 0;              // seconds for a dump's freeze; 0: CRIU's own
  int log_level = 2;                 // 0 to 4
  std::string log_file;
  std::vector<std::string> external;  // "mnt[…]", "file[…]"
  // "pipe:[1234]" and a descriptor of CRIU's own process.
  std::vector<std::pair<std::string, int>> inherit_fd;
};

std::string EncodeCall(CriuCall call, const CriuOptions& options);
std::string EncodeCall(CriuCall call);  // without options: kVersion
// kVersion, and another call is to follow: the answer says that CRIU has started.
std::string EncodeSignOfLife();
// The answer to a notification.
std::string EncodeNotified(bool success);

// criu_resp.
struct CriuAnswer {
  CriuCall call = CriuCall::kVersion;
  bool success = false;
  pid_t pid = 0;        // kRestore: of the root; kNotify: what the step is about
  std::string step;     // kNotify: "post-dump", "setup-namespaces", "pre-resume", ...
  int error = 0;        // errno, or 0
  std::string message;  // of an error
  int major = 0;        // kVersion
  int minor = 0;
  int sublevel = 0;
};

// An Error: not such a message.
Result<CriuAnswer> DecodeAnswer(std::string_view packet);

}  // namespace modal::snapshot

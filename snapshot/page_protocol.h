// What the supervisor and a page server say to each other.
//
// The page server (page_server.h) is a process of the agent's own binary that fills a restored
// tree's memory and ends with 0 when all of it is in. It reports on a SOCK_SEQPACKET channel.
// Beside it runs a holder, which shares its table of descriptors and does nothing: if the page
// server dies, whoever touches memory that has not come goes on waiting. After a failure both stay
// until the supervisor, when nothing of the tree is left, closes the channel.
#pragma once

#include <cstdint>

namespace modal::snapshot {

inline constexpr const char* kPagesArgv0 = "modal-agent-pages";
inline constexpr int kPagesChannelFd = 3;
inline constexpr int kPagesListenerFd = 4;  // where CRIU connects
inline constexpr int kPagesFolderFd = 5;    // CRIU's work folder, with the link to the images

// In CRIU's work folder; the name is CRIU's.
inline constexpr const char* kPagesSocket = "lazy-pages.socket";

struct PagesReport {
  enum class Kind : uint32_t {
    kHolder,  // `pid`, a child of the supervisor's
    kDone,    // everything is in
    kFailed,  // `reason`: what is not in will never be
  };
  Kind kind;
  int32_t pid;
  uint64_t pages;   // that came this way
  uint64_t faults;  // how often somebody had to wait
  int64_t ms;       // since its start
  char reason[256];
};

}  // namespace modal::snapshot

// Messages on Unix sockets that bring descriptors along (SCM_RIGHTS).
//
// What is sent stays the sender's: who receives it gets a descriptor of his own for the same open
// file, close-on-exec. Both calls begin anew when a signal interrupts them; they block as the
// socket and the flags (those of sendmsg() and recvmsg()) say.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>
#include <vector>

#include "agent/base/unique_fd.h"

namespace modal {

// In one message; more is a bug of the sender, and not received.
inline constexpr size_t kMostPassed = 4;

// As sendmsg(): how many bytes have gone, or -1 and errno. The descriptors have gone with the first
// of them.
ssize_t SendWithDescriptors(int socket, std::span<const std::byte> bytes,
                            std::span<const int> descriptors, int flags = 0);

struct ReceivedDescriptors {
  // As of recvmsg(): 0 is the end, or an empty message; -1 and errno.
  ssize_t size = -1;
  std::vector<UniqueFd> descriptors;  // in their order; whatever the sender wants there to be
};
ReceivedDescriptors ReceiveWithDescriptors(int socket, std::span<std::byte> bytes, int flags = 0);

}  // namespace modal

#include "lifecycle/keeper_protocol.h"

#include <sys/socket.h>

#include <cerrno>
#include <span>
#include <utility>

#include "agent/base/passed_descriptors.h"
#include "agent/base/word_list.h"

namespace modal::lifecycle {

static_assert(KeeperRequest::kMostDescriptors + 1 <= kMostPassed);

Result<UniqueFd> SealLaunch(const LaunchWords& words) {
  return WordWriter().Add(words.argv).Add(words.environment).Add(words.workdir).Seal("launch");
}

Result<LaunchWords> ReadLaunch(int fd) {
  Result<WordReader> reader = WordReader::Open(fd);
  if (!reader) return std::move(reader.error());
  LaunchWords words;
  words.argv = reader->List();
  words.environment = reader->List();
  words.workdir = reader->Word();
  if (!reader->ok() || !reader->at_end()) return Error("words of a launch: damaged");
  return words;
}

bool SendRequest(int channel, const KeeperRequest& request, const std::vector<int>& fds) {
  const ssize_t sent = SendWithDescriptors(channel, std::as_bytes(std::span(&request, 1)), fds,
                                           MSG_NOSIGNAL | MSG_DONTWAIT);
  return sent == static_cast<ssize_t>(sizeof request);
}

std::optional<ReceivedRequest> ReceiveRequest(int channel) {
  ReceivedRequest received{};
  ReceivedDescriptors message =
      ReceiveWithDescriptors(channel, std::as_writable_bytes(std::span(&received.request, 1)));
  if (message.size < 0) return std::nullopt;
  received.fds = std::move(message.descriptors);
  if (message.size == static_cast<ssize_t>(sizeof received.request)) return received;
  errno = message.size == 0 ? 0 : EBADMSG;
  return std::nullopt;
}

}  // namespace modal::lifecycle

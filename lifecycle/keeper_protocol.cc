#include "lifecycle/keeper_protocol.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "agent/base/check.h"
#include "agent/base/word_list.h"

namespace modal::lifecycle {
namespace {

constexpr size_t kDescriptors = KeeperRequest::kMostDescriptors + 1;

}  // namespace

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
  MODAL_CHECK(fds.size() <= kDescriptors);
  iovec piece{const_cast<KeeperRequest*>(&request), sizeof request};  // only read from
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kDescriptors)] = {};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * fds.size());
  }
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(channel, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(sizeof request);
}

std::optional<ReceivedRequest> ReceiveRequest(int channel) {
  ReceivedRequest received{};
  iovec piece{&received.request, sizeof received.request};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kDescriptors)] = {};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got = 0;
  do {
    got = ::recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return std::nullopt;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      received.fds.emplace_back(fd);
    }
  }
  if (got == static_cast<ssize_t>(sizeof received.request)) return received;
  errno = got == 0 ? 0 : EBADMSG;
  return std::nullopt;
}

}  // namespace modal::lifecycle

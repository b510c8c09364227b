#include "lifecycle/keeper_protocol.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <span>
#include <string_view>

#include "agent/base/strings.h"

namespace modal::lifecycle {
namespace {

// A kernel takes no longer command line and environment than a quarter of the stack's limit, which
// is 8 MiB by default (execve(2)).
constexpr off_t kLongest = off_t{64} << 20;
constexpr size_t kDescriptors = KeeperRequest::kMostDescriptors + 1;

void Append(std::string& to, const std::vector<std::string>& words) {
  to += Concat(words.size());
  to.push_back('\0');
  for (const std::string& word : words) {
    to += word;
    to.push_back('\0');
  }
}

// Takes NUL-terminated words off a text, one by one.
class WordReader {
 public:
  explicit WordReader(std::string_view text) : left_(text) {}

  std::optional<std::string> Next() {
    const size_t end = left_.find('\0');
    if (end == std::string_view::npos) return std::nullopt;
    std::string word(left_.substr(0, end));
    left_.remove_prefix(end + 1);
    return word;
  }

  std::optional<std::vector<std::string>> List() {
    const std::optional<std::string> number = Next();
    const std::optional<uint64_t> count = number ? ParseUnsigned(*number) : std::nullopt;
    if (!count || *count > left_.size()) return std::nullopt;
    std::vector<std::string> words;
    for (uint64_t i = 0; i < *count; ++i) {
      std::optional<std::string> word = Next();
      if (!word) return std::nullopt;
      words.push_back(*std::move(word));
    }
    return words;
  }

 private:
  std::string_view left_;
};

Result<std::string> ReadWhole(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return Error::FromErrno("words of a launch", errno);
  if (info.st_size > kLongest) return Error("words of a launch: too long");
  std::string text(static_cast<size_t>(info.st_size), '\0');
  size_t have = 0;
  while (have < text.size()) {
    const ssize_t got =
        ::pread(fd, text.data() + have, text.size() - have, static_cast<off_t>(have));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::FromErrno("words of a launch", errno);
    if (got == 0) return Error("words of a launch: cut short");
    have += static_cast<size_t>(got);
  }
  return text;
}

}  // namespace

Result<UniqueFd> SealLaunch(const LaunchWords& words) {
  std::string text;
  Append(text, words.argv);
  Append(text, words.environment);
  Append(text, {words.workdir});
  UniqueFd fd(::memfd_create("launch", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return Error::FromErrno("keeper: memfd_create", errno);
  for (size_t at = 0; at < text.size();) {
    const ssize_t written = ::write(fd.get(), text.data() + at, text.size() - at);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Error::FromErrno("keeper: write the words of a launch", errno);
    at += static_cast<size_t>(written);
  }
  constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  if (::fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) {
    return Error::FromErrno("keeper: seal the words of a launch", errno);
  }
  return fd;
}

Result<LaunchWords> ReadLaunch(int fd) {
  const Result<std::string> text = ReadWhole(fd);
  if (!text) return text.error();
  WordReader reader(*text);
  std::optional<std::vector<std::string>> argv = reader.List();
  std::optional<std::vector<std::string>> environment = reader.List();
  std::optional<std::vector<std::string>> workdir = reader.List();
  if (!argv || !environment || !workdir || workdir->size() != 1) {
    return Error("words of a launch: damaged");
  }
  return LaunchWords{*std::move(argv), *std::move(environment), std::move(workdir->front())};
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

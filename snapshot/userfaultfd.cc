#include "snapshot/userfaultfd.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cinttypes>
#include <cstring>

#include "agent/base/strings.h"

namespace modal::snapshot {
namespace {

// After a call that filled only part of it the kernel says EAGAIN, and how much it was.
Filled Outcome(int result, int64_t filled, uint64_t bytes) {
  if (result == 0) return {bytes, 0};
  if (filled > 0) return {static_cast<uint64_t>(filled), EAGAIN};
  return {0, errno};
}

}  // namespace

uint64_t UserfaultfdEvents() {
  return UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_UNMAP |
         UFFD_FEATURE_EVENT_REMOVE;
}

Result<uint64_t> ProbeUserfaultfd() {
  const UniqueFd fd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
  if (!fd && errno == EPERM) return Error("CAP_SYS_PTRACE is missing (--cap-add=SYS_PTRACE)");
  if (!fd) return Error::FromErrno("userfaultfd", errno);
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = UserfaultfdEvents();
  if (::ioctl(fd.get(), UFFDIO_API, &api) != 0) return Error::FromErrno("userfaultfd", errno);
  const Result<uint64_t> seen = FeaturesOf(fd.get());
  if (!seen) return seen.error();
  if ((*seen & UserfaultfdEvents()) != UserfaultfdEvents()) {
    return Error("userfaultfd: the kernel does not tell what it was asked for");
  }
  return api.features;
}

Result<uint64_t> FeaturesOf(int userfaultfd) {
  // "API:\taa:1e:19f": version, what was asked for, what can be done.
  const std::string path = Concat("/proc/self/fdinfo/", userfaultfd);
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return Error::FromErrno(path, errno);
  std::array<char, 4096> text{};
  if (::read(file.get(), text.data(), text.size() - 1) <= 0) return Error(path + ": empty");
  const char* line = std::strstr(text.data(), "\nAPI:");
  uint64_t version = 0;
  uint64_t features = 0;
  if (line == nullptr ||
      std::sscanf(line, "\nAPI: %" SCNx64 ":%" SCNx64, &version, &features) != 2) {
    return Error(path + ": not of a userfaultfd");
  }
  return features;
}

Filled FillWithCopy(int userfaultfd, uint64_t address, const void* from, uint64_t bytes) {
  uffdio_copy copy{};
  copy.dst = address;
  copy.src = reinterpret_cast<uint64_t>(from);
  copy.len = bytes;
  const int result = ::ioctl(userfaultfd, UFFDIO_COPY, &copy);
  return Outcome(result, copy.copy, bytes);
}

Filled FillWithZeroes(int userfaultfd, uint64_t address, uint64_t bytes) {
  uffdio_zeropage zero{};
  zero.range = {address, bytes};
  const int result = ::ioctl(userfaultfd, UFFDIO_ZEROPAGE, &zero);
  return Outcome(result, zero.zeropage, bytes);
}

void WakeAt(int userfaultfd, uint64_t address, uint64_t bytes) {
  uffdio_range range{address, bytes};
  (void)::ioctl(userfaultfd, UFFDIO_WAKE, &range);
}

}  // namespace modal::snapshot

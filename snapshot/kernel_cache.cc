#include "snapshot/kernel_cache.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "agent/base/unique_fd.h"

namespace modal::snapshot {
namespace {

constexpr size_t kLongest = size_t{64} * 1024;

// CRIU's struct kerndat_s (criu/include/kerndat.h, 3.19 to 4.2), where both architectures agree.
constexpr size_t kLastCapability = 16;  // int
constexpr size_t kTaskSize = 40;        // unsigned long
constexpr size_t kLowestMapping = 72;   // unsigned long
constexpr size_t kHasUserfaultfd = 89;  // bool
constexpr size_t kUserfaultfd = 96;     // unsigned long
constexpr size_t kSmallest = 512;
constexpr std::array<size_t, 9> kFlags{32, 33, 34, 35, 48, 56, 80, 81, 88};  // bool

template <class T>
T NumberAt(const std::string& cache, size_t offset) {
  T number{};
  std::memcpy(&number, cache.data() + offset, sizeof number);
  return number;
}

bool IsKnown(const std::string& cache) {
  if (cache.size() < kSmallest || cache.size() > kLongest) return false;
  for (const size_t flag : kFlags) {
    if (static_cast<unsigned char>(cache[flag]) > 1) return false;
  }
  const auto last_capability = NumberAt<int32_t>(cache, kLastCapability);
  const auto task_size = NumberAt<uint64_t>(cache, kTaskSize);
  const auto lowest = NumberAt<uint64_t>(cache, kLowestMapping);
  constexpr uint64_t kPage = 4096;
  return last_capability >= 30 && last_capability < 64 && task_size % kPage == 0 &&
         task_size >= uint64_t{1} << 32 && lowest % kPage == 0 && lowest >= kPage &&
         lowest <= uint64_t{1} << 24;
}

Result<std::string> ReadCache(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file) return Error::FromErrno(path, errno);
  std::string bytes(kLongest, '\0');
  const ssize_t size = ::read(file.get(), bytes.data(), bytes.size());
  if (size <= 0) return Error(path + ": empty");
  bytes.resize(static_cast<size_t>(size));
  return bytes;
}

Result<void> WriteCache(const std::string& path, const std::string& bytes) {
  const UniqueFd file(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!file) return Error::FromErrno(path, errno);
  if (::write(file.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
    ::unlink(path.c_str());
    return Error(path + ": cannot be written");
  }
  return {};
}

std::string PathIn(const std::string& folder) { return folder + "/" + kKernelCache; }

}  // namespace

Result<void> CopyKernelCache(const std::string& from, const std::string& to) {
  const Result<std::string> cache = ReadCache(PathIn(from));
  if (!cache) return cache.error();
  return WriteCache(PathIn(to), *cache);
}

Result<void> PutUserfaultfd(std::string& cache, uint64_t features) {
  if (!IsKnown(cache)) return Error("CRIU's cache of the kernel's features is of an unknown kind");
  const auto has = static_cast<unsigned char>(cache[kHasUserfaultfd]);
  const auto known = NumberAt<uint64_t>(cache, kUserfaultfd);
  if (has == 1 && (known & features) == features) return {};  // made by one that may look for it
  if (has != 0 || known != 0) {
    return Error("CRIU's cache of the kernel's features is of an unknown kind");
  }
  cache[kHasUserfaultfd] = 1;
  std::memcpy(cache.data() + kUserfaultfd, &features, sizeof features);
  return {};
}

Result<void> PutUserfaultfdInto(const std::string& folder, uint64_t features) {
  Result<std::string> cache = ReadCache(PathIn(folder));
  if (!cache) return std::move(cache.error());
  if (Result<void> put = PutUserfaultfd(*cache, features); !put) return put;
  if (::unlink(PathIn(folder).c_str()) != 0) return Error::FromErrno(PathIn(folder), errno);
  return WriteCache(PathIn(folder), *cache);
}

}  // namespace modal::snapshot

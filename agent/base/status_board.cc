#include "agent/base/status_board.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>

namespace modal {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

Result<void*> Map(int fd, size_t size, int protection) {
  void* data = ::mmap(nullptr, size, protection, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) return Error::FromErrno("map status board", errno);
  return data;
}

Result<UniqueFd> NewMemory(const char* name, size_t size) {
  UniqueFd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return Error::FromErrno("create status board", errno);
  if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) {
    return Error::FromErrno("size status board", errno);
  }
  return fd;
}

// A board that can shrink would kill its reader with SIGBUS.
Result<void> CheckShape(int fd, size_t size) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return Error::FromErrno("status board", errno);
  if (static_cast<size_t>(info.st_size) < size) return Error("status board: too small");
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) return Error("status board: not sealed");
  return {};
}

}  // namespace

Result<BoardMapping> BoardMapping::CreateToWrite(const char* name, size_t size) {
  Result<UniqueFd> fd = NewMemory(name, size);
  if (!fd) return std::move(fd.error());
  Result<void*> data = Map(fd->get(), size, PROT_READ | PROT_WRITE);
  if (!data) return std::move(data.error());
  BoardMapping mapping(*std::move(fd), *data, size);
  // Kernels before 5.1 do not know F_SEAL_FUTURE_WRITE: there a reader is only asked not to write.
  if (::fcntl(mapping.fd(), F_ADD_SEALS, kSeals | F_SEAL_FUTURE_WRITE) != 0 &&
      ::fcntl(mapping.fd(), F_ADD_SEALS, kSeals) != 0) {
    return Error::FromErrno("seal status board", errno);
  }
  return mapping;
}

Result<BoardMapping> BoardMapping::CreateToRead(const char* name, size_t size) {
  Result<UniqueFd> fd = NewMemory(name, size);
  if (!fd) return std::move(fd.error());
  if (::fcntl(fd->get(), F_ADD_SEALS, kSeals) != 0) {
    return Error::FromErrno("seal status board", errno);
  }
  return OpenReadOnly(*std::move(fd), size);
}

Result<BoardMapping> BoardMapping::OpenReadOnly(UniqueFd fd, size_t size) {
  if (Result<void> shape = CheckShape(fd.get(), size); !shape) return std::move(shape.error());
  Result<void*> data = Map(fd.get(), size, PROT_READ);
  if (!data) return std::move(data.error());
  return BoardMapping(std::move(fd), *data, size);
}

Result<BoardMapping> BoardMapping::OpenWritable(UniqueFd fd, size_t size) {
  if (Result<void> shape = CheckShape(fd.get(), size); !shape) return std::move(shape.error());
  Result<void*> data = Map(fd.get(), size, PROT_READ | PROT_WRITE);
  if (!data) return std::move(data.error());
  return BoardMapping(std::move(fd), *data, size);
}

BoardMapping::BoardMapping(BoardMapping&& other) noexcept
    : fd_(std::move(other.fd_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

BoardMapping& BoardMapping::operator=(BoardMapping&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

BoardMapping::~BoardMapping() {
  if (data_) ::munmap(data_, size_);
}

}  // namespace modal

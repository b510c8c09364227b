#include "agent/base/word_list.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>

#include "agent/base/check.h"
#include "agent/base/strings.h"

namespace modal {
namespace {

// The kernel takes no longer command line and environment than three quarters of 8 MiB (execve(2)).
constexpr off_t kLongest = off_t{64} << 20;

}  // namespace

WordWriter& WordWriter::Add(std::string_view word) {
  MODAL_CHECK(word.find('\0') == std::string_view::npos);
  text_ += word;
  text_.push_back('\0');
  return *this;
}

WordWriter& WordWriter::Add(int64_t number) { return Add(std::string_view(Concat(number))); }

WordWriter& WordWriter::Add(const std::vector<std::string>& list) {
  Add(static_cast<int64_t>(list.size()));
  for (const std::string& word : list) Add(std::string_view(word));
  return *this;
}

Result<UniqueFd> WordWriter::Seal(const char* name) const {
  UniqueFd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return Error::FromErrno(Concat(name, ": memfd_create"), errno);
  for (size_t at = 0; at < text_.size();) {
    const ssize_t written =
        ::pwrite(fd.get(), text_.data() + at, text_.size() - at, static_cast<off_t>(at));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Error::FromErrno(Concat(name, ": write"), errno);
    at += static_cast<size_t>(written);
  }
  constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  if (::fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) {
    return Error::FromErrno(Concat(name, ": seal"), errno);
  }
  return fd;
}

Result<WordReader> WordReader::Open(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return Error::FromErrno("words", errno);
  if (info.st_size > kLongest) return Error("words: too many");
  std::string text(static_cast<size_t>(info.st_size), '\0');
  for (size_t at = 0; at < text.size();) {
    const ssize_t got = ::pread(fd, text.data() + at, text.size() - at, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::FromErrno("words", errno);
    if (got == 0) return Error("words: cut short");
    at += static_cast<size_t>(got);
  }
  return WordReader(std::move(text));
}

std::string_view WordReader::Take() {
  const size_t end = ok_ ? text_.find('\0', at_) : std::string::npos;
  if (end == std::string::npos) {
    ok_ = false;
    return {};
  }
  const std::string_view word = std::string_view(text_).substr(at_, end - at_);
  at_ = end + 1;
  return word;
}

std::string WordReader::Word() { return std::string(Take()); }

int64_t WordReader::Number() {
  const std::string_view word = Take();
  int64_t number = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  if (word.empty() || error != std::errc() || end != word.data() + word.size()) {
    ok_ = false;
    return 0;
  }
  return number;
}

std::vector<std::string> WordReader::List() {
  const int64_t count = Number();
  // Each of them takes a byte at least.
  if (count < 0 || static_cast<uint64_t>(count) > text_.size() - at_) ok_ = false;
  std::vector<std::string> list;
  for (int64_t i = 0; ok_ && i < count; ++i) list.push_back(Word());
  return ok_ ? list : std::vector<std::string>();
}

}  // namespace modal

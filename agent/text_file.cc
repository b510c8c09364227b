#include "agent/text_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"

namespace modal {
namespace {

// Colours in a value are somebody's wish (PS1), so ESC may stand in a text.
bool IsTextByte(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= 0x20 || byte == '\t' || byte == '\r' || byte == '\n' || byte == 0x1b;
}

Result<void> CheckSize(uint64_t size, const std::string& name) {
  if (size <= kLargestTextFile) return {};
  return Error(Concat(name, ": larger than ", kLargestTextFile / 1024,
                      " KiB; is this the file that was meant?"));
}

}  // namespace

Result<void> CheckIsText(std::string_view bytes, const std::string& name) {
  if (Result<void> size = CheckSize(bytes.size(), name); !size) return size;
  const auto bad = std::find_if_not(bytes.begin(), bytes.end(), IsTextByte);
  if (bad == bytes.end()) return {};
  const auto line = 1 + std::count(bytes.begin(), bad, '\n');
  return Error(Concat(name, ":", line, ": holds a byte of value ", static_cast<int>(*bad),
                      "; this is not a text file"));
}

Result<std::string> ReadTextFile(const std::string& path) {
  // O_NONBLOCK: the open of a pipe that nobody writes would wait for ever.
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!file) return Error::FromErrno(path, errno);
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return Error::FromErrno(path, errno);
  if (S_ISDIR(info.st_mode)) return Error::FromErrno(path, EISDIR);
  if (!S_ISREG(info.st_mode)) return Error(path + ": not a regular file");
  if (Result<void> size = CheckSize(static_cast<uint64_t>(info.st_size), path); !size) {
    return std::move(size.error());
  }

  // A file may grow while it is read, and files of /proc have no size at all.
  std::string text;
  char buffer[16 * 1024];
  for (;;) {
    const ssize_t size = ::read(file.get(), buffer, sizeof buffer);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return Error::FromErrno("read " + path, errno);
    if (size == 0) break;
    text.append(buffer, static_cast<size_t>(size));
    if (text.size() > kLargestTextFile) break;
  }
  if (Result<void> checked = CheckIsText(text, path); !checked) return std::move(checked.error());
  return text;
}

LineReader::LineReader(std::string_view text) : rest_(text) {
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (rest_.starts_with(kByteOrderMark)) rest_.remove_prefix(kByteOrderMark.size());
}

std::optional<std::string_view> LineReader::Next() {
  if (rest_.empty()) return std::nullopt;
  ++number_;
  const size_t end = std::min(rest_.find('\n'), rest_.size());
  std::string_view line = rest_.substr(0, end);
  rest_.remove_prefix(std::min(end + 1, rest_.size()));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

}  // namespace modal

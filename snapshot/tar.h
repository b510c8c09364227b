// Tar archives, as far as snapshots need them: regular files, folders and symbolic links, with
// mode, owner and time of change. Written in the pax interchange format (POSIX.1-2017, pax,
// "Extended Interchange Format"): long names, sizes over 8 GiB and nanoseconds travel in extended
// headers. Reads what it writes, and ustar; anything else is an Error that names the member.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace modal::snapshot {

struct TarMember {
  enum class Kind { kFile, kFolder, kLink };
  Kind kind = Kind::kFile;
  std::string name;  // no leading slash, no ".." component (an Error at reading)
  std::string link;  // target of a symbolic link
  uint64_t size = 0;
  mode_t mode = 0644;
  uid_t uid = 0;
  gid_t gid = 0;
  int64_t mtime_ns = 0;  // since 1970
};

// Where an archive goes to or comes from. An Error ends it.
using TarSink = std::function<Result<void>(std::string_view bytes)>;
// Fills `to` wholly or up to the archive's end; returns how many bytes there were.
using TarSource = std::function<Result<size_t>(char* to, size_t size)>;

class TarWriter {
 public:
  explicit TarWriter(TarSink sink) : sink_(std::move(sink)) {}

  Result<void> Begin(const TarMember& member);
  // A regular file's bytes, all in all exactly member.size of them.
  Result<void> Write(std::string_view bytes);
  Result<void> Finish();  // pads, and ends the archive

 private:
  Result<void> Pad();

  TarSink sink_;
  uint64_t left_ = 0;     // bytes that the member still wants
  uint64_t written_ = 0;  // of the member
};

class TarReader {
 public:
  explicit TarReader(TarSource source) : source_(std::move(source)) {}

  // The next member, or nothing at the end. What was not read of the one before is skipped.
  Result<std::optional<TarMember>> Next();
  // Some bytes of the current member into `to`; 0 at its end.
  Result<size_t> Read(char* to, size_t size);

 private:
  TarSource source_;
  uint64_t left_ = 0;
  uint64_t padding_ = 0;
};

}  // namespace modal::snapshot

// Tar archives, as far as snapshots need them: regular files, folders and symbolic links, with
// mode, owner and time of change. Written in the pax interchange format (POSIX.1-2017, pax,
// "Extended Interchange Format"): long names, sizes over 8 GiB and nanoseconds travel in extended
// headers. Reads what it writes, and ustar; anything else (GNU's own format, hard links, devices,
// sparse files, global headers) is an Error of one line that names the member.
//
// Names are relative, of components that are neither empty nor "." nor "..": wanted at writing, and
// an Error at reading. Nothing else about a member is trusted to be harmless: that a link's target,
// or a name that leads through a link, stays inside is for whoever unpacks to see to.
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
  std::string name;
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
  // A regular file's bytes, all in all exactly member.size of them: more, or a next member before
  // they were all there, is an Error (a file may shrink or grow while it is read).
  Result<void> Write(std::string_view bytes);
  Result<void> Finish();  // pads, and ends the archive

 private:
  Result<void> EndMember();

  TarSink sink_;
  std::string name_;    // of the member
  uint64_t left_ = 0;   // bytes that it still wants
  size_t padding_ = 0;  // zeros after them
};

class TarReader {
 public:
  explicit TarReader(TarSource source) : source_(std::move(source)) {}

  // The next member, or nothing at the end. What was not read of the one before is skipped.
  Result<std::optional<TarMember>> Next();
  // As many bytes of the current member as there are, `size` at most, into `to`; 0 at its end.
  Result<size_t> Read(char* to, size_t size);

 private:
  Result<void> Skip();

  TarSource source_;
  std::string name_;    // of the member
  uint64_t left_ = 0;   // bytes of it not read yet
  size_t padding_ = 0;  // zeros after them
  bool ended_ = false;
};

// A name from an archive for an error message: quoted, in one line.
std::string QuotedName(std::string_view name);

}  // namespace modal::snapshot

#include "snapshot/changed_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>

#include "agent/base/strings.h"
#include "snapshot/folder.h"
#include "snapshot/listing.h"
#include "snapshot/tar.h"

namespace modal::snapshot {
namespace {

constexpr int kMaxDepth = 250;  // each level holds a descriptor
constexpr size_t kPiece = size_t{128} << 10;
constexpr size_t kMembersCost = 512;
constexpr size_t kNamed = 3;  // of the largest

std::string Mebibytes(uint64_t bytes) {
  const uint64_t tenths = (bytes * 10 + (1 << 19)) >> 20;
  return Concat(tenths / 10, ".", tenths % 10, " MiB");
}

class Scan {
 public:
  Scan(const ScanSpec& spec, int root) : root_(root), since_ns_(spec.since_ns - kClockSlack) {
    for (const std::string& path : spec.left_out) {
      const auto resolved = Resolve(root, "", path);
      if (!resolved || resolved->empty()) continue;
      const size_t slash = resolved->rfind('/');
      const std::string folder = slash == std::string::npos ? "" : resolved->substr(0, slash);
      left_out_[folder].insert(resolved->substr(slash == std::string::npos ? 0 : slash + 1));
    }
  }

  Result<ChangedFiles> Run() {
    FileFacts facts;
    if (const int code = Look(root_, "", facts)) return Error::FromErrno("/", code);
    Listing listing;
    if (const int code = listing.Read(root_)) return Error::FromErrno("/", code);
    ReadFolder(root_, facts, listing, 0);
    if (too_deep_) return Error(Concat("/", *too_deep_, ": folders are nested too deeply"));
    return std::move(changed_);
  }

 private:
  void ReadFolder(int folder, const FileFacts& facts, const Listing& listing, int depth) {
    const auto found = left_out_.find(path_);
    const auto* left_out = found == left_out_.end() ? nullptr : &found->second;
    const size_t length = path_.size();
    for (size_t i = 0; i < listing.size() && !too_deep_; ++i) {
      const char* name = listing.name(i);
      if (left_out && left_out->contains(name)) continue;
      ReadEntry(folder, facts, name, listing.type(i), depth);
      path_.resize(length);
    }
  }

  void ReadEntry(int folder, const FileFacts& above, const char* name, unsigned char type,
                 int depth) {
    FileFacts facts;
    switch (type) {
      case DT_REG:
      case DT_LNK:
      case DT_DIR:
      case DT_UNKNOWN:
        break;
      default:
        return;
    }
    // Before it is opened: what is mounted there may be a server that does not answer.
    if (Look(folder, name, facts, Sync::kLocal) != 0 || IsMountedIn(facts, above)) return;
    const bool is_changed = facts.ctime_ns >= since_ns_ && MayBeOurs(folder, name, facts);
    const bool is_folder = S_ISDIR(facts.mode);
    if (!is_folder && !(is_changed && (S_ISREG(facts.mode) || S_ISLNK(facts.mode)))) return;
    if (!path_.empty()) path_ += '/';
    path_ += name;
    if (is_changed) {
      const uint64_t size = S_ISREG(facts.mode) ? facts.size : 0;
      changed_.files.push_back({path_, size});
      changed_.bytes += size;
    }
    if (!is_folder) return;
    int code = 0;
    const UniqueFd inner = OpenFolder(folder, name, code);
    Listing listing;
    if (!inner || listing.Read(inner.get()) != 0) return;
    if (depth >= kMaxDepth) {
      too_deep_ = path_;
      return;
    }
    // `facts` are from before it was opened: of what was mounted since everything is elsewhere.
    ReadFolder(inner.get(), facts, listing, depth + 1);
  }

  // What the start's user may not write it has not written: the container's runtime has, and will
  // have in the next one.
  static bool MayBeOurs(int folder, const char* name, const FileFacts& facts) {
    if (facts.uid == ::geteuid()) return true;
    if (S_ISLNK(facts.mode)) return ::geteuid() == 0;
    return ::faccessat(folder, name, W_OK, AT_EACCESS | AT_SYMLINK_NOFOLLOW) == 0;
  }

  const int root_;
  const int64_t since_ns_;
  std::unordered_map<std::string, std::set<std::string, std::less<>>> left_out_;  // by folder
  std::string path_;
  ChangedFiles changed_;
  std::optional<std::string> too_deep_;
};

// ---- carrying ----

Error TooLarge(const ChangedFiles& changed, uint64_t limit) {
  std::vector<ChangedFile> largest = changed.files;
  const size_t named = std::min(kNamed, largest.size());
  std::partial_sort(largest.begin(), largest.begin() + static_cast<ptrdiff_t>(named), largest.end(),
                    [](const ChangedFile& a, const ChangedFile& b) { return a.size > b.size; });
  std::string text =
      Concat(changed.files.size(), " files that the start has written (", Mebibytes(changed.bytes),
             ") are more than can travel with a snapshot (", Mebibytes(limit),
             "); put them on a volume or into the image. Largest:");
  for (size_t i = 0; i < named; ++i) {
    text += Concat(i == 0 ? " " : ", ", QuotedName("/" + largest[i].path), " (",
                   Mebibytes(largest[i].size), ")");
  }
  return Error(std::move(text));
}

class Carrier {
 public:
  Carrier(int root, int fd, uint64_t limit)
      : root_(root),
        limit_(limit),
        writer_([this, fd](std::string_view bytes) -> Result<void> {
          // In large pieces: an archive of many small files is one of many small writes.
          buffer_ += bytes;
          return buffer_.size() < kPiece ? Result<void>() : Flush(fd);
        }),
        fd_(fd) {}

  Result<void> Add(const ChangedFile& file) {
    const size_t slash = file.path.rfind('/');
    const std::string above = slash == std::string::npos ? "" : file.path.substr(0, slash);
    const std::string name = slash == std::string::npos ? file.path : file.path.substr(slash + 1);
    if (const int code = Enter(above)) return Skip(file, code);
    FileFacts facts;
    if (const int code = Look(folder_.get(), name.c_str(), facts)) return Skip(file, code);
    TarMember member;
    member.name = file.path;
    member.mode = facts.mode & 07777;
    member.uid = facts.uid;
    member.gid = facts.gid;
    member.mtime_ns = facts.mtime_ns;
    if (S_ISREG(facts.mode)) return AddContents(name, std::move(member));
    if (S_ISDIR(facts.mode)) {
      member.kind = TarMember::Kind::kFolder;
      return writer_.Begin(member);
    }
    if (!S_ISLNK(facts.mode)) return {};
    const auto target = LinkTarget(folder_.get(), name.c_str());
    if (!target) return Skip(file, errno);
    member.kind = TarMember::Kind::kLink;
    member.link = *target;
    return writer_.Begin(member);
  }

  Result<void> Finish() {
    if (auto finished = writer_.Finish(); !finished) return finished;
    return Flush(fd_);
  }

  bool IsOverLimit() const { return carried_ > limit_; }

 private:
  static bool Gone(int code) { return code == ENOENT || code == ENOTDIR || code == ELOOP; }
  static Result<void> Skip(const ChangedFile& file, int code) {
    if (Gone(code)) return {};
    return Error::FromErrno(QuotedName("/" + file.path), code);
  }

  // Opens a folder, one component after the other and no link among them: a Scan found none. 0, or
  // an errno.
  int Enter(const std::string& path) {
    if (folder_ && path == folder_path_) return 0;
    int code = 0;
    folder_path_ = path;
    folder_ = OpenFolder(root_, ".", code);
    if (path.empty()) return code;
    for (const std::string& name : Split(path, '/')) {
      if (folder_) folder_ = OpenFolder(folder_.get(), name.c_str(), code);
    }
    return code;
  }

  Result<void> AddContents(const std::string& file_name, TarMember member) {
    int code = 0;
    const UniqueFd file = OpenFile(folder_.get(), file_name.c_str(), code);
    const std::string name = QuotedName("/" + member.name);
    if (!file) {
      return Gone(code) || code == EINVAL ? Result<void>() : Error::FromErrno(name, code);
    }
    FileFacts facts;
    if (const int failed = Look(file.get(), "", facts)) return Error::FromErrno(name, failed);
    member.size = facts.size;
    carried_ += facts.size;
    if (IsOverLimit()) return {};
    if (auto begun = writer_.Begin(member); !begun) return begun;
    uint64_t left = member.size;
    while (left > 0) {
      const size_t wanted = std::min<uint64_t>(left, piece_.size());
      const Result<size_t> got = ReadFull(file.get(), piece_.data(), wanted);
      if (!got) return Error(got.error()).While(name);
      if (*got == 0) return Error(name + ": became shorter while it was read");
      if (auto written = writer_.Write({piece_.data(), *got}); !written) return written;
      left -= *got;
    }
    return {};
  }

  Result<void> Flush(int fd) {
    auto written = WriteAll(fd, buffer_);
    buffer_.clear();
    return written;
  }

  const int root_;
  const uint64_t limit_;
  std::string buffer_;
  TarWriter writer_;
  const int fd_;
  UniqueFd folder_;  // of the last file
  std::string folder_path_;
  uint64_t carried_ = 0;
  std::array<char, kPiece> piece_;
};

}  // namespace

Result<ChangedFiles> ScanChangedFiles(const ScanSpec& spec) {
  int code = 0;
  const UniqueFd root = OpenFolder(AT_FDCWD, spec.root.c_str(), code);
  if (!root) return Error::FromErrno(spec.root, code);
  struct statvfs system {};
  // The container's runtime writes there all the same, before it starts us.
  if (::fstatvfs(root.get(), &system) == 0 && (system.f_flag & ST_RDONLY) != 0)
    return ChangedFiles{};
  return Scan(spec, root.get()).Run();
}

Result<void> CarryFiles(const ScanSpec& spec, const ChangedFiles& changed, int fd, uint64_t limit) {
  if (changed.bytes + changed.files.size() * kMembersCost > limit) return TooLarge(changed, limit);
  int code = 0;
  const UniqueFd root = OpenFolder(AT_FDCWD, spec.root.c_str(), code);
  if (!root) return Error::FromErrno(spec.root, code);
  const auto carrier = std::make_unique<Carrier>(root.get(), fd, limit);
  for (const ChangedFile& file : changed.files) {
    if (auto added = carrier->Add(file); !added) return added;
    if (carrier->IsOverLimit()) {  // it has grown since
      return Error(Concat(QuotedName("/" + file.path), ": is still growing, and with it the files ",
                          "that the start has written are more than ", Mebibytes(limit)));
    }
  }
  return carrier->Finish();
}

}  // namespace modal::snapshot

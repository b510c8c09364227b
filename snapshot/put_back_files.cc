#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/strings.h"
#include "snapshot/changed_files.h"
#include "snapshot/folder.h"
#include "snapshot/listing.h"
#include "snapshot/tar.h"

namespace modal::snapshot {
namespace {

constexpr size_t kPiece = size_t{128} << 10;
constexpr size_t kPage = 4096;
constexpr int64_t kSecond = 1'000'000'000;
constexpr const char* kTemporary = ".modal-agent-";

std::array<timespec, 2> Times(int64_t mtime_ns) {
  int64_t seconds = mtime_ns / kSecond;
  int64_t rest = mtime_ns % kSecond;
  if (rest < 0) --seconds, rest += kSecond;
  return {timespec{0, UTIME_NOW}, timespec{seconds, rest}};
}

bool IsZero(std::string_view bytes) {
  return bytes.find_first_not_of('\0') == std::string_view::npos;
}

class PutBack {
 public:
  PutBack(int root, int fd)
      : root_(root),
        fd_(fd),
        reader_([this](char* to, size_t size) { return FromArchive(to, size); }) {}

  Result<void> Run() {
    FileFacts facts;
    if (const int code = Look(root_, "", facts)) return Error::FromErrno("/", code);
    mount_ = facts.mount;
    for (;;) {
      Result<std::optional<TarMember>> member = reader_.Next();
      if (!member) return member.error();
      if (!*member) break;
      if (auto put = Put(**member); !put) {
        return Error(std::move(put.error())).While(QuotedName("/" + (*member)->name));
      }
    }
    // Last, since what is put into a folder changes its time; inner ones first.
    for (size_t i = folders_.size(); i-- > 0;) {
      if (auto finished = FinishFolder(folders_[i]); !finished) {
        return Error(std::move(finished.error())).While(QuotedName("/" + folders_[i].name));
      }
    }
    return {};
  }

 private:
  // ---- from the archive ----

  Result<size_t> FromArchive(char* to, size_t size) {
    // Headers are small: the archive is read in large pieces.
    size_t filled = 0;
    while (filled < size) {
      if (at_ == ahead_.size()) {
        ahead_.resize(kPiece);
        at_ = 0;
        const Result<size_t> got = ReadFull(fd_, ahead_.data(), ahead_.size());
        ahead_.resize(got ? *got : 0);
        if (!got) return got.error();
        if (*got == 0) break;
      }
      const size_t taken = std::min(size - filled, ahead_.size() - at_);
      std::copy_n(ahead_.data() + at_, taken, to + filled);
      at_ += taken;
      filled += taken;
    }
    return filled;
  }

  // ---- places ----

  // The folder that a member lies in, made if it is missing. One component after the other, none of
  // them a link: so nothing that others do with links meanwhile leads elsewhere.
  Result<int> FolderOf(const std::string& path) {
    const size_t slash = path.rfind('/');
    const std::string folder = slash == std::string::npos ? "" : path.substr(0, slash);
    if (folder_ && folder == folder_path_) return folder_.get();
    folder_.Reset();
    int code = 0;
    UniqueFd at = OpenFolder(root_, ".", code);
    if (!at) return Error::FromErrno("/", code);
    if (!folder.empty()) {
      for (const std::string& name : Split(folder, '/')) {
        if (name.empty() || name == "." || name == "..") return Error("is no path");
        UniqueFd next = OpenFolder(at.get(), name.c_str(), code);
        if (!next && code == ENOENT && ::mkdirat(at.get(), name.c_str(), 0755) == 0) {
          next = OpenFolder(at.get(), name.c_str(), code);
        }
        if (!next) return CannotEnter(name, code);
        at = std::move(next);
        if (auto checked = CheckMount(at.get(), name); !checked) return checked.error();
      }
    }
    folder_ = std::move(at);
    folder_path_ = folder;
    return folder_.get();
  }

  static Error CannotEnter(const std::string& name, int code) {
    if (code == ELOOP || code == ENOTDIR) return Error(QuotedName(name) + " is no folder here");
    return Error::FromErrno(QuotedName(name), code);
  }

  Result<void> CheckMount(int folder, const std::string& name) const {
    FileFacts facts;
    if (const int code = Look(folder, "", facts)) return Error::FromErrno(QuotedName(name), code);
    if (facts.mount == mount_) return {};
    return Error(QuotedName(name) + " is a volume here, and was none where the file comes from");
  }

  // ---- members ----

  Result<void> Put(const TarMember& member) {
    const size_t slash = member.name.rfind('/');
    const std::string name =
        slash == std::string::npos ? member.name : member.name.substr(slash + 1);
    if (name.empty() || name == "." || name == "..") return Error("is no path");
    const Result<int> folder = FolderOf(member.name);
    if (!folder) return folder.error();
    switch (member.kind) {
      case TarMember::Kind::kFile:
        return PutFile(*folder, name, member);
      case TarMember::Kind::kFolder:
        return PutFolder(*folder, name, member);
      case TarMember::Kind::kLink:
        return PutLink(*folder, name, member);
    }
    return {};
  }

  Result<void> PutFolder(int folder, const std::string& name, const TarMember& member) {
    if (::mkdirat(folder, name.c_str(), 0700) != 0) {
      if (errno != EEXIST) return Error::FromErrno("make folder", errno);
      int code = 0;
      UniqueFd there = OpenFolder(folder, name.c_str(), code);
      if (!there && (code == ENOTDIR || code == ELOOP)) {
        // Something else has its name: it goes.
        if (::unlinkat(folder, name.c_str(), 0) != 0) return Error::FromErrno("remove", errno);
        if (::mkdirat(folder, name.c_str(), 0700) != 0) {
          return Error::FromErrno("make folder", errno);
        }
        there = OpenFolder(folder, name.c_str(), code);
      }
      if (!there) return Error::FromErrno("open", code);
      if (auto checked = CheckMount(there.get(), name); !checked) return checked;
    }
    folders_.push_back(member);
    return {};
  }

  Result<void> FinishFolder(const TarMember& member) {
    const Result<int> above = FolderOf(member.name);
    if (!above) return above.error();
    const std::string name = member.name.substr(member.name.rfind('/') + 1);
    int code = 0;
    const UniqueFd folder = OpenFolder(*above, name.c_str(), code);
    if (!folder) return Error::FromErrno("open", code);
    if (auto checked = CheckMount(folder.get(), name); !checked) return checked;
    return SetAttributes(folder.get(), member);
  }

  Result<void> PutFile(int folder, const std::string& name, const TarMember& member) {
    const std::string temporary = RandomName(kTemporary);
    const Result<UniqueFd> file = CreateFileIn(folder, temporary);
    if (!file) return file.error();
    Result<void> put = Fill(file->get(), member.size);
    if (put) put = SetAttributes(file->get(), member);
    if (put) put = Replace(folder, temporary, name);
    if (!put) ::unlinkat(folder, temporary.c_str(), 0);
    return put;
  }

  Result<void> PutLink(int folder, const std::string& name, const TarMember& member) {
    const std::string temporary = RandomName(kTemporary);
    if (::symlinkat(member.link.c_str(), folder, temporary.c_str()) != 0) {
      return Error::FromErrno("make link", errno);
    }
    Result<void> put;
    const std::array<timespec, 2> times = Times(member.mtime_ns);
    if (::fchownat(folder, temporary.c_str(), member.uid, member.gid, AT_SYMLINK_NOFOLLOW) != 0) {
      FileFacts facts;
      const bool is_right = Look(folder, temporary.c_str(), facts) == 0 &&
                            facts.uid == member.uid && facts.gid == member.gid;
      if (!is_right) put = Error::FromErrno("set owner", EPERM);
    }
    if (put && ::utimensat(folder, temporary.c_str(), times.data(), AT_SYMLINK_NOFOLLOW) != 0) {
      put = Error::FromErrno("set time", errno);
    }
    if (put) put = Replace(folder, temporary, name);
    if (!put) ::unlinkat(folder, temporary.c_str(), 0);
    return put;
  }

  static Result<void> Replace(int folder, const std::string& temporary, const std::string& name) {
    if (::renameat(folder, temporary.c_str(), folder, name.c_str()) == 0) return {};
    if (errno == EBUSY) return Error("is a mount here, and was none where the file comes from");
    // An empty folder makes way, a full one does not.
    if (errno == EISDIR && ::unlinkat(folder, name.c_str(), AT_REMOVEDIR) == 0 &&
        ::renameat(folder, temporary.c_str(), folder, name.c_str()) == 0) {
      return {};
    }
    return Error::FromErrno("replace", errno);
  }

  // Pages of zeros become holes.
  Result<void> Fill(int file, uint64_t size) {
    uint64_t done = 0;
    while (done < size) {
      const Result<size_t> got =
          reader_.Read(piece_.data(), std::min<uint64_t>(size - done, piece_.size()));
      if (!got) return got.error();
      if (*got == 0) return Error("the archive ends within it");
      if (auto written = WriteSparsely(file, {piece_.data(), *got}, done); !written) return written;
      done += *got;
    }
    if (::ftruncate(file, static_cast<off_t>(size)) != 0) return Error::FromErrno("write", errno);
    return {};
  }

  static Result<void> WriteSparsely(int file, std::string_view bytes, uint64_t at) {
    while (!bytes.empty()) {
      const bool is_hole = IsZero(bytes.substr(0, kPage));
      size_t size = std::min(kPage, bytes.size());
      while (size < bytes.size() && IsZero(bytes.substr(size, kPage)) == is_hole) {
        size = std::min(size + kPage, bytes.size());
      }
      if (!is_hole) {
        if (::lseek(file, static_cast<off_t>(at), SEEK_SET) < 0) {
          return Error::FromErrno("write", errno);
        }
        if (auto written = WriteAll(file, bytes.substr(0, size)); !written) return written;
      }
      bytes.remove_prefix(size);
      at += size;
    }
    return {};
  }

  // Owner before mode: a change of owner takes set-user-ID away. What is as it should be already
  // need not be ours to change (a /tmp that all users share).
  static Result<void> SetAttributes(int fd, const TarMember& member) {
    FileFacts facts;
    if (const int code = Look(fd, "", facts)) return Error::FromErrno("look", code);
    const bool has_owner = facts.uid == member.uid && facts.gid == member.gid;
    if (::fchown(fd, member.uid, member.gid) != 0 && !has_owner) {
      return Error::FromErrno("set owner", errno);
    }
    const bool has_mode = (facts.mode & 07777) == (member.mode & 07777);
    if (::fchmod(fd, member.mode & 07777) != 0 && !has_mode) {
      return Error::FromErrno("set mode", errno);
    }
    // The time of a shared folder is everybody's doing.
    const bool is_anothers = S_ISDIR(facts.mode) && facts.uid != ::geteuid();
    if (::futimens(fd, Times(member.mtime_ns).data()) != 0 && !is_anothers) {
      return Error::FromErrno("set time", errno);
    }
    return {};
  }

  const int root_;
  const int fd_;
  uint64_t mount_ = 0;
  std::string ahead_;  // of the archive, from at_ on
  size_t at_ = 0;
  TarReader reader_;
  UniqueFd folder_;  // the last one
  std::string folder_path_;
  std::vector<TarMember> folders_;
  std::array<char, kPiece> piece_;
};

}  // namespace

Result<void> PutBackFiles(const std::string& root, int fd) {
  int code = 0;
  const UniqueFd folder = OpenFolder(AT_FDCWD, root.c_str(), code);
  if (!folder) return Error::FromErrno(root, code);
  return std::make_unique<PutBack>(folder.get(), fd)->Run();
}

}  // namespace modal::snapshot

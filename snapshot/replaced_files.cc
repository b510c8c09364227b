#include "snapshot/replaced_files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <set>
#include <utility>

#include "agent/base/strings.h"
#include "snapshot/changed_files.h"
#include "snapshot/folder.h"
#include "snapshot/listing.h"
#include "snapshot/tar.h"

namespace modal::snapshot {
namespace {

std::string FolderPart(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

std::string NamePart(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// The folder, one component after the other and none of them a link.
UniqueFd EnterFolder(int root, const std::string& path, int& code) {
  UniqueFd folder = OpenFolder(root, ".", code);
  if (path.empty()) return folder;
  for (const std::string& name : Split(path, '/')) {
    if (folder) folder = OpenFolder(folder.get(), name.c_str(), code);
  }
  return folder;
}

Result<void> Rewind(int fd) {
  if (::lseek(fd, 0, SEEK_SET) == 0) return {};
  return Error::FromErrno("files that travel along", errno);
}

// The paths of an archive's members, each after the folders that it lies in.
Result<std::vector<std::string>> PathsIn(int archive) {
  TarReader reader([archive](char* to, size_t size) { return ReadFull(archive, to, size); });
  std::vector<std::string> paths;
  std::set<std::string> seen;
  while (true) {
    const Result<std::optional<TarMember>> member = reader.Next();
    if (!member) return member.error();
    if (!*member) return paths;
    const std::string& path = (*member)->name;
    for (size_t end = path.find('/'); end != std::string::npos; end = path.find('/', end + 1)) {
      if (seen.insert(path.substr(0, end)).second) paths.push_back(path.substr(0, end));
    }
    if (seen.insert(path).second) paths.push_back(path);
  }
}

Result<void> Remove(int root, const std::string& path) {
  int code = 0;
  const UniqueFd folder = EnterFolder(root, FolderPart(path), code);
  const std::string name = NamePart(path);
  if (folder) code = ::unlinkat(folder.get(), name.c_str(), 0) == 0 ? 0 : errno;
  if (code == EISDIR || code == EPERM) {
    code = ::unlinkat(folder.get(), name.c_str(), AT_REMOVEDIR) == 0 ? 0 : errno;
  }
  // What else is in a folder is none of ours.
  if (code == 0 || code == ENOENT || code == ENOTEMPTY || code == EEXIST) return {};
  return Error::FromErrno("remove " + QuotedName("/" + path), code);
}

}  // namespace

Result<bool> HasFoldersOf(const std::string& root, int archive) {
  int code = 0;
  const UniqueFd folder = OpenFolder(AT_FDCWD, root.c_str(), code);
  if (!folder) return Error::FromErrno(root, code);
  TarReader reader([archive](char* to, size_t size) { return ReadFull(archive, to, size); });
  while (true) {
    const Result<std::optional<TarMember>> member = reader.Next();
    if (!member) return member.error();
    if (!*member) return true;
    if ((*member)->kind != TarMember::Kind::kFolder) continue;
    if (!EnterFolder(folder.get(), (*member)->name, code)) return false;
  }
}

Result<ReplacedFiles> ReplacedFiles::Note(const std::string& root, int archive,
                                          const std::vector<std::string>& sockets) {
  int code = 0;
  const UniqueFd folder = OpenFolder(AT_FDCWD, root.c_str(), code);
  if (!folder) return Error::FromErrno(root, code);
  Result<std::vector<std::string>> paths = std::vector<std::string>();
  if (archive >= 0) {
    if (Result<void> begun = Rewind(archive); !begun) return std::move(begun.error());
    paths = PathsIn(archive);
    if (!paths) return paths.error();
    if (Result<void> again = Rewind(archive); !again) return std::move(again.error());
  }
  for (const std::string& socket : sockets) {
    if (socket.size() > 1 && socket.front() == '/') paths->push_back(socket.substr(1));
  }

  ChangedFiles there;
  std::vector<std::string> absent;
  for (const std::string& path : *paths) {
    FileFacts facts;
    const UniqueFd above = EnterFolder(folder.get(), FolderPart(path), code);
    if (above) code = Look(above.get(), NamePart(path).c_str(), facts);
    if (code == 0) {
      there.files.push_back({path, 0});
    } else {
      absent.push_back(path);
    }
  }
  UniqueFd before(::memfd_create("replaced-files", MFD_CLOEXEC));
  if (!before) return Error::FromErrno("keep what is replaced", errno);
  ScanSpec spec;
  spec.root = root;
  if (Result<void> kept = CarryFiles(spec, there, before.get(), kMaxCarried); !kept) {
    return std::move(kept.error()).While("keep what is replaced");
  }
  return ReplacedFiles(root, std::move(before), std::move(absent));
}

Result<void> ReplacedFiles::TakeBack() {
  int code = 0;
  const UniqueFd folder = OpenFolder(AT_FDCWD, root_.c_str(), code);
  if (!folder) return Error::FromErrno(root_, code);
  Result<void> first;
  for (size_t i = absent_.size(); i-- > 0;) {
    Result<void> removed = Remove(folder.get(), absent_[i]);
    if (!removed && first) first = std::move(removed);
  }
  Result<void> put = Rewind(before_.get());
  if (put) put = PutBackFiles(root_, before_.get());
  if (!put && first) first = std::move(put);
  return first;
}

}  // namespace modal::snapshot

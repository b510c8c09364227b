#include "snapshot/store.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "agent/base/strings.h"
#include "snapshot/checksum.h"
#include "snapshot/folder.h"
#include "snapshot/snapshot_files.h"
#include "snapshot/store_lock.h"
#include "snapshot/store_state.h"

namespace modal::snapshot {
namespace {

constexpr const char* kImagesName = "images";
constexpr const char* kReadmeName = "README";
constexpr const char* kStoreLockName = ".lock";
constexpr size_t kLargestVerdict = 64 * 1024;

// Whoever restores can wait a little for one who is about to publish or to delete.
constexpr Milliseconds kPatienceToFind{1000};
// A guess is to cost less than it may gain.
constexpr size_t kMostLookedAt = 4;
constexpr Milliseconds kPatienceToJudge{5000};

constexpr std::string_view kReadme =
    "This folder holds memory snapshots of modal-agent (--snapshot-dir). A folder with a name of "
    "32\n"
    "hex digits is one snapshot: process memory, secrets included, which is why nobody else may "
    "read\n"
    "it. `modal-agent snapshot list`, `inspect`, `verify`, `delete` and `prune` look after it. It "
    "may\n"
    "be deleted as a whole at any time when nothing restores from it: programs then start cold.\n";

// For people only: that it is missing or cut off harms nothing.
void WriteReadme(int dir) {
  const Result<UniqueFd> file = CreateFileIn(dir, kReadmeName);
  if (file && !WriteAll(file->get(), kReadme)) (void)RemoveFileIn(dir, kReadmeName);
}

Result<void> CheckFolder(int dir, Store::Use use) {
  struct stat info {};
  if (::fstat(dir, &info) != 0) return Error::FromErrno("look at it", errno);
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return Error(
        "other users may write to it, and could put memory of their own there; chmod go-w, or name "
        "a "
        "folder within it that is not there yet");
  }
  if (use == Store::Use::kRead) return {};
  if (::faccessat(dir, ".", W_OK | X_OK, AT_EACCESS) == 0) return {};
  if (errno == EROFS) return Error::FromErrno("nothing can be saved there", errno);
  return Error::FromErrno("this user cannot write to it", errno);
}

Result<Manifest> ReadManifest(int folder, const std::string& key) {
  const Result<std::string> text = ReadFileIn(folder, kManifestName, kLargestManifest);
  if (!text && text.error().code() == ENOENT) return Error(Concat(kManifestName, ": is missing"));
  if (!text) return text.error();
  Result<Manifest> manifest = ParseManifest(*text);
  if (!manifest) return std::move(manifest.error()).While(kManifestName);
  if (manifest->key != key) {
    return Error(Concat(kManifestName, ": is that of snapshot ", manifest->key));
  }
  return manifest;
}

Result<void> CheckSizes(int folder, const Manifest& manifest) {
  SnapshotFiles files(folder);
  for (const ImageFile& file : manifest.files) {
    const Result<uint64_t> size = files.SizeOf(file.name);
    if (!size) return Error(size.error()).While(file.name);
    if (*size != file.size) {
      return Error(Concat(file.name, ": has ", *size, " bytes, and should have ", file.size));
    }
  }
  return {};
}

// All data is on its way to the disk while it is still being checksummed.
void StartWriting(SnapshotFiles& files, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const Result<UniqueFd> file = files.Open(name);
    if (file) (void)::sync_file_range(file->get(), 0, 0, SYNC_FILE_RANGE_WRITE);
  }
}

Result<ImageFile> SealFile(SnapshotFiles& files, const std::string& name) {
  const Result<UniqueFd> file = files.Open(name);
  if (!file) return file.error();
  const Result<FileChecksum> checksum = ChecksumOf(file->get());
  if (!checksum) return Error(checksum.error()).While(name);
  if (Result<void> synced = SyncFile(file->get()); !synced) {
    return std::move(synced.error()).While(name);
  }
  return ImageFile{name, checksum->size, checksum->text};
}

Result<void> WriteManifest(int folder, const Manifest& manifest) {
  const std::string text = ToJson(manifest);
  // What is published can be read.
  if (Result<Manifest> again = ParseManifest(text); !again) {
    return std::move(again.error()).While(kManifestName);
  }
  const Result<UniqueFd> file = CreateFileIn(folder, kManifestName);
  if (!file) return file.error();
  Result<void> done = WriteAll(file->get(), text);
  if (done) done = SyncFile(file->get());
  if (!done) return std::move(done.error()).While(kManifestName);
  return {};
}

// Checksums, manifest, and every file and folder on the disk.
Result<void> Seal(int folder, Manifest& manifest) {
  SnapshotFiles files(folder);
  const Result<SnapshotFiles::Tree> tree = files.Read();
  if (!tree) return tree.error();
  if (std::binary_search(tree->files.begin(), tree->files.end(), std::string(kManifestName))) {
    return Error(Concat(kManifestName, ": stands there already"));
  }
  StartWriting(files, tree->files);
  manifest.files.clear();
  for (const std::string& name : tree->files) {
    Result<ImageFile> file = SealFile(files, name);
    if (!file) return std::move(file.error());
    manifest.files.push_back(*std::move(file));
  }
  if (Result<void> written = WriteManifest(folder, manifest); !written) return written;
  for (const std::string& name : tree->folders) {
    const Result<UniqueFd> inner = OpenFolderIn(folder, name);
    if (!inner) return inner.error();
    if (Result<void> synced = SyncFolder(inner->get()); !synced) {
      return std::move(synced.error()).While(name);
    }
  }
  return SyncFolder(folder);
}

Result<Verdict> ReadVerdictIn(int dir, const std::string& key) {
  const Result<std::string> text = ReadFileIn(dir, VerdictName(key), kLargestVerdict);
  if (!text && text.error().code() == ENOENT) return Verdict{};
  if (!text) return text.error();
  Result<Verdict> verdict = ParseVerdict(*text);
  if (!verdict) return std::move(verdict.error()).While(VerdictName(key));
  return verdict;
}

Result<void> ReplaceVerdict(int dir, const std::string& key, const Verdict& verdict) {
  const std::string name = NewVerdictName(key);
  if (Result<void> gone = RemoveFileIn(dir, name); !gone) return gone;
  const Result<UniqueFd> file = CreateFileIn(dir, name);
  if (!file) return file.error();
  Result<void> done = WriteAll(file->get(), ToJson(verdict));
  if (done) done = SyncFile(file->get());
  if (done) done = RenameOverIn(dir, name, VerdictName(key));
  if (!done) {
    (void)RemoveFileIn(dir, name);
    return std::move(done.error()).While(name);
  }
  return SyncFolder(dir);
}

Result<std::optional<UniqueFd>> TakeStoreLock(int dir, Milliseconds patience) {
  return TakeLock(dir, kStoreLockName, LockKind::kAlone, patience, LockFile::kMakeIfMissing);
}

}  // namespace

// --- names, and what all share -------------------------------------------------------------------

std::string LockName(const std::string& key) { return key + ".lock"; }
std::string VerdictName(const std::string& key) { return key + ".verdict"; }
std::string NewVerdictName(const std::string& key) { return key + ".verdict.new"; }
std::string StagingPrefix(const std::string& key) { return Concat(".staging-", key, "-"); }

Error InSnapshot(const std::string& key, Error error) {
  return std::move(error).While("snapshot " + key);
}

Result<void> CheckKey(const std::string& key) {
  if (IsKey(key)) return {};
  return Error(Concat("'", key, "' is no key of a snapshot: those have 32 hex digits"));
}

Result<void> Store::State::CheckWritable() const {
  if (use == Use::kWrite) return {};
  return Error(folder + ": was opened for reading only");
}

Result<Store::State::Opened> Store::State::Open(const std::string& key) const {
  Result<UniqueFd> opened = OpenFolderIn(dir.get(), key);
  if (!opened) return std::move(opened.error());
  Result<Manifest> manifest = ReadManifest(opened->get(), key);
  if (!manifest) return InSnapshot(key, std::move(manifest.error()));
  return Opened{*std::move(opened), *std::move(manifest)};
}

void Store::State::RemoveVerdict(const std::string& key) const {
  const auto is_there = [&](const std::string& name) {
    const Result<Named> named = LookUpIn(dir.get(), name);
    return !named || named->kind != Kind::kNothing;
  };
  if (!is_there(VerdictName(key)) && !is_there(NewVerdictName(key))) return;
  const Result<std::optional<UniqueFd>> lock = TakeStoreLock(dir.get(), kMoment);
  (void)RemoveFileIn(dir.get(), VerdictName(key));
  // Whoever has the lock is about to rename it: then it is not ours to remove.
  if (lock && *lock) (void)RemoveFileIn(dir.get(), NewVerdictName(key));
}

// --- Staging -------------------------------------------------------------------------------------

struct Staging::State {
  UniqueFd dir;  // the store's
  std::string key;
  std::string name;  // of the folder in it
  std::string path;
  UniqueFd lock;
  UniqueFd folder;
  bool is_published = false;
};

Staging::Staging(std::unique_ptr<State> state) : state_(std::move(state)) {}

Staging::~Staging() {
  if (state_->is_published) return;
  const int dir = state_->dir.get();
  (void)RemoveTreeIn(dir, state_->name);
  // The lock is still ours; that of a snapshot that somebody else has published is not.
  const Result<Named> named = LookUpIn(dir, state_->key);
  if (named && named->kind == Kind::kNothing) (void)RemoveFileIn(dir, LockName(state_->key));
}

const std::string& Staging::path() const { return state_->path; }
std::string Staging::images_dir() const { return Concat(state_->path, "/", kImagesName); }

// --- Store ---------------------------------------------------------------------------------------

Store::Store(std::unique_ptr<State> state) : state_(std::move(state)) {}
Store::~Store() = default;

const std::string& Store::folder() const { return state_->folder; }

Result<std::unique_ptr<Store>> Store::Open(const std::string& folder, Use use) {
  const std::string context = "snapshot folder " + folder;
  if (use == Use::kWrite && ::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    const int code = errno;
    // Read-only file systems say so even of a folder that is there.
    struct stat info {};
    if (::stat(folder.c_str(), &info) != 0) return Error::FromErrno("make " + context, code);
  }
  UniqueFd dir(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir) return Error::FromErrno(context, errno);
  if (Result<void> checked = CheckFolder(dir.get(), use); !checked) {
    return std::move(checked.error()).While(context);
  }
  if (use == Use::kWrite) WriteReadme(dir.get());
  auto state = std::make_unique<State>();
  state->folder = folder;
  state->dir = std::move(dir);
  state->use = use;
  return std::unique_ptr<Store>(new Store(std::move(state)));
}

Result<std::optional<Store::Found>> Store::Find(const std::string& key) {
  return FindWithin(key, kPatienceToFind);
}

std::optional<Store::Found> Store::FindYoungest(const std::function<bool(const Manifest&)>& fits) {
  const Result<std::vector<std::string>> names = NamesIn(state_->dir.get());
  if (!names) return std::nullopt;
  std::vector<std::pair<int64_t, std::string>> by_age;
  for (const std::string& name : *names) {
    if (!IsKey(name)) continue;
    const Result<Named> named = LookUpIn(state_->dir.get(), name);
    if (named) by_age.emplace_back(-named->changed_unix_ms, name);
  }
  std::sort(by_age.begin(), by_age.end());
  if (by_age.size() > kMostLookedAt) by_age.resize(kMostLookedAt);
  for (const auto& [age, key] : by_age) {
    Result<std::optional<Found>> found = FindWithin(key, kMoment);
    if (found && *found && fits((*found)->manifest)) return *std::move(found);
  }
  return std::nullopt;
}

Result<std::optional<Store::Found>> Store::FindWithin(const std::string& key,
                                                      Milliseconds patience) {
  if (Result<void> checked = CheckKey(key); !checked) return std::move(checked.error());
  const int dir = state_->dir.get();
  // Before its lock is asked for: whoever is about to make the snapshot is not to be disturbed.
  const Result<Named> named = LookUpIn(dir, key);
  if (!named) return InSnapshot(key, named.error());
  if (named->kind == Kind::kNothing) return std::optional<Found>();
  if (named->kind != Kind::kFolder) return InSnapshot(key, Error("is no folder"));

  const LockFile lock_file =
      state_->use == Use::kWrite ? LockFile::kMakeIfMissing : LockFile::kMustExist;
  Result<std::optional<UniqueFd>> lock =
      TakeLock(dir, LockName(key), LockKind::kShared, patience, lock_file);
  UniqueFd held;
  if (lock) {
    if (!*lock) return std::optional<Found>();
    held = **std::move(lock);
  } else if (const int code = lock.error().code();
             !IsWithoutLocks(lock.error()) && code != ENOENT && code != EROFS && code != EACCES) {
    return InSnapshot(key, std::move(lock.error()));
  }

  Result<State::Opened> opened = state_->Open(key);
  // Deleted while we waited for the lock.
  if (!opened && opened.error().code() == ENOENT) return std::optional<Found>();
  if (!opened) return std::move(opened.error());
  if (Result<void> sizes = CheckSizes(opened->folder.get(), opened->manifest); !sizes) {
    return InSnapshot(key, std::move(sizes.error()));
  }
  Found found;
  found.manifest = std::move(opened->manifest);
  found.path = Concat(state_->folder, "/", key);
  found.lock = std::make_unique<StoreLock>(std::move(held));
  return std::optional<Found>(std::move(found));
}

Result<std::unique_ptr<Staging>> Store::Stage(const std::string& key) {
  if (Result<void> checked = CheckKey(key); !checked) return std::move(checked.error());
  if (Result<void> writable = state_->CheckWritable(); !writable) {
    return std::move(writable.error());
  }
  const int dir = state_->dir.get();
  const auto failed = [&](const Error& error) {
    return Error(error).While(Concat("stage snapshot ", key));
  };
  Result<Named> named = LookUpIn(dir, key);
  if (!named) return failed(named.error());
  if (named->kind != Kind::kNothing) return std::unique_ptr<Staging>();
  Result<std::optional<UniqueFd>> lock =
      TakeLock(dir, LockName(key), LockKind::kAlone, kMoment, LockFile::kMakeIfMissing);
  if (!lock) return failed(ExplainLocks(lock.error()));
  if (!*lock) return std::unique_ptr<Staging>();
  named = LookUpIn(dir, key);
  if (!named) return failed(named.error());
  if (named->kind != Kind::kNothing) return std::unique_ptr<Staging>();
  state_->Sweep(key);

  UniqueFd our_dir(::fcntl(dir, F_DUPFD_CLOEXEC, 0));
  if (!our_dir) return failed(Error::FromErrno(state_->folder, errno));
  const Result<std::string> name = MakeRandomFolderIn(dir, StagingPrefix(key));
  if (!name) {
    (void)RemoveFileIn(dir, LockName(key));
    return failed(name.error());
  }
  auto state = std::make_unique<Staging::State>();
  state->dir = std::move(our_dir);
  state->key = key;
  state->name = *name;
  state->path = Concat(state_->folder, "/", *name);
  state->lock = **std::move(lock);
  // From here on its destructor removes what is there.
  std::unique_ptr<Staging> staging(new Staging(std::move(state)));
  Result<UniqueFd> folder = OpenFolderIn(dir, *name);
  if (!folder) return failed(folder.error());
  staging->state_->folder = *std::move(folder);
  const Result<void> images = MakeFolderIn(staging->state_->folder.get(), kImagesName);
  if (!images) return failed(images.error());
  return staging;
}

Result<void> Store::Publish(std::unique_ptr<Staging> staging, Manifest manifest) {
  MODAL_CHECK(staging);
  Staging::State& made = *staging->state_;
  const auto failed = [&](const Error& error) {
    return Error(error).While(Concat("publish snapshot ", made.key));
  };
  manifest.format = kFormat;
  manifest.key = made.key;
  if (Result<void> sealed = Seal(made.folder.get(), manifest); !sealed) {
    return failed(sealed.error());
  }
  const Result<Named> named = LookUpIn(made.dir.get(), made.key);
  if (!named) return failed(named.error());
  if (named->kind == Kind::kNothing) state_->RemoveVerdict(made.key);
  if (Result<void> renamed = RenameNewIn(made.dir.get(), made.name, made.key); !renamed) {
    if (renamed.error().code() == EEXIST) return failed(Error("somebody else was first"));
    return failed(renamed.error());
  }
  made.is_published = true;
  // It is there, and whole. Should the name not outlive a loss of power, then it is not there.
  (void)SyncFolder(made.dir.get());
  return {};
}

Result<Verdict> Store::ReadVerdict(const std::string& key) {
  if (Result<void> checked = CheckKey(key); !checked) return std::move(checked.error());
  return ReadVerdictIn(state_->dir.get(), key);
}

Result<Verdict> Store::ChangeVerdict(const std::string& key,
                                     const std::function<Verdict(Verdict)>& change) {
  if (Result<void> checked = CheckKey(key); !checked) return std::move(checked.error());
  if (Result<void> writable = state_->CheckWritable(); !writable) {
    return std::move(writable.error());
  }
  const Result<std::optional<UniqueFd>> lock = TakeStoreLock(state_->dir.get(), kPatienceToJudge);
  if (!lock) return InSnapshot(key, ExplainLocks(lock.error()));
  if (!*lock)
    return InSnapshot(key, Error("its verdict is locked by somebody who does not let go"));
  const Result<Verdict> before = ReadVerdictIn(state_->dir.get(), key);
  Verdict verdict = change(before ? *before : Verdict{});
  if (Result<void> replaced = ReplaceVerdict(state_->dir.get(), key, verdict); !replaced) {
    return InSnapshot(key, std::move(replaced.error()));
  }
  return verdict;
}

}  // namespace modal::snapshot

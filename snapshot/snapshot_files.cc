#include "snapshot/snapshot_files.h"

#include <errno.h>

#include <algorithm>
#include <utility>

#include "agent/base/json_writer.h"
#include "agent/base/strings.h"
#include "snapshot/folder.h"
#include "snapshot/manifest.h"

namespace modal::snapshot {
namespace {

std::string Quoted(std::string_view name) {
  std::string quoted;
  AppendJsonString(quoted, name);
  return quoted;
}

}  // namespace

Result<SnapshotFiles::Place> SnapshotFiles::PlaceOf(const std::string& name, IfMissing if_missing) {
  MODAL_CHECK(IsFileName(name));
  const size_t slash = name.find('/');
  if (slash == std::string::npos) return Place{folder_, name};
  const std::string inner = name.substr(0, slash);
  if (!inner_ || inner != inner_name_) {
    Result<UniqueFd> opened = OpenFolderIn(folder_, inner);
    if (!opened && opened.error().code() == ENOENT && if_missing == IfMissing::kMake) {
      if (Result<void> made = MakeFolderIn(folder_, inner); !made) return std::move(made.error());
      opened = OpenFolderIn(folder_, inner);
    }
    if (!opened) return std::move(opened.error());
    inner_ = *std::move(opened);
    inner_name_ = inner;
  }
  return Place{inner_.get(), name.substr(slash + 1)};
}

Result<UniqueFd> SnapshotFiles::Open(const std::string& name) {
  const Result<Place> place = PlaceOf(name, IfMissing::kFail);
  if (!place) return place.error();
  return OpenFileIn(place->folder, place->name);
}

Result<uint64_t> SnapshotFiles::SizeOf(const std::string& name) {
  const Result<Place> place = PlaceOf(name, IfMissing::kFail);
  if (!place) return place.error();
  const Result<Named> named = LookUpIn(place->folder, place->name);
  if (!named) return named.error();
  if (named->kind == Kind::kNothing) return Error("is missing");
  if (named->kind != Kind::kFile) return Error("is no regular file");
  return named->size;
}

Result<UniqueFd> SnapshotFiles::Create(const std::string& name) {
  const Result<Place> place = PlaceOf(name, IfMissing::kMake);
  if (!place) return place.error();
  return CreateFileIn(place->folder, place->name);
}

Result<SnapshotFiles::Tree> SnapshotFiles::Read() {
  Tree tree;
  if (Result<void> read = ReadInto(tree, folder_, ""); !read) return std::move(read.error());
  std::sort(tree.files.begin(), tree.files.end());
  std::sort(tree.folders.begin(), tree.folders.end());
  return tree;
}

Result<void> SnapshotFiles::ReadInto(Tree& tree, int folder, const std::string& prefix) {
  const Result<std::vector<std::string>> names = NamesIn(folder);
  if (!names) return names.error();
  for (const std::string& each : *names) {
    const std::string name = prefix + each;
    const Result<Named> named = LookUpIn(folder, each);
    if (!named) return named.error();
    if (named->kind == Kind::kFolder && prefix.empty()) {
      const Result<UniqueFd> inner = OpenFolderIn(folder, each);
      if (!inner) return inner.error();
      tree.folders.push_back(name);
      if (Result<void> read = ReadInto(tree, inner->get(), name + "/"); !read) return read;
      continue;
    }
    if (named->kind != Kind::kFile) return Error(Quoted(name) + ": is no regular file");
    if (prefix.empty() && each == "manifest.json") {
      tree.files.push_back(name);
      continue;
    }
    if (!IsFileName(name)) return Error(Quoted(name) + ": has a name that no manifest may have");
    tree.files.push_back(name);
  }
  return {};
}

}  // namespace modal::snapshot

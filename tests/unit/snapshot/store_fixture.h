// A snapshot folder for tests, with snapshots of a few small files in it.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/check.h"
#include "snapshot/store.h"
#include "tests/unit/agent/temp_folder.h"

namespace modal::snapshot {

inline const std::string kKey(32, 'a');
inline const std::string kOtherKey = "0123456789abcdef0123456789abcdef";

using Contents = std::map<std::string, std::string>;

inline const Contents& SomeContents() {
  static const Contents contents{
      {"images/core-1.img", "registers"},
      {"images/pages-1.img", std::string(9000, 'p')},
      {"criu.kdat", ""},
  };
  return contents;
}

inline Manifest SomeManifest() {
  Manifest manifest;
  manifest.created_unix_ms = 1'700'000'000'000;
  manifest.agent_version = "1.2.3";
  manifest.kernel = "6.1.0";
  manifest.command = {"python3", "app.py"};
  return manifest;
}

// For code that runs in a child too: it ends the process that calls it where anything goes wrong.
inline std::unique_ptr<Store> OpenStore(const std::string& folder,
                                        Store::Use use = Store::Use::kWrite) {
  Result<std::unique_ptr<Store>> store = Store::Open(folder, use);
  MODAL_CHECK(store.ok());
  return *std::move(store);
}

inline Result<void> Put(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary);
  file << bytes << std::flush;
  if (!file) return Error::FromErrno(path, errno);
  return {};
}

inline Result<void> Fill(const Staging& staging, const Contents& contents) {
  for (const auto& [name, bytes] : contents) {
    if (Result<void> put = Put(staging.path() + "/" + name, bytes); !put) return put;
  }
  return {};
}

// Stages, fills, publishes. An Error too if somebody else has it.
inline Result<void> Make(Store& store, const std::string& key, Manifest manifest = SomeManifest(),
                         const Contents& contents = SomeContents()) {
  Result<std::unique_ptr<Staging>> staging = store.Stage(key);
  if (!staging) return std::move(staging.error());
  if (!*staging) return Error("somebody else is at it");
  if (Result<void> filled = Fill(**staging, contents); !filled) return filled;
  return store.Publish(*std::move(staging), std::move(manifest));
}

inline std::vector<std::string> NamesOf(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

inline std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// "" if all is well, else what is wrong: there is none of this key, or a whole one.
inline std::string WholeOrNotThere(Store& store, const std::string& key, bool* is_there) {
  const Result<std::optional<Store::Found>> found = store.Find(key);
  if (!found) return found.error().message();
  *is_there = found->has_value();
  if (!*is_there) return "";
  const Result<void> verified = store.Verify(key);
  if (!verified) return verified.error().message();
  return (*found)->manifest.files.size() == SomeContents().size() ? "" : "files are missing";
}

struct StoreFixture {
  test::TempFolder temp;
  const std::string folder = temp.path() + "/snapshots";
  std::unique_ptr<Store> store = OpenStore(folder);

  std::string PathOf(const std::string& name, const std::string& key = kKey) const {
    return folder + "/" + key + "/" + name;
  }
};

// What an Error says; "" if it is none.
template <class T>
std::string Problem(const Result<T>& result) {
  return result ? "" : result.error().message();
}

}  // namespace modal::snapshot

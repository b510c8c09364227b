#include "snapshot/read_ahead.h"

#include <dirent.h>
#include <sched.h>
#include <sys/stat.h>

#include <string_view>
#include <system_error>
#include <utility>

namespace modal::snapshot {
namespace {

constexpr std::string_view kConda = "conda-meta";
constexpr int kMaxDepth = 100;
constexpr size_t kMostEntries = 200'000;  // are kept

}  // namespace

ReadAhead::ReadAhead(int root, uint64_t mount, std::vector<std::string> trees, Enters enters)
    : root_(root), mount_(mount), trees_(std::move(trees)), enters_(std::move(enters)) {
  if (std::thread::hardware_concurrency() < 2) return;
  try {
    thread_ = std::thread([this] { Run(); });
  } catch (const std::system_error&) {
    // A limit of processes: it goes without.
  }
}

ReadAhead::~ReadAhead() {
  {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

std::shared_ptr<const SeenFolder> ReadAhead::Take(const std::string& path) {
  const std::lock_guard lock(mutex_);
  Folder& folder = folders_.try_emplace(path, Folder{State::kTaken, nullptr}).first->second;
  folder.state = State::kTaken;
  return std::move(folder.seen);
}

void ReadAhead::Leave(const std::string& path) {
  const std::lock_guard lock(mutex_);
  const auto folder = folders_.find(path);
  if (folder != folders_.end()) folder->second.state = State::kLeft;
}

void ReadAhead::Run() {
  const sched_param none{};
  (void)::sched_setscheduler(0, SCHED_IDLE, &none);
  for (size_t i = trees_.size(); i-- > 0 && !IsOver();) {
    path_ = trees_[i];
    Walk(root_, Below(path_), 0);
  }
}

bool ReadAhead::IsOver() {
  if (entries_ > kMostEntries) return true;
  const std::lock_guard lock(mutex_);
  return is_over_;
}

// The folder at `path_`.
void ReadAhead::Walk(int above, const char* name, int depth) {
  const std::optional<State> before = Claim();
  if (before && *before != State::kTaken) return;
  int code = 0;
  const UniqueFd folder = OpenFolder(above, name, code);
  FileFacts facts;
  const bool counts = folder && Look(folder.get(), "", facts) == 0 && facts.mount == mount_;
  if (before) {  // whoever asks is in it
    Listing listing;
    if (!counts || listing.Read(folder.get()) != 0 || listing.Has(kConda)) return;
    return WalkWithin(folder.get(), listing, depth);
  }
  const std::shared_ptr<SeenFolder> seen = counts ? Read(folder.get()) : nullptr;
  if (seen) seen->facts = facts;
  Put(seen);
  if (!seen) return;
  entries_ += seen->entries.size();
  WalkWithin(folder.get(), seen->listing, depth);
}

// Nothing: it is ours to read.
std::optional<ReadAhead::State> ReadAhead::Claim() {
  const std::lock_guard lock(mutex_);
  const auto [folder, is_new] = folders_.try_emplace(path_, Folder{State::kReading, nullptr});
  if (is_new) return std::nullopt;
  return folder->second.state;
}

void ReadAhead::Put(std::shared_ptr<const SeenFolder> seen) {
  const std::lock_guard lock(mutex_);
  Folder& folder = folders_.at(path_);
  if (folder.state != State::kReading) return;
  folder.state = State::kRead;
  folder.seen = std::move(seen);
}

std::shared_ptr<SeenFolder> ReadAhead::Read(int folder) const {
  auto seen = std::make_shared<SeenFolder>();
  if (seen->listing.Read(folder) != 0 || seen->listing.Has(kConda)) return nullptr;
  seen->entries.resize(seen->listing.size());
  for (size_t i = 0; i < seen->entries.size(); ++i) {
    const char* name = seen->listing.name(i);
    SeenEntry& entry = seen->entries[i];
    const unsigned char type = seen->listing.type(i);
    if (type == DT_REG || type == DT_UNKNOWN) entry.code = Look(folder, name, entry.facts);
    if (type == DT_LNK) entry.target = LinkTarget(folder, name);
  }
  return seen;
}

void ReadAhead::WalkWithin(int folder, const Listing& listing, int depth) {
  if (depth >= kMaxDepth) return;
  const size_t length = path_.size();
  for (size_t i = listing.size(); i-- > 0 && !IsOver();) {
    const char* name = listing.name(i);
    if (listing.type(i) != DT_DIR || !enters_(path_, name)) continue;
    if (!path_.empty()) path_ += '/';
    path_ += name;
    Walk(folder, name, depth + 1);
    path_.resize(length);
  }
}

}  // namespace modal::snapshot

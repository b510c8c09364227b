#include "snapshot/fingerprint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <deque>
#include <fstream>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "agent/base/strings.h"
#include "snapshot/checksum.h"
#include "snapshot/listing.h"
#include "snapshot/program_files.h"
#include "snapshot/read_ahead.h"

namespace modal::snapshot {
namespace {

using std::string_view_literals::operator""sv;

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kFirstTrustedTime =
    978'393'600;  // 2001-01-02: reproducible builds set older ones
constexpr int kMaxDepth = 100;
// Times max_hashed: of packages; and of small files, which are programs more often than data.
constexpr uint64_t kPackageBudget = 8;
constexpr uint64_t kSmallBudget = 4;

constexpr uint64_t kSmall = uint64_t{256} << 10;  // what is larger is sampled at more places
constexpr uint64_t kEnds = uint64_t{64} << 10;
constexpr uint64_t kPage = 4096;
constexpr int kPages = 14;
constexpr uint64_t kMaxSampled = 4096;
constexpr size_t kPiece = size_t{64} << 10;

// What a container runtime writes into each container, and what says nothing about the program.
constexpr std::array kPerContainer{".dockerenv"sv,
                                   "etc/hostname"sv,
                                   "etc/hosts"sv,
                                   "etc/machine-id"sv,
                                   "etc/modal-agent/config"sv,
                                   "etc/mtab"sv,
                                   "etc/podinfo"sv,
                                   "etc/resolv.conf"sv,
                                   "opt/modal-agent"sv,
                                   "run/secrets/kubernetes.io"sv,
                                   "var/run/secrets/kubernetes.io"sv};

constexpr std::array kPackageFolders{"node_modules"sv, "site-packages"sv, "dist-packages"sv,
                                     "vendor"sv};

// What programs leave behind where they run: on a volume the next container finds it.
constexpr std::array kLeftBehind{".git"sv,        ".hg"sv,           ".svn"sv,
                                 ".cache"sv,      ".pytest_cache"sv, ".mypy_cache"sv,
                                 ".ruff_cache"sv, "nohup.out"sv};
constexpr std::array kLeftBehindSuffixes{".log"sv, ".pid"sv,     ".sqlite"sv, ".sqlite3"sv,
                                         ".db"sv,  "-journal"sv, "-wal"sv,    "-shm"sv,
                                         ".swp"sv, ".tmp"sv};
constexpr std::array kTextSuffixes{
    ".py"sv,   ".pyx"sv,  ".so"sv,         ".js"sv,   ".mjs"sv,  ".cjs"sv,   ".ts"sv,   ".mts"sv,
    ".jsx"sv,  ".tsx"sv,  ".vue"sv,        ".json"sv, ".yaml"sv, ".yml"sv,   ".toml"sv, ".ini"sv,
    ".cfg"sv,  ".conf"sv, ".env"sv,        ".xml"sv,  ".sql"sv,  ".php"sv,   ".phar"sv, ".rb"sv,
    ".ru"sv,   ".erb"sv,  ".pl"sv,         ".pm"sv,   ".lua"sv,  ".sh"sv,    ".java"sv, ".class"sv,
    ".jar"sv,  ".war"sv,  ".properties"sv, ".html"sv, ".j2"sv,   ".jinja"sv, ".tmpl"sv, ".css"sv,
    ".wasm"sv, ".pem"sv,  ".crt"sv,        ".key"sv,  ".lock"sv, ".r"sv,     ".R"sv};

template <class Names>
bool Has(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

template <class Suffixes>
bool EndsWithOne(const Suffixes& suffixes, std::string_view name) {
  return std::any_of(suffixes.begin(), suffixes.end(),
                     [&](std::string_view suffix) { return name.ends_with(suffix); });
}

bool IsLeftBehind(std::string_view name) {
  // "app.log.3", too.
  return Has(kLeftBehind, name) || EndsWithOne(kLeftBehindSuffixes, name) ||
         name.find(".log.") != std::string_view::npos;
}

// Program text or configuration, as far as a name tells; or a program.
bool IsText(std::string_view name, const FileFacts& facts) {
  return EndsWithOne(kTextSuffixes, name) || name.starts_with(".env") ||
         (facts.mode & S_IXUSR) != 0;
}

std::string Inside(const std::string& folder, std::string_view name) {
  return folder.empty() ? std::string(name) : Concat(folder, "/", name);
}

// "a/b" into "a" and "b".
std::pair<std::string, std::string> Cut(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {"", path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

// What of a folder counts, by the mount that it lies on.
enum class Mount {
  kImage,     // the root's: all
  kGiven,     // another, of a folder that belongs to the program: all but what is left behind
  kReadOnly,  // another: all, but Kubernetes' own names
  kText,      // another, writable: program text and configuration
};

// How a part is looked at.
struct Scope {
  bool by_contents = true;
  bool follows_links = false;
  bool is_deep = true;
  bool is_rest = false;                  // of the image: writable mounts do not count
  Mount writable_start = Mount::kGiven;  // the part itself lies on a writable mount
  Mount writable_within = Mount::kText;  // one is met below
};

Scope ScopeOf(PartKind kind) {
  switch (kind) {
    case PartKind::kHome:
      return {.follows_links = true};
    case PartKind::kNamed:
      return {.follows_links = true, .writable_start = Mount::kText};
    case PartKind::kShallow:
      return {.follows_links = true, .is_deep = false};
    case PartKind::kPackages:
      return {.by_contents = false, .follows_links = true, .writable_within = Mount::kGiven};
    case PartKind::kEtc:
      return {.is_rest = true};
    case PartKind::kRest:
      return {.by_contents = false, .is_rest = true};
    case PartKind::kProgram:
      return {.by_contents = false};
    case PartKind::kFile:
    case PartKind::kNames:
      break;
  }
  return {};
}

// Where something is mounted, below `root` and relative to it.
std::optional<std::set<std::string>> MountPoints(const std::string& root) {
  std::ifstream table("/proc/self/mountinfo");
  if (!table) return std::nullopt;
  const std::string above = root.ends_with('/') ? root : root + "/";
  std::set<std::string> points;
  for (std::string line; std::getline(table, line);) {
    const std::vector<std::string> fields = Split(line, ' ');
    if (fields.size() < 5) continue;
    std::string point;
    for (size_t i = 0; i < fields[4].size(); ++i) {  // "\040" is a blank
      const std::string_view octal = std::string_view(fields[4]).substr(i);
      if (octal.size() < 4 || octal[0] != '\\') {
        point += octal[0];
        continue;
      }
      point += static_cast<char>((octal[1] - '0') * 64 + (octal[2] - '0') * 8 + (octal[3] - '0'));
      i += 3;
    }
    if (point.starts_with(above) && point.size() > above.size()) {
      points.insert(point.substr(above.size()));
    }
  }
  return points;
}

// A folder on our way, which is opened when its descriptor is needed first.
class Place {
 public:
  explicit Place(UniqueFd folder) : folder_(std::move(folder)) {}
  Place(Place& above, const char* name) : above_(&above), name_(name) {}

  // -1: it cannot be opened (any more).
  int Open() {
    int code = 0;
    if (!folder_ && above_) folder_ = OpenFolder(above_->Open(), name_, code);
    return folder_.get();
  }

 private:
  UniqueFd folder_;
  Place* above_ = nullptr;
  const char* name_ = nullptr;
};

class Fingerprinter {
 public:
  // Files changed at `blind_second` are known by their contents.
  Fingerprinter(const FingerprintSpec& spec, int root, std::optional<int64_t> blind_second)
      : spec_(spec), root_(root), blind_second_(blind_second) {
    own_budget_ = {.large = spec.max_hashed, .small = spec.max_hashed * kSmallBudget};
    package_budget_ = {.large = spec.max_hashed * kPackageBudget,
                       .small = spec.max_hashed * kPackageBudget};
  }

  Result<void> Look(const std::vector<Part>& parts) {
    FileFacts facts;
    if (const int code = snapshot::Look(root_, "", facts)) {
      return Error::FromErrno(spec_.root, code);
    }
    root_mount_ = facts.mount;
    for (const std::string_view path : kPerContainer) LeaveOut(std::string(path));
    for (const std::string& path : spec_.left_out) {
      const auto resolved = Resolve(root_, "", path);
      if (resolved && !resolved->empty()) LeaveOut(*resolved);
    }
    std::optional<std::set<std::string>> points;
    if (spec_.mounted_only) {
      points = MountPoints(spec_.root);
      if (!points) return Error("/proc/self/mountinfo cannot be read: what is mounted is unknown");
    }
    if (!points && spec_.reads_ahead) BeginReading(parts);
    for (const Part& part : parts) {
      if (points) {
        AddMounted(part, *points);
      } else {
        AddPart(part);
      }
      while (!waiting_.empty() && !error_) {
        const Waiting next = std::move(waiting_.front());
        waiting_.pop_front();
        LookAtPart(next);
      }
      if (error_) return *std::move(error_);
    }
    if (!is_rest_too_large_ && rest_files_ > 0) all_.Add(rest_.Text());
    return {};
  }

  // The time that a builder has set on most of the files, if there is one.
  std::optional<int64_t> SharedSecond() const {
    if (times_newest_ != newest_ || times_at_newest_ * 3 <= times_) return std::nullopt;
    if (newest_ < kFirstTrustedTime) return std::nullopt;  // not trusted anyway
    return newest_;
  }

  FingerprintResult Get() const {
    return {all_parts_ > 0 ? all_.Text() : "", files_ + rest_files_, hashed_};
  }

 private:
  struct Waiting {
    Part part;
    std::string label;  // goes into the hash instead of the path: how it was met
    Scope scope;
    bool has_limit;  // a read-only mount in the rest of the image
  };

  // How many bytes may still be hashed whole, of files over and up to kSmall.
  struct Budget {
    uint64_t large = 0;
    uint64_t small = 0;
    uint64_t samples = kMaxSampled;  // so many files may be sampled
  };

  void BeginReading(const std::vector<Part>& parts) {
    std::vector<std::string> trees;
    for (const Part& part : parts) {
      const bool is_tree = part.kind != PartKind::kFile && part.kind != PartKind::kProgram &&
                           part.kind != PartKind::kNames && part.kind != PartKind::kShallow;
      if (is_tree && !IsLeftOutPath(part.path)) trees.push_back(part.path);
    }
    // What it calls changes no more.
    ahead_.emplace(root_, root_mount_, std::move(trees),
                   [this](const std::string& folder, const char* name) {
                     if (name == "__pycache__"sv || IsSystemFolder(Inside(folder, name))) {
                       return false;
                     }
                     const auto left_out = left_out_.find(folder);
                     return left_out == left_out_.end() || !left_out->second.contains(name);
                   });
  }

  // ---- parts ----

  void LookAtPart(const Waiting& waiting) {
    if (waiting.scope.is_rest && !waiting.has_limit && is_rest_too_large_) return;
    Checksum checksum;
    part_ = &checksum;
    part_files_ = 0;
    part_limit_ = waiting.has_limit ? kMaxMounted : 0;
    scope_ = waiting.scope;
    bool was_there = false;
    switch (waiting.part.kind) {
      case PartKind::kFile:
      case PartKind::kProgram:
        was_there = LookAtFile(waiting.part.path);
        break;
      case PartKind::kNames:
        was_there = LookAtNames(waiting.part.path);
        break;
      default:
        was_there = LookAtTree(waiting.part.path);
        break;
    }
    part_ = nullptr;
    if (waiting.part.kind == PartKind::kShallow && part_files_ == 0) return;
    if (!was_there || error_) return;
    ++all_parts_;
    Checksum& to = waiting.scope.is_rest && !waiting.has_limit ? rest_ : all_;
    to.Add(Concat(static_cast<int>(waiting.part.kind), ":", waiting.label));
    to.Add({"", 1});
    const bool is_too_large = part_limit_ != 0 && part_files_ > part_limit_;
    to.Add(is_too_large ? "-" : checksum.Text());
  }

  void AddPart(const Part& part) {
    const Scope scope = ScopeOf(part.kind);
    if (scope.is_rest && IsMounted(part.path)) return AddMountedRest(part.path);
    waiting_.push_back({part, part.path, scope, false});
  }

  // In the rest of the image: if it is read-only, and not too large.
  void AddMountedRest(const std::string& path) {
    const Scope scope{.follows_links = true, .is_rest = true};
    waiting_.push_back({{PartKind::kRest, path}, path, scope, true});
  }

  bool IsMounted(const std::string& path) const {
    FileFacts facts;
    return snapshot::Look(root_, Below(path), facts) == 0 && facts.mount != root_mount_ &&
           facts.mount != 0;
  }

  // Beside a stamp: the part, if it is mounted, else what is mounted below it.
  void AddMounted(const Part& part, const std::set<std::string>& points) {
    FileFacts facts;
    if (snapshot::Look(root_, Below(part.path), facts) != 0 || part.kind == PartKind::kNames) {
      return;
    }
    const Scope scope = ScopeOf(part.kind);
    if (IsMounted(part.path)) return AddPart(part);
    if (!S_ISDIR(facts.mode)) return;
    const std::string above = part.path.empty() ? "" : part.path + "/";
    for (auto point = points.lower_bound(above); point != points.end(); ++point) {
      if (!point->starts_with(above)) break;
      if (!scope.is_deep && point->find('/', above.size()) != std::string::npos) continue;
      if (IsLeftOutPath(*point) || !named_points_.insert(*point).second) continue;
      if (snapshot::Look(root_, point->c_str(), facts) != 0) continue;
      if (S_ISREG(facts.mode)) {
        waiting_.push_back({{PartKind::kFile, *point}, *point, ScopeOf(PartKind::kFile), false});
      } else if (!scope.is_deep || !S_ISDIR(facts.mode)) {
        continue;
      } else if (scope.is_rest) {
        AddMountedRest(*point);
      } else {
        Scope within = scope;
        within.writable_start = scope.writable_within;
        waiting_.push_back({{part.kind, *point}, *point, within, false});
      }
    }
  }

  bool LookAtFile(const std::string& path) {
    if (IsLeftOutPath(path)) return false;
    FileFacts facts;
    if (snapshot::Look(root_, path.c_str(), facts) != 0 || !S_ISREG(facts.mode)) return false;
    const std::string name = Cut(path).second;
    const Mount mount = MountOfFile(facts, Mount::kReadOnly);
    if (mount != Mount::kImage && IsLeftBehind(name)) return false;  // --log-file on a volume
    Count();
    AddFile(nullptr, path.c_str(), name, facts, mount, scope_.by_contents);
    return true;
  }

  bool LookAtNames(const std::string& path) {
    int code = 0;
    const UniqueFd folder = OpenFolder(root_, Below(path), code);
    Listing listing;
    if (!folder || listing.Read(folder.get()) != 0) return false;
    for (size_t i = 0; i < listing.size(); ++i) AddText('n', listing.name(i));
    return true;
  }

  bool LookAtTree(const std::string& path) {
    if (IsLeftOutPath(path)) return false;
    int code = 0;
    Place folder(OpenFolder(root_, Below(path), code));
    path_ = path;
    if (folder.Open() < 0) {
      if (code == ENOENT || code == ENOTDIR || code == ELOOP) return false;
      AddText('u', "");
      return true;
    }
    FileFacts facts;
    if (snapshot::Look(folder.Open(), "", facts) != 0) return false;
    Mount mount = Mount::kImage;
    if (facts.mount != root_mount_) {
      const bool is_read_only = IsReadOnly(folder.Open());
      if (scope_.is_rest && !is_read_only) return false;
      mount = is_read_only ? Mount::kReadOnly : scope_.writable_start;
    }
    const Seen seen = scope_.is_deep ? TakeSeen() : nullptr;
    const bool was_added = AddFolder(folder, seen.get(), facts, mount, scope_.by_contents, 0);
    LeaveSeen();
    return was_added;
  }

  // Where the kernel does not tell a file's mount it counts as its folder's.
  Mount MountOfFile(const FileFacts& facts, Mount otherwise) const {
    return facts.mount == root_mount_ || facts.mount == 0 ? Mount::kImage : otherwise;
  }

  static bool IsReadOnly(int fd) {
    struct statvfs mount {};
    return ::fstatvfs(fd, &mount) == 0 && (mount.f_flag & ST_RDONLY) != 0;
  }

  // ---- left out ----

  void LeaveOut(const std::string& path) {
    const auto [folder, name] = Cut(path);
    left_out_[folder].insert(name);
  }
  // Itself or a folder above it.
  bool IsLeftOutPath(std::string path) const {
    while (!path.empty()) {
      const auto [folder, name] = Cut(path);
      const auto names = left_out_.find(folder);
      if (names != left_out_.end() && names->second.contains(name)) return true;
      path = folder;
    }
    return false;
  }

  // ---- folders ----

  using Seen = std::shared_ptr<const SeenFolder>;

  // The folder at path_, if it has been read ahead.
  Seen TakeSeen() { return ahead_ ? ahead_->Take(path_) : nullptr; }
  void LeaveSeen() {
    if (ahead_) ahead_->Leave(path_);
  }

  // `seen`: null, or what was read of it already. False if it was seen before, or if there is no
  // use in going on with this part.
  bool AddFolder(Place& folder, const SeenFolder* seen, const FileFacts& facts, Mount mount,
                 bool by_contents, int depth) {
    // A shallow look leaves the rest of the folder to a deeper one.
    if (scope_.is_deep && !seen_.insert(path_).second) return false;
    if (depth > kMaxDepth) {
      error_ = Error(Concat("/", path_, ": folders are nested deeper than ", kMaxDepth));
      return false;
    }
    Listing own;
    if (const int code = seen ? 0 : own.Read(folder.Open())) {
      AddText('u', "");
      return code != ENOENT;
    }
    const Listing& listing = seen ? seen->listing : own;
    const auto left_out = left_out_.find(path_);
    // A conda prefix has a file for each package, which stands for it.
    const bool is_conda = scope_.is_rest && listing.Has("conda-meta");
    for (size_t i = 0; i < listing.size(); ++i) {
      const char* name = listing.name(i);
      if (left_out != left_out_.end() && left_out->second.contains(name)) continue;
      if (is_conda && name != "conda-meta"sv && name != "envs"sv) continue;
      if (!CountsByName(name, mount)) continue;
      const SeenEntry* entry = seen ? &seen->entries[i] : nullptr;
      AddEntry(folder, facts, name, entry, listing.type(i), mount, by_contents, depth);
      if (error_ || IsPartTooLarge()) return true;
    }
    return true;
  }

  static bool CountsByName(std::string_view name, Mount mount) {
    if (name == "__pycache__") return false;
    if (mount == Mount::kImage) return true;
    if (name.starts_with("..")) return false;
    return mount == Mount::kReadOnly || !IsLeftBehind(name);
  }

  void AddEntry(Place& folder, const FileFacts& above, const char* name, const SeenEntry* seen,
                unsigned char type, Mount mount, bool by_contents, int depth) {
    FileFacts facts;
    if (type == DT_UNKNOWN || type == DT_REG) {
      const int code = seen ? seen->code : snapshot::Look(folder.Open(), name, facts);
      if (code != 0) return;  // gone
      if (seen) facts = seen->facts;
      type = IFTODT(facts.mode);
    }
    switch (type) {
      case DT_REG:
        if (IsMountedIn(facts, above)) {
          if (IsLeftBehind(name)) return;
          mount = Mount::kReadOnly;
          by_contents = true;
        }
        if (mount == Mount::kText && !IsText(name, facts)) return;
        Count();
        AddFile(&folder, name, mount == Mount::kText ? Inside(path_, name) : name, facts, mount,
                by_contents);
        return;
      case DT_LNK:
        Count();
        AddLink(folder, name, seen, mount, by_contents);
        return;
      case DT_DIR:
        if (scope_.is_deep) AddFolderWithin(folder, above, name, mount, by_contents, depth);
        return;
      default:
        return;  // made at run time, and never opened
    }
  }

  void AddFolderWithin(Place& above, const FileFacts& above_facts, const char* name, Mount mount,
                       bool by_contents, int depth) {
    Count();
    const size_t length = path_.size();
    if (!path_.empty()) path_ += '/';
    path_ += name;
    const Seen seen = TakeSeen();
    AddFolderAt(above, above_facts, name, seen.get(), mount, by_contents, depth);
    LeaveSeen();
    path_.resize(length);
  }

  // The one at path_.
  void AddFolderAt(Place& above, const FileFacts& above_facts, const char* name,
                   const SeenFolder* seen, Mount mount, bool by_contents, int depth) {
    Place folder(above, name);
    FileFacts facts;
    if (seen) {
      facts = seen->facts;
    } else if (folder.Open() < 0) {
      AddText('u', name);
      return;
    } else if (snapshot::Look(folder.Open(), "", facts) != 0) {
      return;
    }
    if (facts.mount != above_facts.mount) {
      const bool is_read_only = IsReadOnly(folder.Open());
      if (facts.mount == root_mount_) {
        mount = Mount::kImage;
      } else if (!scope_.is_rest) {
        mount = is_read_only ? Mount::kReadOnly : scope_.writable_within;
      } else {
        if (!IsSystemFolder(path_)) AddMountedRest(path_);
        return;
      }
    }
    if (!IsSystemFolder(path_) || scope_.is_rest) {
      if (Has(kPackageFolders, name)) {
        by_contents = false;
        if (mount == Mount::kText) mount = Mount::kGiven;
      }
      // On a writable volume folders come and go: there a file's whole path counts instead.
      if (mount == Mount::kImage) {
        AddText('d', name, facts.mode & 07777);
      } else if (mount != Mount::kText) {
        AddText('d', name);
      }
      (void)AddFolder(folder, seen, facts, mount, by_contents, depth + 1);
      if (mount != Mount::kText) AddText('e', "");
    }
  }

  void AddLink(Place& folder, const char* name, const SeenEntry* seen, Mount mount,
               bool by_contents) {
    const std::optional<std::string> target = seen ? seen->target : LinkTarget(folder.Open(), name);
    if (!target) return;
    AddText('l', mount == Mount::kText ? Inside(path_, name) : name);
    AddText('>', *target);
    // Links to neighbours lead to what is looked at anyway, unless its name does not count.
    const bool is_near = target->find('/') == std::string::npos && !target->starts_with("..");
    const bool follows = scope_.follows_links || mount == Mount::kReadOnly;
    if (!follows || is_near) return;
    const auto resolved = Resolve(root_, path_, *target);
    if (!resolved || IsSystemFolder(*resolved) || IsLeftOutPath(*resolved)) return;
    FileFacts facts;
    if (snapshot::Look(root_, Below(*resolved), facts) != 0) return;
    if (S_ISREG(facts.mode)) {
      const bool is_of_system = IsSystemFolder(Cut(*resolved).first);
      AddFile(nullptr, resolved->c_str(), name, facts, MountOfFile(facts, mount),
              by_contents && !is_of_system);
    } else if (S_ISDIR(facts.mode)) {
      waiting_.push_back(
          {{PartKind::kNamed, *resolved}, Inside(path_, name), ScopeOf(PartKind::kNamed), false});
    }
  }

  // ---- files ----

  // `folder`: null: `path` is one below the root.
  void AddFile(Place* folder, const char* path, std::string_view name, const FileFacts& facts,
               Mount mount, bool by_contents) {
    // Volumes come with masks and modes of their own.
    AddText('f', name, facts.mode & (mount == Mount::kImage ? 07777 : S_IXUSR), facts.size);
    const int64_t second = facts.mtime_ns / kSecond;
    if (mount == Mount::kImage) {
      newest_ = std::max(newest_, second);
      if (!by_contents) CountTime(second);
    }
    if (by_contents) {
      AddContents(folder, path, facts, own_budget_);
    } else if (second < kFirstTrustedTime || second == blind_second_) {
      AddContents(folder, path, facts, package_budget_);
    } else {
      AddText('t', "", static_cast<uint64_t>(second));
    }
  }

  void CountTime(int64_t second) {
    ++times_;
    if (second > times_newest_) times_newest_ = second, times_at_newest_ = 0;
    if (second == times_newest_) ++times_at_newest_;
  }

  void AddContents(Place* folder, const char* path, const FileFacts& facts, Budget& budget) {
    if (facts.size == 0) return;
    int code = 0;
    const UniqueFd file = OpenFile(folder ? folder->Open() : root_, path, code);
    // What we cannot read the program cannot read either. Its time may be that of this container:
    // where an image has no /etc/passwd podman writes one for --user, which that user cannot read.
    if (!file) return AddText('u', "");
    uint64_t& left = facts.size > kSmall ? budget.large : budget.small;
    if (facts.size <= left) {
      left -= facts.size;
      AddBytes(file.get(), 0, facts.size);
      return;
    }
    AddText('t', "", static_cast<uint64_t>(facts.mtime_ns / kSecond));
    if (budget.samples == 0) return;
    --budget.samples;
    const uint64_t ends = facts.size > kSmall ? kEnds : kPage;
    AddBytes(file.get(), 0, std::min(ends, facts.size));
    if (facts.size <= 2 * ends) return AddBytes(file.get(), 0, facts.size);
    AddBytes(file.get(), facts.size - ends, ends);
    if (facts.size <= kSmall) return;
    const uint64_t step = (facts.size - 2 * ends) / (kPages + 1);
    for (uint64_t i = 1; i <= kPages; ++i) AddBytes(file.get(), ends + i * step, kPage);
  }

  void AddBytes(int fd, uint64_t from, uint64_t size) {
    uint64_t done = 0;
    while (done < size) {
      const size_t wanted = std::min<uint64_t>(size - done, piece_.size());
      const ssize_t got = ::pread(fd, piece_.data(), wanted, static_cast<off_t>(from + done));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) break;
      part_->Add({piece_.data(), static_cast<size_t>(got)});
      done += static_cast<uint64_t>(got);
    }
    hashed_ += done;
    AddText('c', "", done);
  }

  // ---- into the hash ----

  template <class... Numbers>
  void AddText(char kind, std::string_view text, Numbers... numbers) {
    const std::array<uint64_t, sizeof...(Numbers) + 2> head{
        static_cast<uint64_t>(kind), text.size(), static_cast<uint64_t>(numbers)...};
    part_->Add({reinterpret_cast<const char*>(head.data()), sizeof(head)});
    part_->Add(text);
  }

  void Count() {
    ++part_files_;
    if (part_limit_ != 0) return;
    if (scope_.is_rest) {
      if (++rest_files_ > kMaxRest) is_rest_too_large_ = true;
      return;
    }
    if (++files_ > spec_.max_files && !error_) {
      error_ =
          Error(Concat("there are more than ", spec_.max_files, " files (now in /", path_, ")"));
    }
  }
  bool IsPartTooLarge() const {
    return part_limit_ != 0 ? part_files_ > part_limit_ : scope_.is_rest && is_rest_too_large_;
  }

  const FingerprintSpec& spec_;
  const int root_;
  const std::optional<int64_t> blind_second_;
  uint64_t root_mount_ = 0;
  std::unordered_map<std::string, std::set<std::string, std::less<>>> left_out_;  // by folder
  std::deque<Waiting> waiting_;
  std::set<std::string> named_points_;
  // Folders, by path: not every file system has a number of its own for each.
  std::unordered_set<std::string> seen_;
  std::optional<Error> error_;

  Checksum all_;
  Checksum rest_;
  Checksum* part_ = nullptr;  // of the part that is looked at, like the following
  Scope scope_;
  std::string path_;
  uint64_t part_files_ = 0;
  uint64_t part_limit_ = 0;  // 0: none

  uint64_t all_parts_ = 0;
  uint64_t files_ = 0;
  uint64_t rest_files_ = 0;
  bool is_rest_too_large_ = false;
  uint64_t hashed_ = 0;
  Budget own_budget_;
  Budget package_budget_;
  int64_t newest_ = 0;
  uint64_t times_ = 0;  // files that are known by time
  int64_t times_newest_ = 0;
  uint64_t times_at_newest_ = 0;
  std::array<char, kPiece> piece_;
  std::optional<ReadAhead> ahead_;
};

}  // namespace

Result<FingerprintResult> Fingerprint(const FingerprintSpec& spec) {
  int code = 0;
  const UniqueFd root = OpenFolder(AT_FDCWD, spec.root.c_str(), code);
  if (!root) return Error::FromErrno(spec.root, code);
  const Result<std::vector<Part>> parts = PartsOf(spec, root.get());
  if (!parts) return parts.error();
  std::optional<int64_t> blind_second;
  for (;;) {
    const auto fingerprinter = std::make_unique<Fingerprinter>(spec, root.get(), blind_second);
    const Result<void> looked = fingerprinter->Look(*parts);
    if (!looked) return looked.error();
    if (blind_second || !fingerprinter->SharedSecond()) return fingerprinter->Get();
    blind_second = fingerprinter->SharedSecond();
  }
}

}  // namespace modal::snapshot

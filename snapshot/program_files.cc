#include "snapshot/program_files.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <unordered_set>
#include <utility>

#include "agent/base/strings.h"
#include "agent/process/executable.h"
#include "snapshot/listing.h"

namespace modal::snapshot {
namespace {

using std::string_view_literals::operator""sv;

constexpr int kScriptDepth = 4;      // scripts that run scripts
constexpr size_t kMaxBases = 16;     // folders that relative words are tried in
constexpr size_t kMaxNames = 4'000;  // of one text
constexpr size_t kMaxScript = size_t{64} << 10;
constexpr size_t kMaxHead = 4'096;

// Sorted.
constexpr std::array kSystemFolders{""sv,
                                    "bin"sv,
                                    "boot"sv,
                                    "dev"sv,
                                    "dev/shm"sv,
                                    "etc"sv,
                                    "home"sv,
                                    "lib"sv,
                                    "lib32"sv,
                                    "lib64"sv,
                                    "libx32"sv,
                                    "media"sv,
                                    "mnt"sv,
                                    "proc"sv,
                                    "root/.local/bin"sv,
                                    "run"sv,
                                    "run/lock"sv,
                                    "run/secrets"sv,
                                    "sbin"sv,
                                    "sys"sv,
                                    "tmp"sv,
                                    "usr"sv,
                                    "usr/bin"sv,
                                    "usr/lib"sv,
                                    "usr/lib64"sv,
                                    "usr/libexec"sv,
                                    "usr/local"sv,
                                    "usr/local/bin"sv,
                                    "usr/local/etc"sv,
                                    "usr/local/lib"sv,
                                    "usr/local/sbin"sv,
                                    "usr/local/share"sv,
                                    "usr/sbin"sv,
                                    "usr/share"sv,
                                    "usr/src"sv,
                                    "var"sv,
                                    "var/cache"sv,
                                    "var/lib"sv,
                                    "var/log"sv,
                                    "var/run"sv,
                                    "var/tmp"sv};
static_assert(std::is_sorted(kSystemFolders.begin(), kSystemFolders.end()));

// Of the folders at the top: what the package manager owns, what is written at run time, and what
// is looked at in pieces.
constexpr std::array kNotRest{"bin"sv,   "boot"sv,  "dev"sv,    "etc"sv,        "gnu"sv,   "lib"sv,
                              "lib32"sv, "lib64"sv, "libx32"sv, "lost+found"sv, "media"sv, "mnt"sv,
                              "nix"sv,   "proc"sv,  "run"sv,    "sbin"sv,       "snap"sv,  "sys"sv,
                              "tmp"sv,   "usr"sv,   "var"sv};
static_assert(std::is_sorted(kNotRest.begin(), kNotRest.end()));

constexpr std::array kScriptSuffixes{".py"sv,  ".pyz"sv, ".js"sv,  ".mjs"sv, ".cjs"sv, ".ts"sv,
                                     ".mts"sv, ".rb"sv,  ".ru"sv,  ".php"sv, ".pl"sv,  ".psgi"sv,
                                     ".lua"sv, ".jar"sv, ".war"sv, ".sh"sv};

// Folders in variables, separated by colons.
constexpr std::array kHomeVariables{"PYTHONPATH"sv, "RUBYLIB"sv, "PERL5LIB"sv, "CLASSPATH"sv,
                                    "PHP_INI_SCAN_DIR"sv};
constexpr std::array kPackageVariables{"NODE_PATH"sv, "GEM_HOME"sv, "GEM_PATH"sv, "BUNDLE_PATH"sv};
constexpr std::array kPrefixVariables{"VIRTUAL_ENV"sv, "CONDA_PREFIX"sv, "PYTHONHOME"sv,
                                      "PYTHONUSERBASE"sv};
// Tokens that the platform renews by itself, another one for each container.
constexpr std::array kTokenVariables{"AWS_WEB_IDENTITY_TOKEN_FILE"sv,
                                     "AZURE_FEDERATED_TOKEN_FILE"sv};

enum class Language { kNone, kPython, kNode, kJava, kPhp, kRuby, kPerl, kShell };

struct ProgramName {
  std::string_view start;
  Language language;
};
constexpr std::array kPrograms{
    ProgramName{"python", Language::kPython},     ProgramName{"pypy", Language::kPython},
    ProgramName{"conda", Language::kPython},      ProgramName{"mamba", Language::kPython},
    ProgramName{"micromamba", Language::kPython}, ProgramName{"uv", Language::kPython},
    ProgramName{"uvx", Language::kPython},        ProgramName{"node", Language::kNode},
    ProgramName{"npm", Language::kNode},          ProgramName{"npx", Language::kNode},
    ProgramName{"yarn", Language::kNode},         ProgramName{"pnpm", Language::kNode},
    ProgramName{"bun", Language::kNode},          ProgramName{"deno", Language::kNode},
    ProgramName{"java", Language::kJava},         ProgramName{"php", Language::kPhp},
    ProgramName{"ruby", Language::kRuby},         ProgramName{"perl", Language::kPerl},
    ProgramName{"sh", Language::kShell},          ProgramName{"bash", Language::kShell},
    ProgramName{"dash", Language::kShell},        ProgramName{"ash", Language::kShell},
    ProgramName{"zsh", Language::kShell},         ProgramName{"ksh", Language::kShell},
    ProgramName{"busybox", Language::kShell}};

std::string_view NameOf(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

std::string FolderOf(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? "" : std::string(path.substr(0, slash));
}

std::string Join(std::string_view folder, std::string_view name) {
  return folder.empty() ? std::string(name) : Concat(folder, "/", name);
}

// "python3.11" is python, "node22" is node, "php-fpm8.2" is php; "shuf" is no shell.
Language LanguageOf(std::string_view program) {
  for (const ProgramName& known : kPrograms) {
    if (!program.starts_with(known.start)) continue;
    std::string_view version = program.substr(known.start.size());
    if (version.starts_with("js") && known.language == Language::kNode) version.remove_prefix(2);
    if (version.starts_with("-fpm") || version.starts_with("-cgi")) version.remove_prefix(4);
    if (version.find_first_not_of("-.0123456789") == std::string_view::npos) return known.language;
  }
  return Language::kNone;
}

bool IsScriptName(std::string_view path) {
  return std::any_of(kScriptSuffixes.begin(), kScriptSuffixes.end(),
                     [&](std::string_view suffix) { return path.ends_with(suffix); });
}

bool IsModuleName(std::string_view word) {
  return !word.empty() &&
         std::all_of(word.begin(), word.end(),
                     [](char c) {
                       return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                              (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
                     }) &&
         word.front() != '.' && word.front() != '-';
}

class Finder {
 public:
  Finder(const FingerprintSpec& spec, int root) : spec_(spec), root_(root) {}

  Result<std::vector<Part>> Find() {
    const auto workdir = Resolve(root_, "", spec_.workdir);
    FileFacts facts;
    if (!workdir || Look(root_, Below(*workdir), facts) != 0 || !S_ISDIR(facts.mode)) {
      return Error(Concat("working folder ", spec_.workdir, ": no such folder"));
    }
    workdir_ = *workdir;
    bases_.push_back(workdir_);
    const std::string search = Variable("PATH").value_or(std::string(process::kDefaultPath));
    search_ = Split(search, ':');
    AddFolder(workdir_, PartKind::kHome);
    AddWord(spec_.executable, /*may_be_program=*/true);
    for (const std::string& word : spec_.arguments) AddWord(word, /*may_be_program=*/true);
    for (const std::string& hook : spec_.hooks) AddWord(hook, /*may_be_program=*/true);
    AddVariables();
    AddPackages();
    AddRest();
    std::stable_sort(parts_.begin(), parts_.end(),
                     [](const Part& a, const Part& b) { return a.kind < b.kind; });
    return std::move(parts_);
  }

 private:
  // ---- what is where ----

  void Add(PartKind kind, const std::string& path) {
    if (path.starts_with("proc/") || path.starts_with("sys/") || path.starts_with("dev/")) return;
    if (known_.emplace(kind, path).second) parts_.push_back({kind, path});
  }

  mode_t ModeOf(const std::string& path) const {
    FileFacts facts;
    return Look(root_, Below(path), facts) == 0 ? facts.mode : 0;
  }
  bool IsFolder(const std::string& path) const { return S_ISDIR(ModeOf(path)); }

  void AddFolder(const std::string& path, PartKind kind) {
    Add(IsSystemFolder(path) ? PartKind::kShallow : kind, path);
  }

  // `path` may be a link, or missing.
  std::optional<std::string> ExistingFolder(std::string_view base, const std::string& path) const {
    std::optional<std::string> found = Resolve(root_, base, path);
    if (!found || !IsFolder(*found)) return std::nullopt;
    return found;
  }

  void AddPackageFolder(const std::string& path) {
    const auto found = ExistingFolder("", path);
    if (found && !IsSystemFolder(*found)) Add(PartKind::kPackages, *found);
  }

  std::optional<std::string> Variable(std::string_view name) const {
    for (const std::string& variable : spec_.environment) {
      if (variable.size() > name.size() && variable.starts_with(name) &&
          variable[name.size()] == '=') {
        return variable.substr(name.size() + 1);
      }
    }
    return std::nullopt;
  }

  std::vector<std::string> NamesInFolder(const std::string& path) const {
    int error = 0;
    const UniqueFd folder = OpenFolder(root_, Below(path), error);
    Listing listing;
    std::vector<std::string> names;
    if (!folder || listing.Read(folder.get()) != 0) return names;
    for (size_t i = 0; i < listing.size(); ++i) names.emplace_back(listing.name(i));
    return names;
  }

  // ---- words ----

  void AddWord(const std::string& word, bool may_be_program) {
    AddName(word, may_be_program);
    const std::vector<std::string> names = WordsIn(word);
    if (names.size() == 1 && names.front() == word) return;
    for (const std::string& name : names) AddName(name, may_be_program);
  }

  void AddName(const std::string& name, bool may_be_program) {
    if (name.empty() || !tried_.insert(name).second) return;
    if (name.front() == '/') {
      AddPath("", name);
      return;
    }
    // By index: a name may lead to another base.
    for (size_t i = 0; i < bases_.size(); ++i) {
      const std::string base = bases_[i];
      AddPath(base, name);
      AddModule(base, name);
    }
    if (may_be_program && name.find('/') == std::string::npos) AddByPath(name);
  }

  void AddPath(const std::string& base, const std::string& name) {
    const auto path = Resolve(root_, base, name);
    if (!path) return;
    const mode_t mode = ModeOf(*path);
    if (S_ISREG(mode)) {
      Add(PartKind::kFile, *path);
      AddScript(*path, 0);
      // A venv's python is a link: which venv it is, the link knows.
      AddProgram(Join(name.front() == '/' ? "" : base, name.substr(name.front() == '/')));
      AddProgram(*path);
      return;
    }
    if (!S_ISDIR(mode) || IsSystemFolder(*path)) return;
    Add(PartKind::kNamed, *path);
    AddBase(*path);
  }

  void AddBase(const std::string& path) {
    if (bases_.size() >= kMaxBases) return;
    if (std::find(bases_.begin(), bases_.end(), path) != bases_.end()) return;
    bases_.push_back(path);
    // Names that came before ("python app.py" in a hook, then --chdir) count there, too.
    const std::vector<std::string> before(tried_.begin(), tried_.end());
    for (const std::string& name : before) {
      if (name.front() == '/') continue;
      AddPath(path, name);
      AddModule(path, name);
    }
  }

  // "pkg.module" (python -m, uvicorn, gunicorn) is below pkg/ or in pkg.py.
  void AddModule(const std::string& base, const std::string& name) {
    if (!IsModuleName(name)) return;
    const std::string top = name.substr(0, name.find('.'));
    if (const auto folder = ExistingFolder(base, top); folder && !IsSystemFolder(*folder)) {
      Add(PartKind::kNamed, *folder);
    }
    const auto file = Resolve(root_, base, top + ".py");
    if (file && S_ISREG(ModeOf(*file))) Add(PartKind::kFile, *file);
  }

  void AddByPath(const std::string& name) {
    for (const std::string& folder : search_) {
      const std::string place = Concat(folder.empty() ? "." : folder, "/", name);
      const auto path = Resolve(root_, workdir_, place);
      const mode_t mode = path ? ModeOf(*path) : 0;
      if (!S_ISREG(mode) || (mode & (S_IXUSR | S_IXGRP | S_IXOTH)) == 0) continue;
      Add(name == spec_.executable ? PartKind::kFile : PartKind::kProgram, *path);
      AddScript(*path, 0);
      AddProgram(place.front() == '/' ? place.substr(1) : Join(workdir_, place));
      AddProgram(*path);
      return;
    }
  }

  // If `path` is a script: its interpreter, its folder, and what it names if it is the shell's.
  void AddScript(const std::string& path, int depth) {
    if (depth >= kScriptDepth || !scripts_.insert(path).second) return;
    const std::optional<std::string> head = ReadHead(root_, path.c_str(), kMaxHead);
    const bool has_interpreter = head && head->starts_with("#!");
    if (!has_interpreter && !IsScriptName(path)) return;
    AddScriptFolder(FolderOf(path));
    bool is_shell = path.ends_with(".sh");
    if (has_interpreter) {
      const std::string line = head->substr(2, std::min(head->find('\n'), head->size()) - 2);
      for (const std::string& word : WordsIn(line)) {
        is_shell |= LanguageOf(NameOf(word)) == Language::kShell;
        if (word.front() != '/') {
          AddByPath(word);  // of env(1)
          continue;
        }
        const auto interpreter = Resolve(root_, "", word);
        if (!interpreter || !S_ISREG(ModeOf(*interpreter))) continue;
        Add(PartKind::kProgram, *interpreter);
        AddScript(*interpreter, depth + 1);
        AddProgram(word.substr(1));
        AddProgram(*interpreter);
      }
    }
    if (!is_shell) return;
    const std::optional<std::string> text = ReadHead(root_, path.c_str(), kMaxScript);
    if (!text) return;
    for (const std::string& name : WordsIn(*text)) AddName(name, /*may_be_program=*/true);
  }

  void AddScriptFolder(const std::string& folder) {
    if (IsSystemFolder(folder) || NameOf(folder) == "bin" || NameOf(folder) == "sbin") return;
    Add(PartKind::kHome, folder);
    AddBase(folder);
  }

  // ---- languages ----

  // `path` is that of a program, as it was named, or resolved.
  void AddProgram(const std::string& path) {
    const Language language = LanguageOf(NameOf(path));
    if (language == Language::kNone || language == Language::kShell) return;
    languages_.insert(language);
    const std::string folder = FolderOf(path);
    if (NameOf(folder) == "shims") {  // pyenv, rbenv
      for (const std::string& version : NamesInFolder(FolderOf(folder) + "/versions")) {
        prefixes_.insert(Concat(FolderOf(folder), "/versions/", version));
      }
    }
    prefixes_.insert(FolderOf(folder));
  }

  void AddVariables() {
    for (const std::string_view name : kHomeVariables) {
      for (const std::string& piece : Split(Variable(name).value_or(""), ':')) {
        if (piece.empty()) continue;
        if (const auto folder = ExistingFolder(workdir_, StripStar(piece))) {
          AddFolder(*folder, PartKind::kHome);
          AddBase(*folder);
        } else {
          AddWord(piece, /*may_be_program=*/false);
        }
      }
    }
    for (const std::string_view name : kPackageVariables) {
      for (const std::string& piece : Split(Variable(name).value_or(""), ':')) {
        if (const auto folder = ExistingFolder(workdir_, piece)) AddPackageFolder("/" + *folder);
      }
    }
    for (const std::string_view name : kPrefixVariables) {
      if (const auto folder = ExistingFolder(workdir_, Variable(name).value_or(""))) {
        prefixes_.insert(*folder);
      }
    }
    for (const std::string& variable : spec_.environment) {
      const size_t equals = variable.find('=');
      if (equals == std::string::npos || variable[equals + 1] != '/') continue;
      const std::string_view name = std::string_view(variable).substr(0, equals);
      if (std::find(kTokenVariables.begin(), kTokenVariables.end(), name) !=
          kTokenVariables.end()) {
        continue;
      }
      const auto file = Resolve(root_, "", variable.substr(equals + 1));
      if (file && S_ISREG(ModeOf(*file))) Add(PartKind::kFile, *file);
    }
    for (const std::string_view name :
         {"JAVA_TOOL_OPTIONS"sv, "JDK_JAVA_OPTIONS"sv, "NODE_OPTIONS"sv, "RUBYOPT"sv,
          "GUNICORN_CMD_ARGS"sv, "LD_PRELOAD"sv}) {
      if (const auto value = Variable(name)) AddWord(*value, /*may_be_program=*/false);
    }
  }

  static std::string StripStar(const std::string& path) {
    return path.ends_with("/*") ? path.substr(0, path.size() - 2) : path;
  }

  void AddPackages() {
    const std::string home = Variable("HOME").value_or("/root");
    if (languages_.contains(Language::kPython)) {
      prefixes_.insert({"usr", "usr/local"});
      if (home.size() > 1 && home.front() == '/') prefixes_.insert(home.substr(1) + "/.local");
      // By value: a conda prefix holds more of them.
      for (const std::string& prefix : std::set<std::string>(prefixes_)) AddPythonPrefix(prefix);
    }
    if (languages_.contains(Language::kNode)) AddNodePackages();
    if (languages_.contains(Language::kJava)) {
      for (const std::string& prefix : prefixes_) {
        const auto release = Resolve(root_, "", Concat("/", prefix, "/release"));
        if (release && S_ISREG(ModeOf(*release))) Add(PartKind::kFile, *release);
      }
    }
    if (languages_.contains(Language::kPhp)) {
      for (const char* folder : {"/usr/share/php", "/usr/local/lib/php", "/usr/share/pear"}) {
        AddPackageFolder(folder);
      }
      if (const auto www = ExistingFolder("", "/var/www")) Add(PartKind::kNamed, *www);
    }
    if (languages_.contains(Language::kRuby)) AddRubyPackages(home);
    if (languages_.contains(Language::kPerl)) {
      for (const char* folder : {"/usr/share/perl5", "/usr/local/share/perl"}) {
        AddPackageFolder(folder);
      }
    }
  }

  void AddPythonPrefix(const std::string& prefix) {
    for (const char* lib : {"lib", "lib64", "local/lib"}) {
      const std::string folder = Join(prefix, lib);
      for (const std::string& name : NamesInFolder(folder)) {
        if (LanguageOf(name) != Language::kPython) continue;
        for (const char* packages : {"site-packages", "dist-packages"}) {
          AddSitePackages(Concat("/", folder, "/", name, "/", packages));
        }
      }
    }
    const std::string marker = Join(prefix, "pyvenv.cfg");
    if (S_ISREG(ModeOf(marker))) Add(PartKind::kFile, marker);
    const std::string conda = Join(prefix, "conda-meta");
    if (!IsFolder(conda)) return;
    Add(PartKind::kPackages, conda);
    for (const std::string& name : NamesInFolder(Join(prefix, "envs"))) {
      const std::string inner = Concat(Join(prefix, "envs"), "/", name);
      if (prefixes_.insert(inner).second) AddPythonPrefix(inner);
    }
  }

  // Packages that were installed to be edited lie elsewhere: a .pth file or a finder names where.
  void AddSitePackages(const std::string& path) {
    const auto found = ExistingFolder("", path);
    if (!found || !known_.emplace(PartKind::kPackages, *found).second) return;
    parts_.push_back({PartKind::kPackages, *found});
    for (const std::string& name : NamesInFolder(*found)) {
      if (!name.ends_with(".pth") && !name.starts_with("__editable__")) continue;
      const auto text = ReadHead(root_, Join(*found, name).c_str(), kMaxScript);
      for (const std::string& word : WordsIn(text.value_or(""))) {
        if (word.front() != '/') continue;
        const auto folder = ExistingFolder("", word);
        if (folder && !IsSystemFolder(*folder)) Add(PartKind::kHome, *folder);
      }
    }
  }

  void AddNodePackages() {
    std::vector<std::string> homes;
    for (const Part& part : parts_) {
      if (part.kind == PartKind::kHome || part.kind == PartKind::kShallow) {
        homes.push_back(part.path);
      }
    }
    for (std::string folder : homes) {
      for (; !folder.empty(); folder = FolderOf(folder)) {
        AddPackageFolder(Concat("/", folder, "/node_modules"));
      }
    }
    AddPackageFolder("/node_modules");
    for (const std::string& prefix : prefixes_) {
      AddPackageFolder(Concat("/", prefix, "/lib/node_modules"));
    }
    for (const char* folder :
         {"/usr/local/lib/node_modules", "/usr/lib/node_modules", "/usr/share/nodejs"}) {
      AddPackageFolder(folder);
    }
  }

  void AddRubyPackages(const std::string& home) {
    for (const std::string& prefix : prefixes_) {
      AddPackageFolder(Concat("/", prefix, "/lib/ruby/gems"));
      AddPackageFolder(Concat("/", prefix, "/lib/ruby/site_ruby"));
    }
    for (const char* folder :
         {"/var/lib/gems", "/usr/local/bundle", "/usr/share/rubygems-integration"}) {
      AddPackageFolder(folder);
    }
    AddPackageFolder(home + "/.gem");
  }

  // ---- the rest of the image ----

  void AddRest() {
    Add(PartKind::kShallow, "");
    for (const std::string& name : NamesInFolder("")) {
      if (!std::binary_search(kNotRest.begin(), kNotRest.end(), std::string_view(name)) &&
          IsFolder(name)) {
        Add(PartKind::kRest, name);
      }
    }
    for (const char* folder : {"usr/local", "usr/src", "var/www", "var/task", "var/lib/gems"}) {
      if (IsFolder(folder)) Add(PartKind::kRest, folder);
    }
    if (IsFolder("etc")) Add(PartKind::kEtc, "etc");
    if (IsFolder("run/secrets")) Add(PartKind::kShallow, "run/secrets");
    for (const char* folder : {"nix/store", "gnu/store"}) {
      if (IsFolder(folder)) Add(PartKind::kNames, folder);
    }
    for (const char* database : {"var/lib/dpkg/status", "lib/apk/db/installed",
                                 "usr/lib/apk/db/installed", "var/lib/rpm/rpmdb.sqlite",
                                 "var/lib/rpm/Packages", "usr/lib/sysimage/rpm/rpmdb.sqlite"}) {
      const auto path = Resolve(root_, "", database);
      if (path && S_ISREG(ModeOf(*path))) Add(PartKind::kFile, *path);
    }
    // Distroless images have one file for each package instead.
    for (const char* folder : {"var/lib/dpkg/status.d", "var/lib/pacman/local"}) {
      if (IsFolder(folder)) Add(PartKind::kNames, folder);
    }
  }

  const FingerprintSpec& spec_;
  const int root_;
  std::string workdir_;
  std::vector<std::string> search_;
  std::vector<std::string> bases_;
  std::vector<Part> parts_;
  std::set<std::pair<PartKind, std::string>> known_;
  std::set<std::string> tried_;
  std::unordered_set<std::string> scripts_;
  std::set<Language> languages_;
  std::set<std::string> prefixes_;  // of interpreters: "usr", "app/.venv"
};

}  // namespace

Result<std::vector<Part>> PartsOf(const FingerprintSpec& spec, int root) {
  return Finder(spec, root).Find();
}

bool IsSystemFolder(std::string_view path) {
  return std::binary_search(kSystemFolders.begin(), kSystemFolders.end(), path) ||
         path.starts_with("proc/") || path.starts_with("sys/") || path.starts_with("dev/");
}

std::vector<std::string> WordsIn(std::string_view text) {
  constexpr std::string_view kBetween = " \t\r\n;|&()<>\"'`=,:{}[]\\$";
  std::vector<std::string> names;
  std::unordered_set<std::string> known;
  while (!text.empty() && names.size() < kMaxNames) {
    std::string_view piece = text.substr(0, text.find_first_of(kBetween));
    text.remove_prefix(std::min(piece.size() + 1, text.size()));
    if (piece.starts_with('@')) piece.remove_prefix(1);  // java @arguments
    // "-I/usr/include", "-c/etc/x": the path is behind the letter.
    if (piece.starts_with('-')) piece.remove_prefix(std::min(piece.find('/'), piece.size()));
    if (piece.ends_with("/*")) piece.remove_suffix(2);
    if (piece.empty() || piece == "." || piece == "/") continue;
    if (known.emplace(piece).second) names.emplace_back(piece);
  }
  return names;
}

}  // namespace modal::snapshot

#include "agent/process/seccomp_profile.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <string.h>

#include <algorithm>
#include <array>
#include <exception>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "agent/base/strings.h"
#include "agent/process/capabilities.h"

namespace modal::process {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxErrno = 4095;  // MAX_ERRNO in the kernel
constexpr unsigned kArguments = 6;

struct Named {
  std::string_view name;
  uint32_t value;
};

// The macros with a number take it in their lower 16 bits.
constexpr std::array kActions{
    Named{"SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD},
    Named{"SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD},
    Named{"SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS},
    Named{"SCMP_ACT_TRAP", SCMP_ACT_TRAP},
    Named{"SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0)},
    Named{"SCMP_ACT_TRACE", SCMP_ACT_TRACE(0)},
    Named{"SCMP_ACT_LOG", SCMP_ACT_LOG},
    Named{"SCMP_ACT_ALLOW", SCMP_ACT_ALLOW},
};

constexpr std::array kOperators{
    Named{"SCMP_CMP_NE", SCMP_CMP_NE},
    Named{"SCMP_CMP_LT", SCMP_CMP_LT},
    Named{"SCMP_CMP_LE", SCMP_CMP_LE},
    Named{"SCMP_CMP_EQ", SCMP_CMP_EQ},
    Named{"SCMP_CMP_GE", SCMP_CMP_GE},
    Named{"SCMP_CMP_GT", SCMP_CMP_GT},
    Named{"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ},
};

// `arch` is the name in includes.arches and excludes.arches.
struct Architecture {
  std::string_view name;
  uint32_t value;
  std::string_view arch;
};

constexpr std::array kArchitectures{
    Architecture{"SCMP_ARCH_X86", SCMP_ARCH_X86, "x86"},
    Architecture{"SCMP_ARCH_X86_64", SCMP_ARCH_X86_64, "amd64"},
    Architecture{"SCMP_ARCH_X32", SCMP_ARCH_X32, "x32"},
    Architecture{"SCMP_ARCH_ARM", SCMP_ARCH_ARM, "arm"},
    Architecture{"SCMP_ARCH_AARCH64", SCMP_ARCH_AARCH64, "arm64"},
    Architecture{"SCMP_ARCH_MIPS", SCMP_ARCH_MIPS, "mips"},
    Architecture{"SCMP_ARCH_MIPS64", SCMP_ARCH_MIPS64, "mips64"},
    Architecture{"SCMP_ARCH_MIPS64N32", SCMP_ARCH_MIPS64N32, "mips64n32"},
    Architecture{"SCMP_ARCH_MIPSEL", SCMP_ARCH_MIPSEL, "mipsel"},
    Architecture{"SCMP_ARCH_MIPSEL64", SCMP_ARCH_MIPSEL64, "mipsel64"},
    Architecture{"SCMP_ARCH_MIPSEL64N32", SCMP_ARCH_MIPSEL64N32, "mipsel64n32"},
    Architecture{"SCMP_ARCH_PARISC", SCMP_ARCH_PARISC, "parisc"},
    Architecture{"SCMP_ARCH_PARISC64", SCMP_ARCH_PARISC64, "parisc64"},
    Architecture{"SCMP_ARCH_PPC", SCMP_ARCH_PPC, "ppc"},
    Architecture{"SCMP_ARCH_PPC64", SCMP_ARCH_PPC64, "ppc64"},
    Architecture{"SCMP_ARCH_PPC64LE", SCMP_ARCH_PPC64LE, "ppc64le"},
    Architecture{"SCMP_ARCH_RISCV64", SCMP_ARCH_RISCV64, "riscv64"},
    Architecture{"SCMP_ARCH_S390", SCMP_ARCH_S390, "s390"},
    Architecture{"SCMP_ARCH_S390X", SCMP_ARCH_S390X, "s390x"},
};

// TSYNC is what a program that starts with one thread does not need.
constexpr std::array kFlags{
    Named{"SECCOMP_FILTER_FLAG_TSYNC", 0},
    Named{"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
    Named{"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
};

template <class Table>
std::vector<std::string> NamesOf(const Table& table) {
  std::vector<std::string> names;
  names.reserve(table.size());
  for (const auto& entry : table) names.emplace_back(entry.name);
  return names;
}

std::string DidYouMean(std::string_view word, std::span<const std::string> known) {
  const std::optional<std::string> nearest = Nearest(word, known);
  return nearest ? Concat("; did you mean ", *nearest, "?") : "";
}

// EPERM for "EPERM".
std::optional<uint64_t> ErrnoByName(const std::string& name) {
  for (int code = 1; code < 256; ++code) {
    const char* const known = ::strerrorname_np(code);
    if (known != nullptr && name == known) return static_cast<uint64_t>(code);
  }
  return std::nullopt;
}

// A value within the file, and the way to it.
class Node {
 public:
  Node(const Json* value, std::string path) : value_(value), path_(std::move(path)) {}

  // A key that is missing and one that is null are the same.
  bool exists() const { return value_ != nullptr && !value_->is_null(); }
  const std::string& path() const { return path_; }

  Node At(const char* key) const {
    const std::string path = path_.empty() ? key : Concat(path_, ".", key);
    if (!exists() || !value_->is_object()) return {nullptr, path};
    const auto found = value_->find(key);
    return {found == value_->end() ? nullptr : &*found, path};
  }

  Error Wrong(std::string_view problem) const {
    return Error(path_.empty() ? std::string(problem) : Concat(path_, ": ", problem));
  }

  // An object, or nothing, without any key but these.
  Result<void> CheckKeys(std::initializer_list<std::string_view> known) const {
    if (!exists()) return {};
    if (!value_->is_object()) return Wrong("must be an object");
    for (const auto& [key, value] : value_->items()) {
      if (std::find(known.begin(), known.end(), key) != known.end()) continue;
      const std::vector<std::string> names(known.begin(), known.end());
      return Wrong(Concat("unknown key '", key, "'", DidYouMean(key, names)));
    }
    return {};
  }

  // Nothing is the empty list.
  Result<std::vector<Node>> Items() const {
    std::vector<Node> items;
    if (!exists()) return items;
    if (!value_->is_array()) return Wrong("must be a list");
    for (size_t i = 0; i < value_->size(); ++i) {
      items.emplace_back(&(*value_)[i], Concat(path_, "[", i, "]"));
    }
    return items;
  }

  Result<std::string> Text() const {
    if (!exists()) return Wrong("is missing");
    if (!value_->is_string()) return Wrong("must be a text");
    return value_->get<std::string>();
  }

  Result<std::vector<std::string>> Texts() const {
    const Result<std::vector<Node>> items = Items();
    if (!items) return items.error();
    std::vector<std::string> texts;
    for (const Node& item : *items) {
      Result<std::string> text = item.Text();
      if (!text) return text.error();
      texts.push_back(*std::move(text));
    }
    return texts;
  }

  Result<uint64_t> Number(uint64_t most) const {
    if (!exists()) return Wrong("is missing");
    if (!value_->is_number_unsigned()) return Wrong("must be a whole number, 0 or more");
    const auto number = value_->get<uint64_t>();
    if (number > most) return Wrong(Concat(number, " is too high; the most is ", most));
    return number;
  }

  template <class Table>
  Result<const typename Table::value_type*> OneOf(const Table& table, std::string_view kind) const {
    const Result<std::string> text = Text();
    if (!text) return text.error();
    for (const auto& entry : table) {
      if (entry.name == *text) return &entry;
    }
    return Wrong(Concat("unknown ", kind, " '", *text, "'", DidYouMean(*text, NamesOf(table))));
  }

 private:
  const Json* value_;
  std::string path_;
};

class ProfileReader {
 public:
  explicit ProfileReader(const SeccompSurroundings& surroundings) : surroundings_(surroundings) {}

  Result<SeccompProfile> Read(const Node& root) {
    if (auto done = root.CheckKeys({"defaultAction", "defaultErrnoRet", "defaultErrno", "archMap",
                                    "architectures", "syscalls", "flags", "listenerPath",
                                    "listenerMetadata"});
        !done) {
      return done.error();
    }
    if (root.At("listenerPath").exists()) {
      return root.At("listenerPath").Wrong("notifying another program is not supported");
    }
    const Result<uint32_t> action =
        ReadAction(root.At("defaultAction"), root.At("defaultErrnoRet"), root.At("defaultErrno"));
    if (!action) return action.error();
    profile_.default_action = *action;
    if (auto done = ReadArchitectures(root); !done) return done.error();
    if (auto done = ReadFlags(root.At("flags")); !done) return done.error();
    const Result<std::vector<Node>> rules = root.At("syscalls").Items();
    if (!rules) return rules.error();
    for (const Node& rule : *rules) {
      if (auto done = ReadRule(rule); !done) return done.error();
    }
    return std::move(profile_);
  }

 private:
  Result<uint32_t> ReadAction(const Node& action, const Node& number, const Node& name) {
    const Result<std::string> text = action.Text();
    if (!text) return text.error();
    if (*text == "SCMP_ACT_NOTIFY") {
      return action.Wrong("SCMP_ACT_NOTIFY is not supported: nobody here could be asked");
    }
    const auto found = action.OneOf(kActions, "action");
    if (!found) return found.error();
    const uint32_t value = (*found)->value;
    const bool takes_errno = value == SCMP_ACT_ERRNO(0) || value == SCMP_ACT_TRACE(0);
    // Tools that generate profiles write both forms, and both also where no errno is returned.
    const Result<uint64_t> code = ReadErrno(number, name);
    if (!code) return code.error();
    return takes_errno ? value | static_cast<uint32_t>(*code) : value;
  }

  Result<uint64_t> ReadErrno(const Node& number, const Node& name) {
    if (number.exists()) return number.Number(kMaxErrno);
    if (!name.exists()) return uint64_t{EPERM};
    const Result<std::string> text = name.Text();
    if (!text) return text.error();
    if (text->empty()) return uint64_t{EPERM};
    if (const auto code = ErrnoByName(*text)) return *code;
    return name.Wrong(Concat("'", *text, "' is no errno name"));
  }

  Result<void> ReadArchitectures(const Node& root) {
    const Node map = root.At("archMap");
    const Node list = root.At("architectures");
    if (map.exists() && list.exists()) {
      return list.Wrong("stands beside archMap; a profile has one of them");
    }
    if (list.exists()) return AddArchitectures(list);
    const Result<std::vector<Node>> entries = map.Items();
    if (!entries) return entries.error();
    for (const Node& entry : *entries) {
      if (auto done = entry.CheckKeys({"architecture", "subArchitectures"}); !done) return done;
      const auto main = entry.At("architecture").OneOf(kArchitectures, "architecture");
      if (!main) return main.error();
      const size_t before = profile_.architectures.size();
      if (auto done = AddArchitectures(entry.At("subArchitectures")); !done) return done;
      if ((*main)->value != ::seccomp_arch_native()) profile_.architectures.resize(before);
    }
    return {};
  }

  Result<void> AddArchitectures(const Node& list) {
    const Result<std::vector<Node>> items = list.Items();
    if (!items) return items.error();
    for (const Node& item : *items) {
      const auto found = item.OneOf(kArchitectures, "architecture");
      if (!found) return found.error();
      profile_.architectures.push_back((*found)->value);
    }
    return {};
  }

  Result<void> ReadFlags(const Node& list) {
    const Result<std::vector<Node>> items = list.Items();
    if (!items) return items.error();
    for (const Node& item : *items) {
      const auto found = item.OneOf(kFlags, "flag");
      if (!found) return found.error();
      profile_.flags |= (*found)->value;
    }
    return {};
  }

  Result<void> ReadRule(const Node& node) {
    if (auto done = node.CheckKeys({"names", "name", "action", "args", "errnoRet", "errno",
                                    "includes", "excludes", "comment"});
        !done) {
      return done;
    }
    SeccompRule rule;
    if (auto done = ReadNames(node, rule); !done) return done;
    const Result<uint32_t> action =
        ReadAction(node.At("action"), node.At("errnoRet"), node.At("errno"));
    if (!action) return action.error();
    rule.action = *action;
    const Result<std::vector<Node>> conditions = node.At("args").Items();
    if (!conditions) return conditions.error();
    for (const Node& condition : *conditions) {
      const Result<scmp_arg_cmp> read = ReadCondition(condition);
      if (!read) return read.error();
      rule.conditions.push_back(*read);
    }
    const Result<bool> applies = Applies(node);
    if (!applies) return applies.error();
    profile_.known_names.insert(profile_.known_names.end(), rule.names.begin(), rule.names.end());
    if (*applies) profile_.rules.push_back(std::move(rule));
    return {};
  }

  Result<void> ReadNames(const Node& node, SeccompRule& rule) {
    const Node many = node.At("names");
    const Node one = node.At("name");
    Result<std::vector<std::string>> names = many.Texts();
    if (!names) return names.error();
    if (one.exists()) {
      Result<std::string> name = one.Text();
      if (!name) return name.error();
      if (!name->empty()) {
        if (!names->empty()) return one.Wrong("stands beside names; a rule has one of them");
        names->push_back(*std::move(name));
      }
    }
    if (names->empty()) return many.Wrong("is missing: the rule names no system call");
    if (std::any_of(names->begin(), names->end(), [](const auto& name) { return name.empty(); })) {
      return many.Wrong("holds an empty name");
    }
    rule.names = *std::move(names);
    return {};
  }

  Result<scmp_arg_cmp> ReadCondition(const Node& node) {
    if (auto done = node.CheckKeys({"index", "value", "valueTwo", "op"}); !done) {
      return done.error();
    }
    constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
    const Result<uint64_t> index = node.At("index").Number(kArguments - 1);
    if (!index) return index.error();
    const Result<uint64_t> value = node.At("value").Number(kMost);
    if (!value) return value.error();
    const Node second = node.At("valueTwo");
    const Result<uint64_t> value_two = second.exists() ? second.Number(kMost) : uint64_t{0};
    if (!value_two) return value_two.error();
    const auto op = node.At("op").OneOf(kOperators, "operator");
    if (!op) return op.error();
    // For SCMP_CMP_MASKED_EQ the value is the mask and valueTwo what must be left.
    return scmp_arg_cmp{static_cast<unsigned>(*index), static_cast<scmp_compare>((*op)->value),
                        *value, *value_two};
  }

  // Whether this rule is for us: all that it includes is here, and nothing that it excludes.
  Result<bool> Applies(const Node& rule) {
    const Node includes = rule.At("includes");
    const Node excludes = rule.At("excludes");
    for (const Node& node : {includes, excludes}) {
      if (auto done = node.CheckKeys({"caps", "arches", "minKernel"}); !done) return done.error();
    }
    const Result<Surrounding> wanted = ReadSurrounding(includes);
    if (!wanted) return wanted.error();
    const Result<Surrounding> unwanted = ReadSurrounding(excludes);
    if (!unwanted) return unwanted.error();
    return (wanted->capabilities & ~surroundings_.capabilities) == 0 &&
           (!wanted->names_arches || wanted->is_our_arch) &&
           (!wanted->names_kernel || wanted->is_our_kernel) &&
           (unwanted->capabilities & surroundings_.capabilities) == 0 &&
           !(unwanted->names_arches && unwanted->is_our_arch) &&
           !(unwanted->names_kernel && unwanted->is_our_kernel);
  }

  struct Surrounding {
    uint64_t capabilities = 0;
    bool names_arches = false;
    bool is_our_arch = false;
    bool names_kernel = false;
    bool is_our_kernel = false;  // or an older one
  };

  Result<Surrounding> ReadSurrounding(const Node& node) {
    Surrounding read;
    const Result<std::vector<Node>> capabilities = node.At("caps").Items();
    if (!capabilities) return capabilities.error();
    for (const Node& item : *capabilities) {
      const Result<std::string> text = item.Text();
      if (!text) return text.error();
      const Result<uint64_t> set = ParseCapabilities(*text);
      if (!set) return item.Wrong(set.error().message());
      read.capabilities |= *set;
    }
    const Result<std::vector<std::string>> arches = node.At("arches").Texts();
    if (!arches) return arches.error();
    read.names_arches = !arches->empty();
    for (const Architecture& known : kArchitectures) {
      if (known.value != ::seccomp_arch_native()) continue;
      read.is_our_arch = std::find(arches->begin(), arches->end(), known.arch) != arches->end();
    }
    const Node kernel = node.At("minKernel");
    if (kernel.exists()) {
      const Result<std::string> text = kernel.Text();
      if (!text) return text.error();
      const std::vector<std::string> pieces = Split(*text, '.');
      const std::optional<uint64_t> major = ParseUnsigned(pieces[0]);
      const std::optional<uint64_t> minor =
          pieces.size() == 2 ? ParseUnsigned(pieces[1]) : std::nullopt;
      if (!major || !minor) return kernel.Wrong(Concat("'", *text, "' is not like 4.8"));
      read.names_kernel = true;
      read.is_our_kernel =
          std::pair<uint64_t, uint64_t>(surroundings_.kernel_major, surroundings_.kernel_minor) >=
          std::pair(*major, *minor);
    }
    return read;
  }

  const SeccompSurroundings surroundings_;
  SeccompProfile profile_;
};

// "12:3" for the byte at which the parser stopped.
std::string PlaceOf(std::string_view text, size_t byte) {
  const std::string_view before = text.substr(0, byte == 0 ? 0 : byte - 1);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const size_t line_start = before.rfind('\n') + 1;  // 0 where there is none
  return Concat(line, ":", before.size() - line_start + 1);
}

Result<Json> ParseJson(std::string_view text, const std::string& name) {
  try {
    return Json::parse(text.begin(), text.end());
  } catch (const Json::parse_error& error) {
    return Error(Concat(name, ":", PlaceOf(text, error.byte), ": is not valid JSON"));
  } catch (const std::exception& error) {
    return Error(Concat(name, ": ", error.what()));
  }
}

}  // namespace

Result<SeccompProfile> ReadSeccompProfile(std::string_view json, const std::string& name,
                                          const SeccompSurroundings& surroundings) {
  const Result<Json> document = ParseJson(json, name);
  if (!document) return document.error();
  if (!document->is_object()) return Error(name + ": must be an object");
  Result<SeccompProfile> profile = ProfileReader(surroundings).Read(Node(&*document, ""));
  if (!profile) return std::move(profile.error()).While(name);
  return profile;
}

}  // namespace modal::process

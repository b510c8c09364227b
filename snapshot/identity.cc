#include "snapshot/identity.h"

#include <errno.h>
#include <fcntl.h>

#include <algorithm>
#include <array>
#include <set>

#include "agent/base/strings.h"
#include "agent/policy/sha256.h"
#include "snapshot/counted_variables.h"
#include "snapshot/folder.h"
#include "snapshot/listing.h"

namespace modal::snapshot {
namespace {

constexpr size_t kKeyDigits = 32;
constexpr size_t kVariableDigits = 16;

// Texts in a row such that no two rows are alike: each with its length.
class Row {
 public:
  explicit Row(std::string_view first) { Add(first); }
  Row& Add(std::string_view text) {
    bytes_ += std::to_string(text.size());
    bytes_ += ':';
    bytes_ += text;
    return *this;
  }
  Row& Add(uint64_t number) { return Add(std::to_string(number)); }
  template <class Texts>
  Row& AddAll(const Texts& texts) {
    Add(texts.size());
    for (const auto& text : texts) Add(text);
    return *this;
  }
  std::string Hash(size_t digits) const {
    return policy::ToHex(policy::Sha256(bytes_)).substr(0, digits);
  }

 private:
  std::string bytes_;
};

Result<void> CheckName(std::string_view name, std::string_view what) {
  if (name.empty()) return Error(Concat(what, " is empty"));
  if (name.size() > kLongestName) {
    return Error(Concat(what, " is longer than ", kLongestName, " bytes"));
  }
  const bool has_control = std::any_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) < ' ' || c == '\x7f';
  });
  if (has_control) return Error(Concat(what, " must be one line of text"));
  return {};
}

// Nothing: there is no such file.
Result<std::optional<std::string>> ReadStamp(const std::string& path) {
  const std::string what = "image stamp " + path;
  int code = 0;
  const UniqueFd root = OpenFolder(AT_FDCWD, "/", code);
  if (!root) return Error::FromErrno("/", code);
  const auto resolved = Resolve(root.get(), "", path);
  if (!resolved && (errno == ENOENT || errno == ENOTDIR)) return std::optional<std::string>();
  if (!resolved) return Error::FromErrno(what, errno);
  const UniqueFd file = OpenFile(root.get(), resolved->c_str(), code);
  if (!file && code == EINVAL) return Error(what + ": is not a regular file");
  if (!file) return Error::FromErrno(what, code);
  std::string text(kLongestName + 3, '\0');  // a line end, and a byte too many
  const Result<size_t> size = ReadFull(file.get(), text.data(), text.size());
  if (!size) return Error(size.error()).While(what);
  text.resize(*size);
  const std::string_view line = Trim(text);
  if (const Result<void> checked = CheckName(line, what); !checked) return checked.error();
  return std::optional(std::string(line));
}

// "model name\t: X" into name and value.
std::optional<std::pair<std::string_view, std::string_view>> CutField(std::string_view line) {
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  return std::pair(Trim(line.substr(0, colon)), Trim(line.substr(colon + 1)));
}

}  // namespace

Result<ImageIdentity> IdentifyImage(const std::string& explicit_key, const std::string& stamp_file,
                                    const FingerprintSpec& spec) {
  ImageIdentity identity;
  if (!explicit_key.empty()) {
    if (const auto checked = CheckName(explicit_key, "the snapshot key"); !checked) {
      return checked.error();
    }
    identity.text = "key:" + explicit_key;
    return identity;
  }
  const Result<std::optional<std::string>> stamp = ReadStamp(stamp_file);
  if (!stamp) return stamp.error();
  FingerprintSpec what = spec;
  what.mounted_only = stamp->has_value();
  const Result<FingerprintResult> fingerprint = Fingerprint(what);
  if (!fingerprint) {
    return Error(
        Concat(*stamp ? "what is mounted over the image: " : "no fingerprint of the image: ",
               fingerprint.error().message(), "; --snapshot-key can name it"));
  }
  identity.files = fingerprint->files;
  identity.hashed_bytes = fingerprint->hashed_bytes;
  if (!*stamp) {
    identity.text = "fingerprint:" + fingerprint->digest;
    return identity;
  }
  identity.text = "stamp:" + **stamp;
  if (!fingerprint->digest.empty()) identity.text += "+mounted:" + fingerprint->digest;
  return identity;
}

Key MakeKey(const KeyInputs& inputs) {
  Key key;
  Row row("modal-agent snapshot key 1");
  row.Add(inputs.image.text).AddAll(inputs.command).AddAll(inputs.hooks).Add(inputs.workdir);
  row.Add(inputs.uid).Add(inputs.gid);
  const std::set<gid_t> groups(inputs.groups.begin(), inputs.groups.end());
  row.AddAll(groups);
  row.Add(inputs.capabilities).Add(inputs.no_new_privileges ? "1" : "0");
  const std::set<std::string> limits(inputs.limits.begin(), inputs.limits.end());
  row.AddAll(limits).Add(inputs.port);
  for (const std::string& variable : CountedVariables(inputs.environment, inputs.ignored)) {
    const std::string name = variable.substr(0, variable.find('='));
    const std::string hash = Row("variable")
                                 .Add(inputs.image.text)
                                 .Add(name)
                                 .Add(std::string_view(variable).substr(name.size()))
                                 .Hash(kVariableDigits * 2);
    row.Add(name).Add(hash);
    key.variables.emplace_back(name, hash.substr(0, kVariableDigits));
  }
  row.Add("environment ends").Add(inputs.kernel).Add(inputs.cpu);
  row.Add(inputs.criu_build).Add(inputs.agent_version);
  key.text = row.Hash(kKeyDigits);
  return key;
}

Result<std::string> CpuFeatures(std::string_view cpuinfo) {
  constexpr std::array<std::string_view, 7> kFields{
      "vendor_id",       "cpu family",       "model",                     // x86
      "CPU implementer", "CPU architecture", "CPU variant", "CPU part"};  // ARM
  std::array<std::string, kFields.size()> values;
  std::set<std::string, std::less<>> flags;
  // Processors are apart by an empty line.
  std::string_view first = cpuinfo.substr(0, cpuinfo.find("\n\n"));
  for (const std::string& line : Split(first, '\n')) {
    const auto field = CutField(line);
    if (!field) continue;
    if (field->first == "flags" || field->first == "Features") {
      for (std::string& flag : Split(field->second, ' ')) {
        if (!flag.empty()) flags.insert(std::move(flag));
      }
    }
    const auto known = std::find(kFields.begin(), kFields.end(), field->first);
    if (known != kFields.end()) values[known - kFields.begin()] = field->second;
  }
  if (flags.empty()) return Error("the CPU's features are not told (/proc/cpuinfo)");
  std::string text = Join(values, "/");
  for (const std::string& flag : flags) text += " " + flag;
  return text;
}

}  // namespace modal::snapshot

#include "snapshot/manifest.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <unordered_set>

#include "agent/base/json_writer.h"
#include "agent/base/strings.h"
#include "agent/base/utf8.h"
#include "snapshot/checksum.h"
#include "snapshot/json_fields.h"

namespace modal::snapshot {
namespace {

constexpr size_t kLongestName = 255;  // NAME_MAX
constexpr size_t kChecksumDigits = 32;
constexpr uint64_t kMostBytes = std::numeric_limits<int64_t>::max();

bool IsHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool IsComponent(std::string_view name) {
  if (name.empty() || name.size() > kLongestName || name == "." || name == "..") return false;
  while (!name.empty()) {
    const Utf8Character character = FirstCharacter(name);
    if (!character.valid || character.control || name.front() == '/') return false;
    name.remove_prefix(character.length);
  }
  return true;
}

// JSON numbers of ours end at 63 bits; a mask has 64.
std::string MaskText(uint64_t mask) {
  std::array<char, 16> digits;
  digits.fill('0');
  std::array<char, 16> reversed;
  const auto end = std::to_chars(reversed.begin(), reversed.end(), mask, 16).ptr;
  std::copy(reversed.begin(), end, digits.end() - (end - reversed.begin()));
  return std::string(digits.begin(), digits.end());
}

std::optional<uint64_t> ParseMask(std::string_view text) {
  uint64_t mask = 0;
  if (text.size() != 16 || !IsHex(text)) return std::nullopt;
  std::from_chars(text.data(), text.data() + text.size(), mask, 16);
  return mask;
}

// Sizes beyond 63 bits are nobody's; they come out as one that is refused when it is read.
int64_t Signed(uint64_t number) { return number > kMostBytes ? -1 : static_cast<int64_t>(number); }

void WriteTexts(JsonWriter& json, const char* name, const std::vector<std::string>& texts) {
  json.Key(name).BeginArray();
  for (const std::string& text : texts) json.String(text);
  json.EndArray();
}

void WriteProcess(JsonWriter& json, const DumpedProcess& process) {
  json.BeginObject();
  json.Key("pid").Number(process.pid).Key("parent").Number(process.parent);
  json.Key("name").String(process.name);
  json.Key("memory").Number(Signed(process.memory));
  json.Key("anonymous").Number(Signed(process.anonymous));
  json.Key("threads").Number(process.threads);
  WriteTexts(json, "stack", process.stack);
  json.Key("executable").String(process.executable);
  WriteTexts(json, "command", process.command);
  json.Key("kinds").BeginObject();
  json.Key("heap").Number(Signed(process.kinds.heap));
  json.Key("stack").Number(Signed(process.kinds.stack));
  json.Key("anonymous").Number(Signed(process.kinds.anonymous));
  json.Key("file_private").Number(Signed(process.kinds.file_private));
  json.Key("shared").Number(Signed(process.kinds.shared));
  json.Key("file").Number(Signed(process.kinds.file));
  json.EndObject();
  json.EndObject();
}

void ReadKinds(JsonFields& fields, MemoryKinds& kinds) {
  fields.Number("heap", kinds.heap);
  fields.Number("stack", kinds.stack);
  fields.Number("anonymous", kinds.anonymous);
  fields.Number("file_private", kinds.file_private);
  fields.Number("shared", kinds.shared);
  fields.Number("file", kinds.file);
}

DumpedProcess ReadProcess(JsonFields& fields) {
  DumpedProcess process;
  fields.Number("pid", process.pid, 1);
  fields.Number("parent", process.parent, 0);
  fields.Text("name", process.name);
  fields.Number("memory", process.memory);
  fields.Number("anonymous", process.anonymous);
  fields.Number("threads", process.threads);
  fields.Texts("stack", process.stack);
  fields.Text("executable", process.executable);
  fields.Texts("command", process.command);
  fields.Object("kinds", [&](JsonFields& kinds) { ReadKinds(kinds, process.kinds); });
  return process;
}

DumpedDescriptor ReadDescriptor(JsonFields& fields) {
  DumpedDescriptor descriptor;
  fields.Number("fd", descriptor.fd, 0);
  fields.Text("id", descriptor.id);
  if (descriptor.fd > 2) fields.Wrong("fd", "must be 0, 1 or 2");
  return descriptor;
}

ImageFile ReadFile(JsonFields& fields) {
  ImageFile file;
  fields.Text("name", file.name);
  if (!IsFileName(file.name)) fields.Wrong("name", "is no name of a file in a snapshot");
  fields.Number("size", file.size);
  fields.Text("checksum", file.checksum);
  if (file.checksum.size() != kChecksumDigits || !IsHex(file.checksum)) {
    fields.Wrong("checksum", "must be 32 hex digits");
  }
  return file;
}

void ReadFiles(JsonFields& fields, std::vector<ImageFile>& files) {
  uint64_t total = 0;
  std::unordered_set<std::string> names;
  fields.Objects("files", [&](JsonFields& each) {
    ImageFile file = ReadFile(each);
    if (!each.ok()) return;
    if (!names.insert(file.name).second) return each.Wrong("name", "stands there twice");
    if (file.size > kMostBytes - total) return each.Wrong("size", "is too large");
    total += file.size;
    files.push_back(std::move(file));
  });
}

void ReadTimes(JsonFields& fields, DumpTimes& times) {
  fields.Number("cold_ms", times.cold_ms, -1);
  fields.Number("hooks_ms", times.hooks_ms, -1);
  fields.Number("frozen_ms", times.frozen_ms, -1);
  fields.Number("dump_ms", times.dump_ms, -1);
}

Result<Json> ParseText(std::string_view text) {
  if (text.size() > kLargestManifest) return Error("is too large to be a manifest");
  return ParseJsonObject(text);
}

// The last field is the checksum of all that stands before it.
constexpr std::string_view kChecksumKey = ",\"checksum\":\"";
constexpr std::string_view kEnd = "\"}\n";

std::string Sealed(std::string text) {
  Checksum checksum;
  checksum.Add(text);
  return Concat(std::move(text), kChecksumKey, checksum.Text(), kEnd);
}

bool IsSealed(std::string_view text) {
  const size_t end = text.rfind(kChecksumKey);
  return end != std::string_view::npos && Sealed(std::string(text.substr(0, end))) == text;
}

void ReadFormat(JsonFields& fields, uint32_t& format) { fields.Number("format", format); }

}  // namespace

bool IsKey(std::string_view text) { return text.size() == 32 && IsHex(text); }

bool IsFileName(std::string_view name) {
  if (name == "manifest.json") return false;
  const size_t slash = name.find('/');
  if (slash == std::string_view::npos) return IsComponent(name);
  return IsComponent(name.substr(0, slash)) && IsComponent(name.substr(slash + 1));
}

uint64_t Manifest::TotalBytes() const {
  uint64_t bytes = 0;
  for (const ImageFile& file : files) bytes += file.size;
  return bytes;
}

std::string ToJson(const Manifest& manifest) {
  JsonWriter json;
  json.BeginObject();
  json.Key("format").Number(manifest.format);
  json.Key("key").String(manifest.key);
  json.Key("created_unix_ms").Number(manifest.created_unix_ms);
  json.Key("agent_version").String(manifest.agent_version);
  json.Key("criu_version").String(manifest.criu_version);
  json.Key("criu_build").String(manifest.criu_build);
  json.Key("kernel").String(manifest.kernel);
  json.Key("image_identity").String(manifest.image_identity);
  WriteTexts(json, "command", manifest.command);
  WriteTexts(json, "variables", manifest.variables);
  json.Key("root").Number(manifest.root);
  json.Key("workload").Number(manifest.workload);
  json.Key("capabilities").String(MaskText(manifest.capabilities));
  json.Key("uid").Number(manifest.uid).Key("gid").Number(manifest.gid);
  json.Key("listening").String(manifest.listening);
  json.Key("uptime_ms").Number(Signed(manifest.uptime_ms));
  json.Key("descriptors").BeginArray();
  for (const DumpedDescriptor& descriptor : manifest.descriptors) {
    json.BeginObject().Key("fd").Number(descriptor.fd);
    json.Key("id").String(descriptor.id).EndObject();
  }
  json.EndArray();
  WriteTexts(json, "sockets", manifest.sockets);
  json.Key("touches_files").Bool(manifest.touches_files);
  json.Key("processes").BeginArray();
  for (const DumpedProcess& process : manifest.processes) WriteProcess(json, process);
  json.EndArray();
  json.Key("times").BeginObject();
  json.Key("cold_ms").Number(manifest.times.cold_ms);
  json.Key("hooks_ms").Number(manifest.times.hooks_ms);
  json.Key("frozen_ms").Number(manifest.times.frozen_ms);
  json.Key("dump_ms").Number(manifest.times.dump_ms);
  json.EndObject();
  json.Key("files").BeginArray();
  for (const ImageFile& file : manifest.files) {
    json.BeginObject().Key("name").String(file.name).Key("size").Number(Signed(file.size));
    json.Key("checksum").String(file.checksum).EndObject();
  }
  json.EndArray();
  json.Key("carried_files").Number(Signed(manifest.carried_files));
  json.Key("carried_bytes").Number(Signed(manifest.carried_bytes));
  json.EndObject();
  std::string text = json.Take();
  text.pop_back();  // its brace: one more field
  return Sealed(std::move(text));
}

Result<uint32_t> ParseFormat(std::string_view text) {
  const Result<Json> json = ParseText(text);
  if (!json) return json.error();
  std::optional<Error> problem;
  JsonFields fields(*json, problem);
  uint32_t format = 0;
  ReadFormat(fields, format);
  if (problem) return *problem;
  return format;
}

Result<Manifest> ParseManifest(std::string_view text) {
  const Result<Json> json = ParseText(text);
  if (!json) return json.error();
  std::optional<Error> problem;
  JsonFields fields(*json, problem);
  Manifest manifest;
  ReadFormat(fields, manifest.format);
  if (manifest.format != kFormat) {
    fields.Wrong("format", Concat("is ", manifest.format, ", and this agent knows ", kFormat));
  }
  fields.Text("key", manifest.key);
  if (!IsKey(manifest.key)) fields.Wrong("key", "must be 32 hex digits");
  fields.Number("created_unix_ms", manifest.created_unix_ms, 0);
  fields.Text("agent_version", manifest.agent_version);
  fields.Text("criu_version", manifest.criu_version);
  fields.Text("criu_build", manifest.criu_build);
  fields.Text("kernel", manifest.kernel);
  fields.Text("image_identity", manifest.image_identity);
  fields.Texts("command", manifest.command);
  fields.Texts("variables", manifest.variables);
  fields.Number("root", manifest.root, 0);
  fields.Number("workload", manifest.workload, 0);
  std::string capabilities;
  fields.Text("capabilities", capabilities);
  if (const std::optional<uint64_t> mask = ParseMask(capabilities)) {
    manifest.capabilities = *mask;
  } else {
    fields.Wrong("capabilities", "must be 16 hex digits");
  }
  fields.Number("uid", manifest.uid);
  fields.Number("gid", manifest.gid);
  fields.Text("listening", manifest.listening);
  fields.Number("uptime_ms", manifest.uptime_ms);
  fields.Objects("descriptors",
                 [&](JsonFields& each) { manifest.descriptors.push_back(ReadDescriptor(each)); });
  fields.Texts("sockets", manifest.sockets);
  fields.Flag("touches_files", manifest.touches_files);
  fields.Objects("processes",
                 [&](JsonFields& each) { manifest.processes.push_back(ReadProcess(each)); });
  fields.Object("times", [&](JsonFields& times) { ReadTimes(times, manifest.times); });
  ReadFiles(fields, manifest.files);
  fields.Number("carried_files", manifest.carried_files);
  fields.Number("carried_bytes", manifest.carried_bytes);
  std::string checksum;
  fields.Text("checksum", checksum);
  if (problem) return *problem;
  if (!IsSealed(text)) return Error("its text is not what was written: the checksum differs");
  return manifest;
}

}  // namespace modal::snapshot

#include "agent/snapshot_report.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "agent/base/json_writer.h"
#include "agent/base/strings.h"
#include "agent/process/capabilities.h"
#include "agent/readable.h"
#include "agent/runtime_stack.h"
#include "agent/text_columns.h"

namespace modal {
namespace {

using snapshot::DumpedProcess;
using snapshot::Entry;
using snapshot::Manifest;

using Rows = std::vector<std::vector<std::string>>;

constexpr size_t kShortKey = 12;
constexpr size_t kValueColumn = 13;

// How many digits tell all of them apart; at least kShortKey.
size_t DigitsToShow(const std::vector<Entry>& entries) {
  std::vector<std::string_view> keys;
  for (const Entry& entry : entries) keys.emplace_back(entry.key);
  std::sort(keys.begin(), keys.end());
  size_t digits = kShortKey;
  for (size_t i = 1; i < keys.size(); ++i) {
    const auto differ =
        std::mismatch(keys[i - 1].begin(), keys[i - 1].end(), keys[i].begin(), keys[i].end());
    digits = std::max(digits, static_cast<size_t>(differ.first - keys[i - 1].begin()) + 1);
  }
  return digits;
}

std::string Span(int64_t seconds) {
  if (seconds < 60) return Concat(seconds, " s");
  if (seconds < 3600) return Concat(seconds / 60, " m");
  if (seconds < 48 * 3600) return Concat(seconds / 3600, " h");
  return Concat(seconds / 86'400, " d");
}

std::string Age(int64_t made_unix_ms, int64_t now_unix_ms) {
  if (made_unix_ms > now_unix_ms) return "-";
  return Span((now_unix_ms - made_unix_ms) / 1000);
}

std::string StandingOf(const Entry& entry) {
  if (entry.is_foreign) return "foreign";
  if (!entry.manifest) return "damaged";
  return std::string(StandingName(entry.verdict.standing));
}

uint64_t TotalBytes(const std::vector<Entry>& entries) {
  uint64_t bytes = 0;
  for (const Entry& entry : entries) bytes += entry.bytes;
  return bytes;
}

std::string Count(size_t count, std::string_view one) {
  return Concat(count, " ", one, count == 1 ? "" : "s");
}

bool NeedsMore(const Entry& entry, uint64_t uptime_ms) {
  return entry.manifest && entry.manifest->uptime_ms > uptime_ms;
}

// "12 m !": the uptime that it needs, and there is less here.
std::string Uptime(const Entry& entry, uint64_t uptime_ms) {
  if (!entry.manifest) return "-";
  const std::string needed = Span(static_cast<int64_t>(entry.manifest->uptime_ms / 1000));
  return needed + (NeedsMore(entry, uptime_ms) ? " !" : "");
}

std::string Table(const std::vector<Entry>& entries, int64_t now_unix_ms, uint64_t uptime_ms) {
  const size_t digits = DigitsToShow(entries);
  Rows rows{{"KEY", "AGE", "SIZE", "UPTIME", "STANDING", "COMMAND"}};
  for (const Entry& entry : entries) {
    rows.push_back(
        {entry.key.substr(0, digits), Age(entry.made_unix_ms, now_unix_ms),
         ReadableSize(entry.bytes), Uptime(entry, uptime_ms),
         StandingOf(entry) + (entry.in_use ? " *" : ""),
         Printable(entry.manifest ? ShellJoin(entry.manifest->command) : entry.problem)});
  }
  return AlignColumns(rows);
}

void WriteEntry(JsonWriter& json, const Entry& entry) {
  json.Key("key").String(entry.key);
  json.Key("path").String(entry.path);
  json.Key("made_unix_ms").Number(entry.made_unix_ms);
  json.Key("bytes").Number(static_cast<int64_t>(entry.bytes));
  json.Key("standing").String(StandingOf(entry));
  json.Key("in_use").Bool(entry.in_use);
  json.Key("uptime_ms");
  entry.manifest ? json.Number(static_cast<int64_t>(entry.manifest->uptime_ms)) : json.Null();
  json.Key("problem");
  if (entry.problem.empty()) {
    json.Null();
  } else {
    json.String(entry.problem);
  }
  json.Key("command").BeginArray();
  if (entry.manifest) {
    for (const std::string& word : entry.manifest->command) json.String(word);
  }
  json.EndArray();
}

struct Branch {
  size_t process;  // its place in the manifest
  size_t depth;
};

// Each below its parent, siblings by their ids. Who has no parent there, or is his own ancestor, is
// a root.
std::vector<Branch> TreeOf(const std::vector<DumpedProcess>& processes) {
  constexpr size_t kDeepest = 8;  // of what is shown
  std::map<pid_t, size_t> places;
  for (size_t i = 0; i < processes.size(); ++i) places.emplace(processes[i].pid, i);
  std::map<size_t, std::set<std::pair<pid_t, size_t>>> children;  // none twice: by id and place
  std::vector<size_t> roots;
  for (size_t i = 0; i < processes.size(); ++i) {
    const auto parent = places.find(processes[i].parent);
    const bool is_root = parent == places.end() || parent->second >= i;
    if (is_root) {
      roots.push_back(i);
    } else {
      children[parent->second].emplace(processes[i].pid, i);
    }
  }
  std::vector<Branch> tree;
  std::vector<Branch> waiting;
  for (auto root = roots.rbegin(); root != roots.rend(); ++root) waiting.push_back({*root, 0});
  while (!waiting.empty()) {
    const Branch next = waiting.back();
    waiting.pop_back();
    tree.push_back(next);
    const auto& below = children[next.process];
    for (auto child = below.rbegin(); child != below.rend(); ++child) {
      waiting.push_back({child->second, std::min(next.depth + 1, kDeepest)});
    }
  }
  return tree;
}

// What is told from the manifest's processes; the rest stands there.
void WriteTree(JsonWriter& json, const std::vector<DumpedProcess>& processes) {
  const std::vector<std::string> runtimes = RuntimesOf(processes);
  json.Key("tree").BeginArray();
  for (const auto& [place, depth] : TreeOf(processes)) {
    json.BeginObject().Key("pid").Number(processes[place].pid);
    json.Key("depth").Number(static_cast<int64_t>(depth));
    json.Key("runtime").String(runtimes[place]).EndObject();
  }
  json.EndArray();
}

void WriteEntries(JsonWriter& json, const std::vector<Entry>& entries) {
  json.BeginArray();
  for (const Entry& entry : entries) {
    json.BeginObject();
    WriteEntry(json, entry);
    json.EndObject();
  }
  json.EndArray();
}

void AddLine(std::string& out, std::string_view name, std::string_view value) {
  if (value.empty()) return;
  out += name;
  AppendInColumn(out, name.size(), kValueColumn, Printable(value));
}

// "0.4 s, of it 120 ms in hooks": times that were measured.
std::string ColdStart(const Manifest& manifest) {
  if (manifest.times.cold_ms < 0) return "not measured";
  std::string text = ReadableTime(manifest.times.cold_ms);
  if (manifest.times.hooks_ms > 0) {
    text += Concat(", of it ", ReadableTime(manifest.times.hooks_ms), " in startup hooks");
  }
  return text;
}

std::string DumpTime(const Manifest& manifest) {
  if (manifest.times.dump_ms < 0) return "";
  std::string text = "took " + ReadableTime(manifest.times.dump_ms);
  if (manifest.times.frozen_ms >= 0) {
    text += Concat(", the server stood still for ", ReadableTime(manifest.times.frozen_ms));
  }
  return text;
}

std::string Worth(const snapshot::Verdict& verdict) {
  std::string text(StandingName(verdict.standing));
  if (!verdict.reason.empty()) text += ": " + verdict.reason;
  if (verdict.restores > 0) text += Concat("; restored ", Count(verdict.restores, "time"));
  if (verdict.restores > 1 && verdict.first_restore_ms >= 0) {
    text += Concat(", the first in ", ReadableTime(verdict.first_restore_ms));
  }
  if (verdict.last_restore_ms >= 0) {
    text += Concat(", the last in ", ReadableTime(verdict.last_restore_ms));
  }
  if (verdict.failures > 0) text += Concat("; ", Count(verdict.failures, "failure"));
  return text;
}

std::string MadeBy(const Manifest& manifest) {
  std::vector<std::string> parts;
  if (!manifest.agent_version.empty()) parts.push_back("modal-agent " + manifest.agent_version);
  const std::string criu =
      manifest.criu_version.empty() ? "build " + manifest.criu_build : manifest.criu_version;
  if (!manifest.criu_build.empty() || !manifest.criu_version.empty()) {
    parts.push_back("CRIU " + criu);
  }
  if (!manifest.kernel.empty()) parts.push_back("Linux " + manifest.kernel);
  return Join(parts, ", ");
}

// "1001 poll_schedule_timeout.constprop.0" without the thread's id, and what the compiler has
// added.
std::string_view Waiting(std::string_view wait) {
  const size_t blank = wait.find(' ');
  const bool has_id = blank != std::string_view::npos && ParseUnsigned(wait.substr(0, blank));
  if (has_id) wait.remove_prefix(blank + 1);
  return wait.substr(0, wait.find('.'));
}

// "futex_do_wait ×3, ep_poll": what its threads were waiting for.
std::string Waits(const DumpedProcess& process) {
  std::map<std::string_view, size_t> counts;
  for (const std::string& wait : process.stack) ++counts[Waiting(wait)];
  std::vector<std::string> parts;
  for (const auto& [wait, count] : counts) {
    parts.push_back(count == 1 ? std::string(wait) : Concat(wait, " ×", count));
  }
  return parts.empty() ? "-" : Join(parts, ", ");
}

// "python3 app.py" of "/usr/bin/python3 app.py".
std::string ShownCommand(const DumpedProcess& process) {
  if (process.command.empty()) return process.name;
  const std::string& first = process.command[0];
  // A title is not the path of a program.
  const bool is_path = first.starts_with('/') && first.find(' ') == std::string::npos;
  std::vector<std::string> words = process.command;
  if (is_path) words[0] = first.substr(first.rfind('/') + 1);
  return Join(words, " ");
}

std::string ProcessTable(const std::vector<DumpedProcess>& processes) {
  const std::vector<std::string> runtimes = RuntimesOf(processes);
  Rows rows{{"PID", "RUNTIME", "THREADS", "WAITS IN", "COMMAND"}};
  for (const auto& [place, depth] : TreeOf(processes)) {
    const DumpedProcess& process = processes[place];
    rows.push_back({Concat(process.pid), Printable(runtimes[place]), Concat(process.threads),
                    Printable(Waits(process)),
                    Concat(std::string(2 * depth, ' '), Printable(ShownCommand(process)))});
  }
  return AlignColumns(rows);
}

std::vector<std::string> MemoryRow(std::string first, uint64_t resident,
                                   const snapshot::MemoryKinds& kinds) {
  return {
      std::move(first),           ReadableSize(resident),        ReadableSize(kinds.heap),
      ReadableSize(kinds.stack),  ReadableSize(kinds.anonymous), ReadableSize(kinds.file_private),
      ReadableSize(kinds.shared), ReadableSize(kinds.file)};
}

std::string MemoryTable(const std::vector<DumpedProcess>& processes) {
  Rows rows{{"PID", "MEMORY", "HEAP", "STACK", "ANONYMOUS", "WRITTEN", "SHARED", "FILES"}};
  snapshot::MemoryKinds all;
  uint64_t resident = 0;
  for (const auto& [place, depth] : TreeOf(processes)) {
    const DumpedProcess& process = processes[place];
    rows.push_back(MemoryRow(Concat(process.pid), process.memory, process.kinds));
    all += process.kinds;
    resident += process.memory;
  }
  if (processes.size() > 1) rows.push_back(MemoryRow("all", resident, all));
  return AlignColumns(rows) +
         "WRITTEN: changed pages of files. FILES: read from them again, not in the images.\n";
}

std::string FileTable(const std::vector<snapshot::ImageFile>& files) {
  Rows rows{{"SIZE", "FILE"}};
  for (const snapshot::ImageFile& file : files) {
    rows.push_back({ReadableSize(file.size), Printable(file.name)});
  }
  return AlignColumns(rows);
}

void AddManifest(std::string& out, const Manifest& manifest) {
  AddLine(out, "image", manifest.image_identity);
  AddLine(out, "command", ShellJoin(manifest.command));
  AddLine(out, "variables", Join(manifest.variables, ", "));
  AddLine(out, "user",
          Concat("uid ", manifest.uid, ", gid ", manifest.gid, ", capabilities ",
                 Join(Split(process::CapabilitiesToString(manifest.capabilities), ','), ", ")));
  AddLine(out, "listening", manifest.listening);
  AddLine(out, "made by", MadeBy(manifest));
  AddLine(out, "cold start", ColdStart(manifest));
  AddLine(out, "dump", DumpTime(manifest));
  std::string size =
      Concat(ReadableSize(manifest.TotalBytes()), " in ", Count(manifest.files.size(), "file"));
  if (manifest.carried_files > 0) {
    size += Concat(", with ", Count(manifest.carried_files, "file"),
                   " that the start had written (", ReadableSize(manifest.carried_bytes), ")");
  }
  AddLine(out, "size", size);
  AddLine(out, "uptime",
          Concat("of the machine: ", ReadableTime(static_cast<int64_t>(manifest.uptime_ms)),
                 " or more"));
}

}  // namespace

std::string ListText(const std::vector<Entry>& entries, const std::string& folder,
                     int64_t now_unix_ms, uint64_t uptime_ms) {
  if (entries.empty()) return Concat("No snapshots in ", Printable(folder), ".\n");
  const bool is_used =
      std::any_of(entries.begin(), entries.end(), [](const Entry& entry) { return entry.in_use; });
  const bool is_young =
      std::any_of(entries.begin(), entries.end(),
                  [uptime_ms](const Entry& entry) { return NeedsMore(entry, uptime_ms); });
  return Concat(Table(entries, now_unix_ms, uptime_ms), "\n", Count(entries.size(), "snapshot"),
                ", ", ReadableSize(TotalBytes(entries)), " in ", Printable(folder),
                is_used ? "; * is in use" : "",
                is_young ? "; ! is more than this machine runs for" : "", "\n");
}

std::string ListJson(const std::vector<Entry>& entries, const std::string& folder) {
  JsonWriter json;
  json.BeginObject().Key("folder").String(folder);
  json.Key("bytes").Number(static_cast<int64_t>(TotalBytes(entries)));
  json.Key("snapshots");
  WriteEntries(json, entries);
  json.EndObject();
  return json.Take() + "\n";
}

std::string InspectText(const Entry& entry, const std::vector<std::string>& reasons,
                        int64_t now_unix_ms) {
  std::string out;
  AddLine(out, "key", entry.key);
  AddLine(out, "made",
          Concat(ReadableMoment(entry.made_unix_ms), ", ", Age(entry.made_unix_ms, now_unix_ms),
                 " ago"));
  if (entry.manifest) AddManifest(out, *entry.manifest);
  AddLine(out, "on disk", ReadableSize(entry.bytes));
  AddLine(out, "in use", entry.in_use ? "yes, at this moment" : "");
  AddLine(out, "problem", entry.problem);
  AddLine(out, "worth", entry.manifest ? Worth(entry.verdict) : "");
  if (reasons.empty()) AddLine(out, "restorable", "yes: nothing here speaks against it");
  for (const std::string& reason : reasons) AddLine(out, "restorable", "no: " + reason);
  if (!entry.manifest) return out;
  out += "\n" + ProcessTable(entry.manifest->processes);
  out += "\n" + MemoryTable(entry.manifest->processes);
  out += "\n" + FileTable(entry.manifest->files);
  return out;
}

std::string InspectJson(const Entry& entry, const std::vector<std::string>& reasons) {
  JsonWriter json;
  json.BeginObject();
  WriteEntry(json, entry);
  json.Key("restorable").Bool(reasons.empty());
  json.Key("reasons").BeginArray();
  for (const std::string& reason : reasons) json.String(reason);
  json.EndArray();
  if (entry.manifest) WriteTree(json, entry.manifest->processes);
  json.EndObject();
  // Both write themselves, as objects.
  std::string text = json.Take();
  text.pop_back();
  text += Concat(",\"verdict\":", Trim(ToJson(entry.verdict)));
  if (entry.manifest) text += Concat(",\"manifest\":", Trim(ToJson(*entry.manifest)));
  return text + "}\n";
}

std::string ResultsText(const std::vector<SnapshotResult>& results, std::string_view what) {
  std::string out;
  for (const SnapshotResult& one : results) {
    if (one.problem.empty()) out += Concat(one.key, "  ", what, "\n");
  }
  return out;
}

std::string ResultsJson(const std::vector<SnapshotResult>& results, std::string_view what) {
  JsonWriter json;
  json.BeginObject().Key("snapshots").BeginArray();
  for (const SnapshotResult& one : results) {
    json.BeginObject().Key("key").String(one.key);
    json.Key(what).Bool(one.problem.empty());
    json.Key("bytes").Number(static_cast<int64_t>(one.bytes));
    json.Key("problem");
    if (one.problem.empty()) {
      json.Null();
    } else {
      json.String(one.problem);
    }
    json.EndObject();
  }
  json.EndArray().EndObject();
  return json.Take() + "\n";
}

std::string PruneText(const std::vector<Entry>& gone, bool dry_run, int64_t now_unix_ms) {
  constexpr uint64_t kAny = std::numeric_limits<uint64_t>::max();
  if (gone.empty()) return "Nothing to remove.\n";
  return Concat(Table(gone, now_unix_ms, kAny), "\n", Count(gone.size(), "snapshot"), ", ",
                ReadableSize(TotalBytes(gone)), dry_run ? " would be removed\n" : " removed\n");
}

std::string PruneJson(const std::vector<Entry>& gone, bool dry_run) {
  JsonWriter json;
  json.BeginObject().Key("dry_run").Bool(dry_run);
  json.Key("bytes").Number(static_cast<int64_t>(TotalBytes(gone)));
  json.Key("removed");
  WriteEntries(json, gone);
  json.EndObject();
  return json.Take() + "\n";
}

}  // namespace modal

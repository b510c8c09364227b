#include "agent/cli_options.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <memory>

#include "agent/base/strings.h"

namespace modal {
namespace {

constexpr std::string_view kPrune = "snapshot prune";
constexpr std::string_view kCreate = "snapshot create";
constexpr std::string_view kStatus = "status";

// The setting that an option word names ("--port", "--port=8000"), or null.
const Setting* SettingOf(std::string_view word) {
  if (!word.starts_with("--")) return nullptr;
  return FindSetting(word.substr(2, word.find('=') - 2));
}

void AddSetting(CLI::App& app, const Setting& setting, std::vector<FlagUse>& flags) {
  CLI::callback_t take = [&setting, &flags](const CLI::results_t& values) {
    for (const std::string& value : values) flags.push_back({&setting, value});
    return true;
  };
  CLI::Option* option = app.add_option("--" + std::string(setting.name), std::move(take));
  option->multi_option_policy(setting.form == ValueForm::kRepeated
                                  ? CLI::MultiOptionPolicy::TakeAll
                                  : CLI::MultiOptionPolicy::TakeLast);
  option->allow_extra_args(false);
}

// Only the settings that are mentioned: making an option costs more than anything else here, and
// this runs before the start of every container.
void AddMentionedSettings(CLI::App& app, const CommandWords& words, std::vector<FlagUse>& flags) {
  std::vector<const Setting*> added;
  for (const std::string& word : words.options) {
    const Setting* setting = SettingOf(word);
    if (!setting || !TakesSetting(words.name, *setting)) continue;
    if (std::find(added.begin(), added.end(), setting) != added.end()) continue;
    added.push_back(setting);
    AddSetting(app, *setting, flags);
  }
}

void AddPruneOptions(CLI::App& app, PruneWords& prune) {
  app.add_option("--older-than", prune.older_than)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.add_option("--keep", prune.keep)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.add_option("--max-size", prune.max_size)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.add_flag("--dry-run", prune.dry_run);
}

Error NotAnOption(std::string_view subcommand, const std::string& word) {
  const std::string name = word.substr(0, word.find('='));
  const std::string command = Concat("modal-agent", subcommand.empty() ? "" : " ", subcommand);
  const std::string see = Concat(command, " --help");
  if (SettingOf(name) || name == "--json") {
    return Error(Concat("`", command, "` takes no ", name, "; see ", see));
  }
  if (word.find('=') != std::string::npos && (name == "--help" || name == "--version")) {
    return Error(name + " takes no value");
  }
  std::vector<std::string> known{"--help", "--version"};
  if (TakesJson(subcommand)) known.emplace_back("--json");
  if (subcommand == kStatus) known.emplace_back("--timeline");
  if (subcommand == "token") known.emplace_back("--environment");
  if (subcommand == kPrune) {
    known.insert(known.end(), {"--older-than", "--keep", "--max-size", "--dry-run"});
  }
  for (const Setting& setting : AllSettings()) {
    if (TakesSetting(subcommand, setting)) known.push_back("--" + std::string(setting.name));
  }
  const auto nearest = Nearest(name, known);
  return Error(Concat("unknown option ", name,
                      nearest ? "; did you mean " + *nearest + "?" : "; see " + see));
}

}  // namespace

bool TakesSetting(std::string_view name, const Setting& setting) {
  if (name.empty() || name == "run" || name == "config") return true;
  if (name == kCreate) return setting.name != "snapshot";
  if (name == "version" || name == "token") return false;
  if (setting.name == "config") return true;
  if (name.starts_with("snapshot")) {
    return setting.name == "snapshot-dir" || (name == "snapshot inspect" && setting.name == "criu");
  }
  const bool asks_for_health = name == "health" || name == "status";
  return setting.name == "control" || (asks_for_health && setting.name == "health-timeout") ||
         (name == "check" && setting.name == "criu");
}

bool TakesJson(std::string_view name) {
  if (!name.starts_with("snapshot")) return !name.empty() && name != "run";
  const std::span<const SnapshotVerb> verbs = SnapshotVerbs();
  return std::any_of(verbs.begin(), verbs.end(), [name](const SnapshotVerb& verb) {
    return verb.json && name == Concat("snapshot ", verb.name);
  });
}

Result<ParsedOptions> ParseOptionWords(const CommandWords& words) {
  ParsedOptions parsed;
  if (words.options.empty()) return parsed;

  CLI::App app;
  app.set_help_flag();
  app.allow_extras();
  const CLI::Option* help = app.add_flag("-h,--help");
  const CLI::Option* version = app.add_flag("--version");
  const CLI::Option* json = TakesJson(words.name) ? app.add_flag("--json") : nullptr;
  const CLI::Option* timeline = words.name == kStatus ? app.add_flag("--timeline") : nullptr;
  AddMentionedSettings(app, words, parsed.flags);
  if (words.subcommand == "token") {
    app.add_option("--environment", parsed.environment)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  }
  if (words.name == kPrune) AddPruneOptions(app, parsed.prune);
  try {
    app.parse(std::vector<std::string>(words.options.rbegin(), words.options.rend()));
  } catch (const CLI::ArgumentMismatch&) {
    return Error(Concat(words.options.back(), " needs a value"));
  } catch (const CLI::Error& error) {
    return Error(error.what());
  }
  if (const std::vector<std::string> rest = app.remaining(); !rest.empty()) {
    return NotAnOption(words.name, rest.front());
  }
  parsed.help = help->count() > 0;
  parsed.version = version->count() > 0;
  parsed.json = json && json->count() > 0;
  parsed.timeline = timeline && timeline->count() > 0;
  return parsed;
}

}  // namespace modal

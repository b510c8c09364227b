#include "agent/cli.h"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "agent/base/exit_status.h"
#include "agent/base/strings.h"
#include "agent/cli_help.h"
#include "agent/cli_options.h"
#include "agent/cli_words.h"
#include "agent/config.h"
#include "agent/policy/tokens.h"

namespace modal {
namespace {

struct SubcommandMode {
  std::string_view name;
  Mode mode;
};

Mode ModeOf(std::string_view subcommand) {
  constexpr std::array kModes{
      SubcommandMode{"health", Mode::kHealth},     SubcommandMode{"status", Mode::kStatus},
      SubcommandMode{"drain", Mode::kDrain},       SubcommandMode{"reload", Mode::kReload},
      SubcommandMode{"check", Mode::kCheck},       SubcommandMode{"config", Mode::kConfig},
      SubcommandMode{"token", Mode::kToken},       SubcommandMode{"version", Mode::kVersion},
      SubcommandMode{"snapshot", Mode::kSnapshot},
  };
  for (const SubcommandMode& one : kModes) {
    if (one.name == subcommand) return one.mode;
  }
  return Mode::kServe;
}

// What talks to an agent needs to know no more than where it answers, and how long that may take.
Result<void> FillControl(const Configuration& configuration, Invocation& invocation) {
  Draft draft;
  Result<void> applied = ApplySetting(configuration, configuration["control"], draft);
  const bool is_limited = invocation.mode == Mode::kHealth || invocation.mode == Mode::kStatus;
  if (applied && is_limited) {
    applied = ApplySetting(configuration, configuration["health-timeout"], draft);
  }
  if (applied && invocation.mode == Mode::kCheck) {
    applied = ApplySetting(configuration, configuration["criu"], draft);
  }
  if (!applied) return applied;
  invocation.options.control = std::move(draft.options.control);
  invocation.options.health_timeout = draft.options.health_timeout;
  invocation.options.snapshots.criu = std::move(draft.options.snapshots.criu);
  return {};
}

// The command line with which COMMAND would have been our subcommand of that name; empty if there
// is none. Without options that may hold a secret: this is for the log.
std::string SubcommandHint(const ParsedOptions& parsed, const std::vector<std::string>& command) {
  const auto names = Subcommands();
  if (command.empty() || std::find(names.begin(), names.end(), command[0]) == names.end())
    return "";
  std::vector<std::string> words{"modal-agent", command[0]};
  for (const FlagUse& flag : parsed.flags) {
    if (flag.setting->secret || !TakesSetting(command[0], *flag.setting)) continue;
    words.push_back(Concat("--", flag.setting->name));
    words.push_back(flag.value);
  }
  words.insert(words.end(), command.begin() + 1, command.end());
  return "to run the subcommand put it first: " + ShellJoin(words);
}

Result<void> FillOptions(const Configuration& configuration, const Surroundings& around,
                         Invocation& invocation) {
  invocation.warnings = configuration.warnings();
  Result<Draft> draft = MakeOptions(configuration, around, invocation.warnings);
  if (!draft) return std::move(draft.error());
  std::vector<std::string> command = std::move(invocation.options.command);
  std::string hint = std::move(invocation.options.not_found_hint);
  invocation.options = std::move(draft->options);
  invocation.options.command = std::move(command);
  invocation.options.not_found_hint = std::move(hint);
  invocation.log_level = draft->log_level;
  invocation.log_format =
      draft->log_format.value_or(around.stderr_is_terminal ? LogFormat::kText : LogFormat::kJson);
  // The gateway logs beside us.
  invocation.options.data_plane.config.log_json = invocation.log_format == LogFormat::kJson;
  return {};
}

Error NoSnapshotFolder(std::string_view what) {
  return Error(Concat(what, " needs a folder: --snapshot-dir DIR, or MODAL_AGENT_SNAPSHOT_DIR"));
}

// `modal-agent token new`: needs no settings, and no agent.
Result<Invocation> ParseToken(const CommandWords& words, ParsedOptions options,
                              Invocation invocation) {
  if (words.verb != "new") {
    return Error(words.verb.empty()
                     ? "`modal-agent token` needs to be told what to do: modal-agent token new"
                     : Concat("`modal-agent token ", words.verb,
                              "` is nothing it can do; there is modal-agent token new"));
  }
  if (!options.environment.empty() && !policy::IsEnvironmentName(options.environment)) {
    return Error(Concat("--environment ", options.environment, ": ", policy::kEnvironmentNames));
  }
  invocation.environment = std::move(options.environment);
  return invocation;
}

// `modal-agent snapshot list` and its like: all but `create`.
Result<Invocation> ParseSnapshot(const SnapshotVerb& verb, const CommandWords& words,
                                 const ParsedOptions& options, const Surroundings& around,
                                 Invocation invocation) {
  Result<SnapshotRequest> request = MakeSnapshotRequest(verb, words.command, options.prune);
  if (!request) return std::move(request.error());
  const Result<Configuration> configuration = Configuration::Gather(options.flags, around);
  if (!configuration) return configuration.error();
  Draft draft;
  Result<void> applied = ApplySetting(*configuration, (*configuration)["snapshot-dir"], draft);
  if (applied && verb.action == SnapshotAction::kInspect) {
    applied = ApplySetting(*configuration, (*configuration)["criu"], draft);
  }
  if (!applied) return std::move(applied.error());
  request->folder = std::move(draft.options.snapshots.folder);
  request->criu = std::move(draft.options.snapshots.criu);
  if (request->folder.empty()) return NoSnapshotFolder(Concat("`modal-agent ", words.name, "`"));
  invocation.snapshot = *std::move(request);
  return invocation;
}

Result<Invocation> Parse(std::span<char* const> words, Surroundings around) {
  CommandWords split = SplitWords(words);
  if (split.subcommand == "snapshot" && !split.verb.empty()) {
    const Result<SnapshotVerb> verb = FindSnapshotVerb(split.verb);
    if (!verb) return verb.error();
  }
  Result<ParsedOptions> parsed = ParseOptionWords(split);
  if (!parsed) return std::move(parsed.error());

  Invocation invocation;
  invocation.mode = ModeOf(split.subcommand);
  invocation.json = parsed->json;
  invocation.timeline = parsed->timeline;
  if (parsed->help) {
    invocation.mode = Mode::kHelp;
    invocation.text = HelpText(split.name);
    return invocation;
  }
  if (parsed->version) invocation.mode = Mode::kVersion;
  const bool creates = split.subcommand == "snapshot" && split.verb == kCreateVerb;
  if (creates && invocation.mode == Mode::kSnapshot) invocation.mode = Mode::kServe;
  if (invocation.mode == Mode::kSnapshot) {
    const Result<SnapshotVerb> verb = FindSnapshotVerb(split.verb);
    if (!verb) return verb.error();
    return ParseSnapshot(*verb, split, *parsed, around, std::move(invocation));
  }
  if (invocation.mode != Mode::kServe && !split.command.empty()) {
    return Error(Concat("`modal-agent ", split.subcommand, "` takes no COMMAND, and got ",
                        ShellJoin(split.command)));
  }
  if (invocation.mode == Mode::kVersion) {
    invocation.text = invocation.json ? VersionJson() : VersionText();
    return invocation;
  }

  if (invocation.mode == Mode::kToken) {
    return ParseToken(split, *std::move(parsed), std::move(invocation));
  }

  // Last, so that it counts over whatever environment and file say.
  if (creates) parsed->flags.push_back({FindSetting("snapshot"), std::string(kCreateVerb)});
  around.is_local_run = split.subcommand == "run" && !around.is_process_1;
  const Result<Configuration> configuration = Configuration::Gather(parsed->flags, around);
  if (!configuration) return configuration.error();
  if (invocation.mode != Mode::kServe && invocation.mode != Mode::kConfig) {
    if (Result<void> filled = FillControl(*configuration, invocation); !filled) {
      return std::move(filled.error());
    }
    return invocation;
  }

  invocation.options.not_found_hint = SubcommandHint(*parsed, split.command);
  invocation.options.command = std::move(split.command);
  if (Result<void> filled = FillOptions(*configuration, around, invocation); !filled) {
    return std::move(filled.error());
  }
  const lifecycle::Options& options = invocation.options;
  const bool is_to_create = options.snapshots.mode == lifecycle::SnapshotMode::kCreate;
  if (is_to_create && options.snapshots.folder.empty()) {
    return NoSnapshotFolder(creates ? Concat("`modal-agent ", split.name, "`")
                                    : std::string("--snapshot create"));
  }
  if (split.subcommand == "run" && options.command.empty() && options.on_enter.empty()) {
    return Error("`modal-agent run` needs a COMMAND, as in modal-agent run ./server");
  }
  if (invocation.mode == Mode::kConfig) {
    invocation.text =
        invocation.json ? ConfigReportJson(*configuration) : ConfigReport(*configuration);
  }
  return invocation;
}

}  // namespace

Result<Invocation> ParseCommandLine(std::span<char* const> argv, const Surroundings& around) {
  // execve(2) may be called with no name at all.
  Result<Invocation> parsed = Parse(argv.subspan(argv.empty() ? 0 : 1), around);
  if (!parsed) return std::move(parsed.error()).WithExitCode(kExitAgentError);
  return parsed;
}

Result<Invocation> ParseCommandLine(std::span<char* const> argv, char** environment,
                                    bool is_process_1) {
  Surroundings around;
  around.environment = environment;
  around.is_process_1 = is_process_1;
  around.stderr_is_terminal = ::isatty(STDERR_FILENO) == 1;
  return ParseCommandLine(argv, around);
}

}  // namespace modal

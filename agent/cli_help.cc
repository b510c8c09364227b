#include "agent/cli_help.h"

#include <array>
#include <vector>

#include "agent/base/json_writer.h"
#include "agent/base/strings.h"
#include "agent/cli_options.h"
#include "agent/settings.h"
#include "agent/snapshot_request.h"
#include "agent/text_columns.h"

namespace modal {
namespace {

constexpr size_t kColumn = 30;  // where the explanations begin

constexpr std::string_view kHead =
    R"(modal-agent: process 1 for containers that serve HTTP. It runs startup hooks,
starts a server, waits for its port, checks its health, drains and stops it.

Usage:
  modal-agent [OPTIONS] [--] [COMMAND...]      in a container, as process 1
  modal-agent run [OPTIONS] [--] COMMAND...    on a laptop
  modal-agent SUBCOMMAND [OPTIONS]

Options end at -- or at the first word that is none; everything after is
COMMAND, untouched. Without COMMAND a hook starts the server, or one is there.

Examples:
  modal-agent --port 8000 --startup-timeout 5 -- ./server
  modal-agent run --health-path /healthz python3 -m http.server 8000
  modal-agent --on-enter './migrate --all' --user app ./server
  modal-agent --listen 80 --max-concurrency 50 --hold-requests 2s ./server

Subcommands (modal-agent SUBCOMMAND --help says more):
  health     exit with 0 if the server here is well, for Docker's HEALTHCHECK
  status     what the agent here is doing, and how long each phase took
  drain      make it not ready (/readyz); it goes on until it is stopped
  reload     read the settings again
  check      what this container permits
  config     every setting with its value and where that comes from
  token      make a key and a secret for a client of the gateway
  snapshot   look after the memory snapshots in --snapshot-dir, or make one
  version    version and build
)";

constexpr std::string_view kTail = R"(
Each option is also a variable (--startup-timeout 5 is
MODAL_AGENT_STARTUP_TIMEOUT=5) and a line of the config file
(startup-timeout = 5). Flag counts over environment over file over default.
Repeatable ones (*) stand there on lines of their own. A DURATION is 5, 5s,
250ms, 2m, 1h or 7d; a SIZE is 65536, 64k, 2MiB or 4GiB.

Exit codes: the server's own; 128+N if signal N ended it; 120 a hook failed; 121
unhealthy; 122 a snapshot command failed; 124 the port did not open in time; 125
the agent's own error or a bad setting; 126 COMMAND cannot be executed; 127
COMMAND was not found.
)";

struct SubcommandHelp {
  std::string_view name;
  std::string_view text;
};

constexpr std::array kSubcommandHelp{
    SubcommandHelp{"health", R"(Says whether the server in this container is well.

Exits with 0 if it is serving and healthy and with 1 if not, or if no agent
answers within --health-timeout:

  HEALTHCHECK CMD ["/modal-agent", "health"]
)"},
    SubcommandHelp{"status",
                   R"(Says what the agent in this container is doing: its phase, the server and its
port, health checks, and how long each phase took. Exits with 1 if no agent
answers within --health-timeout. With --timeline it shows the steps of the
start, of a restore and of a dump as bars; --json has them, too.
)"},
    SubcommandHelp{"drain",
                   R"(Makes the agent in this container say that it is not ready (/readyz), so that
no new requests are sent here; with --listen it refuses them, too. It goes on
until SIGTERM; a drain cannot be taken back. Exits with 1 if no agent answers.
)"},
    SubcommandHelp{"reload",
                   R"(Makes the agent in this container read its settings again. Health, hook, stop
and gateway settings change at once, tokens included; ports, user and
environment at the next start. Says which have changed and which wait. The
access log is opened again. If a setting or the tokens file is bad, all old ones
stay in force and the exit code is 1.
)"},
    SubcommandHelp{
        "check", R"(Shows what this container permits, and what that means for the agent: process 1,
/proc, capabilities, seccomp, limits, a folder for the control socket, and
whether CRIU can take snapshots here and restore them: if there is one, it dumps
a small process and restores it. Exits with 0 if the agent can run here, else
with 1.
)"},
    SubcommandHelp{"config",
                   R"(Shows every setting with its value and where that comes from, in the format of
the config file. Takes all options of `modal-agent` and checks them: the exit
code is 125 if the agent would not start with them. Values of --env are not
shown.
)"},
    SubcommandHelp{"token",
                   R"(modal-agent token new makes a token for a client: a key and a secret, which it
sends in the headers Modal-Key and Modal-Secret, and the line for the file of
--proxy-tokens. Only the secret's SHA-256 stands in the line. The secret is
printed, and kept nowhere.
)"},
    SubcommandHelp{"snapshot",
                   R"(Looks after the memory snapshots in the folder of --snapshot-dir. A KEY may be
abbreviated as long as only one snapshot begins so.

Verbs (modal-agent snapshot VERB --help says more):
  create     start the server, take a snapshot of it, try that, and end
  list       all of them, the youngest first
  inspect    all that is known of one, and whether it can be restored here
  verify     read every byte, and compare checksums
  delete     remove some
  prune      remove the old ones, or what is too much
  pack       write one into a single file
  unpack     put the snapshot of such a file into the folder

Exits with 122 if what was asked for could not be done.
)"},
    SubcommandHelp{"snapshot create",
                   R"(Starts COMMAND as `modal-agent` does, takes a snapshot of it once it is ready,
ends it, and restores the snapshot to try it; then ends. For the build of an
image, or a job that fills the folder before any container is started. Exits
with 0 if there is a snapshot now that can be restored, else with 122.
)"},
    SubcommandHelp{"snapshot list",
                   R"(Lists the snapshots in the folder, the youngest first: key, age, size on disk,
what is known of its worth, and the command. Those in use by a container at this
moment are marked *.
)"},
    SubcommandHelp{"snapshot inspect",
                   R"(Shows all that is known of a snapshot: key, image, command, names of the
variables that count, times, processes with their memory and what they were
waiting for, files, what is known of its worth, the uptime that it needs, and
whether it can be restored here, or why not.
)"},
    SubcommandHelp{"snapshot verify",
                   R"(Reads every byte of these snapshots, or of all, and compares checksums. Exits
with 122 if one is damaged.
)"},
    SubcommandHelp{"snapshot delete",
                   R"(Removes these snapshots and what is known of their worth. One that is in use
stays, and the exit code is 122.
)"},
    SubcommandHelp{
        "snapshot prune",
        R"(Removes what is older, or too much: of what the rules do not keep, the oldest go
first. Snapshots in use stay, and count.
)"},
    SubcommandHelp{"snapshot pack",
                   R"(Writes a snapshot into FILE (- is standard output), which can be copied to
another machine: a tar archive, compressed with zstd. Checksums are compared on
the way; FILE is there as a whole, or not at all. It holds the memory of
processes, secrets included.
)"},
    SubcommandHelp{"snapshot unpack",
                   R"(Puts the snapshot of FILE (- is standard input), made by `modal-agent snapshot
pack`, into the folder, once all its checksums are right, and says its key.
)"},
    SubcommandHelp{"version", R"(Shows version and build.
)"},
};

std::string_view TextOf(std::string_view subcommand) {
  for (const SubcommandHelp& one : kSubcommandHelp) {
    if (one.name == subcommand) return one.text;
  }
  return {};
}

// What stands behind the name on the first line of its help.
std::string OperandsOf(std::string_view subcommand) {
  if (subcommand == "token") return " new [OPTIONS]";
  if (subcommand == "snapshot") return " VERB [OPTIONS]";
  for (const SnapshotVerb& verb : SnapshotVerbs()) {
    if (subcommand != Concat("snapshot ", verb.name)) continue;
    return Concat(" [OPTIONS]", verb.operands.empty() ? "" : " ", verb.operands);
  }
  return " [OPTIONS]";
}

void AppendOption(std::string& out, std::string_view option, std::string_view text) {
  out += "  ";
  out += option;
  AppendInColumn(out, 2 + option.size(), kColumn, text);
}

void AppendSetting(std::string& out, const Setting& setting) {
  std::string option = Concat("--", setting.name);
  if (!setting.value_name.empty()) option += Concat(" ", setting.value_name);
  if (setting.form == ValueForm::kRepeated) option += " *";
  std::string text(setting.help);
  const bool has_default = !setting.unset.empty() && setting.form != ValueForm::kSwitch;
  if (has_default) text += Concat(" [", setting.unset, "]");
  AppendOption(out, option, text);
}

void AppendSettings(std::string& out, std::string_view subcommand) {
  for (int group = 0; group < kSettingGroupCount; ++group) {
    const auto wanted = static_cast<SettingGroup>(group);
    bool any = false;
    for (const Setting& setting : AllSettings()) {
      if (setting.group != wanted || !TakesSetting(subcommand, setting)) continue;
      if (!any) out += Concat("\n", SettingGroupTitle(wanted), ":\n");
      any = true;
      AppendSetting(out, setting);
    }
  }
}

std::string Compiler() {
#if defined(__clang__)
  return Concat("clang ", __clang_major__, ".", __clang_minor__);
#else
  return Concat("gcc ", __GNUC__, ".", __GNUC_MINOR__);
#endif
}

std::string_view Architecture() {
#if defined(__x86_64__)
  return "x86_64";
#elif defined(__aarch64__)
  return "aarch64";
#else
  return "another architecture";
#endif
}

// The newest of what we cannot do without: memfd seals that keep readers from writing
// (F_SEAL_FUTURE_WRITE).
constexpr std::string_view kOldestKernel = "5.1";

}  // namespace

std::string HelpText(std::string_view subcommand) {
  std::string out;
  if (subcommand.empty() || subcommand == "run") {
    out = kHead;
    AppendSettings(out, subcommand);
    AppendOption(out, "-h, --help", "this text");
    AppendOption(out, "--version", "version and build");
    return out += kTail;
  }
  out = Concat("modal-agent ", subcommand, OperandsOf(subcommand), "\n\n", TextOf(subcommand),
               "\nOptions:\n");
  if (subcommand == "token") {
    AppendOption(out, "--environment NAME",
                 "good only where the agent's --environment is this or none [good everywhere]");
  }
  if (subcommand == "snapshot prune") {
    AppendOption(out, "--older-than DURATION", "remove those that were taken longer ago");
    AppendOption(out, "--keep COUNT", "keep no more than these, the youngest");
    AppendOption(out, "--max-size SIZE", "keep no more than fit into this, the youngest");
    AppendOption(out, "--dry-run", "say what would be removed, and remove nothing");
  }
  if (subcommand == "status") {
    AppendOption(out, "--timeline", "draw what the start has done, and how long it took");
  }
  if (TakesJson(subcommand)) AppendOption(out, "--json", "print JSON, for programs");
  AppendOption(out, "-h, --help", "this text");
  if (subcommand == "config" || subcommand == "snapshot create") {
    out += "\nand those of `modal-agent`, see modal-agent --help\n";
  } else {
    for (const Setting& setting : AllSettings()) {
      if (TakesSetting(subcommand, setting)) AppendSetting(out, setting);
    }
  }
  return out;
}

std::string VersionText() {
  return Concat("modal-agent " MODAL_VERSION " (", Architecture(), ", ", Compiler(),
                "); needs Linux ", kOldestKernel, " or newer\n");
}

std::string VersionJson() {
  JsonWriter json;
  json.BeginObject().Key("version").String(MODAL_VERSION);
  json.Key("architecture").String(Architecture());
  json.Key("compiler").String(Compiler());
  json.Key("oldest_kernel").String(kOldestKernel);
  json.EndObject();
  return json.Take() + "\n";
}

}  // namespace modal

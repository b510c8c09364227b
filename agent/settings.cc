#include "agent/settings.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "agent/base/status_board.h"
#include "agent/base/strings.h"
#include "agent/env_file.h"
#include "agent/policy/client_address.h"
#include "agent/policy/tokens.h"
#include "agent/process/capabilities.h"
#include "agent/process/resource_limits.h"
#include "agent/settings_values.h"
#include "agent/workload_environment.h"

namespace modal {
namespace {

using enum SettingGroup;
using enum ValueForm;

// What a request needs at the least: a target and a few headers.
constexpr uint64_t kSmallestHeader = 1024;
// As many listeners as the gateway takes over.
constexpr uint32_t kMostGatewayThreads = 32;

// Moves the value out of `parsed`, or passes its error on.
template <class T, class To>
Result<void> Take(Result<T> parsed, To& to) {
  if (!parsed) return std::move(parsed.error());
  to = *std::move(parsed);
  return {};
}

Result<void> TakeFolder(const std::string& path, std::string& to) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return Error(::strerror(errno));
  if (!S_ISDIR(info.st_mode)) return Error("not a folder");
  to = path;
  return {};
}

Result<void> TakeAbsolute(const std::string& path, std::string& to) {
  to = path;
  if (path.starts_with('/')) return {};
  char here[4096];
  if (!::getcwd(here, sizeof here)) return Error::FromErrno("working directory", errno);
  to = Concat(here, "/", path);
  return {};
}

// The workload may have another working directory than we, and gets this path too.
Result<void> TakeControl(const std::string& path, std::string& to) {
  return TakeAbsolute(path, to);
}

// The default folder may be missing; one that was asked for may not.
constexpr std::string_view kHooksDir = "/etc/modal-agent/hooks.d";

Result<void> TakeHooksDir(const std::string& path, std::string& to) {
  to.clear();
  if (path == "off") return {};
  if (path != kHooksDir) return TakeFolder(path, to);
  to = path;
  return {};
}

Result<void> TakeLogFormat(Draft& draft, const std::string& value) {
  constexpr std::array<std::string_view, 3> kFormats{"auto", "text", "json"};
  const Result<size_t> choice = ParseChoice(value, kFormats);
  if (!choice) return choice.error();
  if (*choice == 0) {
    draft.log_format.reset();
  } else {
    draft.log_format = *choice == 1 ? LogFormat::kText : LogFormat::kJson;
  }
  return {};
}

Result<void> TakeLogLevel(Draft& draft, const std::string& value) {
  constexpr std::array<std::string_view, 4> kLevels{"debug", "info", "warn", "error"};
  const Result<size_t> choice = ParseChoice(value, kLevels);
  if (!choice) return choice.error();
  draft.log_level = static_cast<LogLevel>(*choice);
  return {};
}

Result<void> TakeAdmin(Draft& draft, const std::string& value) {
  if (value == "off") {
    draft.options.admin.reset();
    return {};
  }
  Result<lifecycle::ListenAddress> address = ParseListenAddress(value, draft.any_address);
  if (!address) return Error(address.error().message() + ", or off");
  draft.options.admin = *std::move(address);
  return {};
}

Result<void> TakeListen(Draft& draft, const std::string& value) {
  if (value == "off") {
    draft.options.listen.reset();
    return {};
  }
  Result<lifecycle::ListenAddress> address = ParseListenAddress(value, "0.0.0.0");
  if (!address) return Error(address.error().message() + ", or off");
  draft.options.listen = *std::move(address);
  return {};
}

Result<void> TakeUpstream(Draft& draft, const std::string& value) {
  Result<lifecycle::Upstream> upstream = ParseUpstream(value);
  if (!upstream) return std::move(upstream.error());
  draft.upstream = *std::move(upstream);
  return {};
}

Result<void> TakeEnvironmentName(Draft& draft, const std::string& value) {
  if (!policy::IsEnvironmentName(value)) {
    return Error("not a name: 1 to 63 characters, no blank, no colon and no #");
  }
  SetBoardText(draft.gateway.environment, value);
  return {};
}

Result<void> TakeTrustedProxies(Draft& draft, const std::string& value) {
  const Result<std::vector<policy::Network>> networks = policy::ParseNetworks(value);
  if (!networks) return networks.error();
  std::vector<policy::Network>& all = draft.trusted_proxies;
  all.insert(all.end(), networks->begin(), networks->end());
  if (all.size() > policy::kMostNetworks) {
    return Error(Concat("more than ", policy::kMostNetworks, " networks altogether"));
  }
  return {};
}

Result<void> TakeUpgrades(Draft& draft, const std::string& value) {
  const Result<std::string> upgrades = ParseUpgrades(value);
  if (!upgrades) return upgrades.error();
  SetBoardText(draft.gateway.upgrades, *upgrades);
  return {};
}

Result<void> TakeRateBurst(Draft& draft, const std::string& value) {
  const Result<uint32_t> burst = ParseCount(value);
  if (!burst) return burst.error();
  draft.rate_burst = *burst;
  return {};
}

Result<void> TakeAccessLog(Draft& draft, const std::string& value) {
  draft.access_log.clear();
  if (value == "off") return {};
  if (value != "-") return TakeAbsolute(value, draft.access_log);
  draft.access_log = value;
  return {};
}

Result<void> TakeAccessLogFormat(Draft& draft, const std::string& value) {
  constexpr std::array<std::string_view, 2> kFormats{"json", "common"};
  const Result<size_t> choice = ParseChoice(value, kFormats);
  if (!choice) return choice.error();
  draft.access_log_is_common = *choice == 1;
  return {};
}

Result<void> TakeServerTiming(Draft& draft, const std::string& value) {
  const Result<bool> on = ParseSwitch(value);
  if (!on) return on.error();
  draft.gateway.server_timing = *on ? 1 : 0;
  return {};
}

Result<void> TakeThreads(Draft& draft, const std::string& value) {
  const Result<uint32_t> threads = ParseCount(value);
  if (!threads) return threads.error();
  if (*threads > kMostGatewayThreads) {
    return Error(Concat("more than ", kMostGatewayThreads, " threads are not possible"));
  }
  draft.gateway_threads = *threads;
  return {};
}

Result<void> TakeSnapshotDir(Draft& draft, const std::string& value) {
  draft.options.snapshots.folder.clear();
  if (value == "off") return {};
  return TakeAbsolute(value, draft.options.snapshots.folder);
}

Result<void> TakeSnapshotMode(Draft& draft, const std::string& value) {
  constexpr std::array<std::string_view, 4> kModes{"auto", "create", "restore", "off"};
  const Result<size_t> choice = ParseChoice(value, kModes);
  if (!choice) return choice.error();
  draft.options.snapshots.mode = static_cast<lifecycle::SnapshotMode>(*choice);
  return {};
}

Result<void> TakeSnapshotPages(Draft& draft, const std::string& value) {
  constexpr std::array<std::string_view, 3> kChoices{"auto", "eager", "lazy"};
  const Result<size_t> choice = ParseChoice(value, kChoices);
  if (!choice) return choice.error();
  draft.options.snapshots.pages = static_cast<snapshot::Pages>(*choice);
  return {};
}

Result<void> TakeIgnoredVariables(Draft& draft, const std::string& value) {
  for (const std::string& name : Split(value, ',')) {
    const std::string_view stem =
        name.ends_with('*') ? std::string_view(name).substr(0, name.size() - 1) : name;
    if (!IsVariableName(stem)) return Error(Concat("not the name of a variable: '", name, "'"));
    draft.options.snapshots.env_ignore.push_back(name);
  }
  return {};
}

Result<void> TakeRestart(Draft& draft, const std::string& value) {
  constexpr std::array<std::string_view, 2> kChoices{"no", "on-failure"};
  const Result<size_t> choice = ParseChoice(value, kChoices);
  if (!choice) return choice.error();
  draft.options.restart = *choice == 0 ? lifecycle::Restart::kNo : lifecycle::Restart::kOnFailure;
  return {};
}

Result<void> TakeExitCodes(Draft& draft, const std::string& value) {
  const Result<std::vector<int>> codes = ParseExitCodes(value);
  if (!codes) return codes.error();
  std::vector<int>& all = draft.options.success_exit_codes;
  all.insert(all.end(), codes->begin(), codes->end());
  return {};
}

Result<void> TakeEnv(Draft& draft, const std::string& value) {
  const Result<EnvironmentEntry> entry = ParseEnvironmentEntry(value);
  if (!entry) return entry.error();
  draft.env.push_back(value);
  return {};
}

Result<void> TakeLimit(Draft& draft, const std::string& value) {
  const Result<process::ResourceLimit> limit = process::ParseResourceLimit(value);
  if (!limit) return limit.error();
  draft.options.limits.push_back(*limit);
  return {};
}

Result<void> TakeCapabilities(Draft& draft, const std::string& value) {
  const Result<uint64_t> kept = process::ParseCapabilities(value);
  if (!kept) return kept.error();
  draft.options.capabilities = draft.options.capabilities.value_or(0) | *kept;
  return {};
}

// clang-format off
constexpr std::array kSettings{
    Setting{"port", kPorts, kSingle, false, "PORT", "8000",
            "the application port, which the server must open where the outside can reach it; "
            "set as PORT for the server. $PORT, if set, is the default",
            [](Draft& d, const std::string& v) { return Take(ParsePort(v), d.options.port); }},
    Setting{"admin", kPorts, kSingle, false, "[ADDR:]PORT", "0.0.0.0:8001",
            "where /livez, /startupz, /readyz, /status and /metrics are served, or off; "
            "127.0.0.1:8001 under `run`",
            TakeAdmin},
    Setting{"control", kPorts, kSingle, false, "PATH", "",
            "the socket that the subcommands talk to; without it the first that works of "
            "/run/modal-agent/control.sock, $XDG_RUNTIME_DIR/modal-agent/control.sock and "
            "/tmp/modal-agent-UID/control.sock",
            [](Draft& d, const std::string& v) { return TakeControl(v, d.options.control); }},

    Setting{"on-enter", kStart, kRepeated, false, "CMD", "",
            "startup hook, run before COMMAND starts; if it fails, so does the start",
            [](Draft& d, const std::string& v) { d.options.on_enter.push_back(v); return Result<void>(); }},
    Setting{"on-restore", kStart, kRepeated, false, "CMD", "",
            "hook that runs once the server is ready, before it serves: after each start, be it "
            "cold or from a snapshot",
            [](Draft& d, const std::string& v) { d.options.on_restore.push_back(v); return Result<void>(); }},
    Setting{"on-exit", kStart, kRepeated, false, "CMD", "",
            "exit handler, run when the server is stopped or has ended",
            [](Draft& d, const std::string& v) { d.options.on_exit.push_back(v); return Result<void>(); }},
    Setting{"hooks-dir", kStart, kSingle, false, "DIR", kHooksDir,
            "executables in DIR/enter, DIR/restore and DIR/exit are hooks too and run first, in name order; "
            "or off",
            [](Draft& d, const std::string& v) { return TakeHooksDir(v, d.options.hooks_dir); }},
    Setting{"hook-timeout", kStart, kSingle, false, "DURATION", "10m",
            "the longest that one hook may take",
            [](Draft& d, const std::string& v) { return Take(ParseDurationAboveZero(v), d.options.hook_timeout); }},
    Setting{"startup-timeout", kStart, kSingle, false, "DURATION", "5s",
            "the longest from the end of the hooks to the open port",
            [](Draft& d, const std::string& v) { return Take(ParseDurationAboveZero(v), d.options.startup_timeout); }},

    Setting{"health-path", kHealth, kSingle, false, "/PATH", "",
            "must answer GET with 2xx or 3xx, at the start and at every check; without it the "
            "port alone is checked",
            [](Draft& d, const std::string& v) { return Take(ParseHttpPath(v), d.options.health_path); }},
    Setting{"health-interval", kHealth, kSingle, false, "DURATION", "10s",
            "from one check to the next",
            [](Draft& d, const std::string& v) { return Take(ParseDurationAboveZero(v), d.options.health_interval); }},
    Setting{"health-timeout", kHealth, kSingle, false, "DURATION", "2s",
            "the longest that an answer may take",
            [](Draft& d, const std::string& v) { return Take(ParseDurationAboveZero(v), d.options.health_timeout); }},
    Setting{"health-threshold", kHealth, kSingle, false, "COUNT", "3",
            "failures in a row that make the server unhealthy: it is drained and stopped",
            [](Draft& d, const std::string& v) { return Take(ParseCount(v), d.options.health_threshold); }},
    Setting{"restart", kHealth, kSingle, false, "WHEN", "no",
            "no, or on-failure: start a server that failed or is unhealthy again, after 0.5 s "
            "at first and up to 30 s",
            TakeRestart},

    Setting{"snapshot-dir", kSnapshots, kSingle, false, "DIR", "off",
            "keep memory snapshots of the server that is ready there, and restore them instead of "
            "starting it; or off",
            TakeSnapshotDir},
    Setting{"snapshot", kSnapshots, kSingle, false, "MODE", "auto",
            "auto: restore, or start and take one; create: take one, try it, and end; restore: "
            "never take one; or off",
            TakeSnapshotMode},
    Setting{"snapshot-key", kSnapshots, kSingle, false, "TEXT", "",
            "what names the image, and changes with everything in it; without it a stamp or the "
            "program's files do",
            [](Draft& d, const std::string& v) { d.options.snapshots.key = v; return Result<void>(); }},
    Setting{"snapshot-env-ignore", kSnapshots, kRepeated, false, "NAME,...", "",
            "variables whose value may differ from that of the snapshot; NAME* stands for all "
            "that begin so",
            TakeIgnoredVariables},
    Setting{"snapshot-warmup", kSnapshots, kSingle, false, "COUNT", "off",
            "requests for --health-path, or /, before the snapshot is taken",
            [](Draft& d, const std::string& v) { return Take(ParseCountOrOff(v), d.options.snapshots.warmup); }},
    Setting{"snapshot-pages", kSnapshots, kSingle, false, "WHEN", "auto",
            "when memory comes back: eager, before anything runs; lazy, as it is touched (needs "
            "CAP_SYS_PTRACE); or auto, by its size",
            TakeSnapshotPages},
    Setting{"criu", kSnapshots, kSingle, false, "FILE", "",
            "the CRIU that takes and restores them; without it /opt/modal-agent/criu/criu, then "
            "criu of $PATH",
            [](Draft& d, const std::string& v) { return TakeAbsolute(v, d.options.snapshots.criu); }},

    Setting{"drain-delay", kStop, kSingle, false, "DURATION", "0",
            "on SIGTERM, how long requests are still taken after /readyz says no",
            [](Draft& d, const std::string& v) { return Take(ParseDuration(v), d.options.drain_delay); }},
    Setting{"exit-grace-period", kStop, kSingle, false, "DURATION", "5s",
            "the longest that requests in flight may take to finish",
            [](Draft& d, const std::string& v) { return Take(ParseDuration(v), d.options.exit_grace_period); }},
    Setting{"stop-timeout", kStop, kSingle, false, "DURATION", "30s",
            "from the stop signal, and the start of the exit handlers, to SIGKILL",
            [](Draft& d, const std::string& v) { return Take(ParseDuration(v), d.options.stop_timeout); }},
    Setting{"stop-budget", kStop, kSingle, false, "DURATION", "off",
            "caps all of the above together, scaling each down in proportion; set it a little "
            "below what the platform grants (Docker 10 s, Kubernetes 30 s)",
            [](Draft& d, const std::string& v) { return Take(ParseDurationOrOff(v), d.options.stop_budget); }},
    Setting{"stop-signal", kStop, kSingle, false, "SIGNAL", "TERM",
            "what the server is sent to stop",
            [](Draft& d, const std::string& v) { return Take(ParseSignal(v), d.options.stop_signal); }},
    Setting{"success-exit-codes", kStop, kRepeated, false, "CODE,...", "",
            "exit codes that count as 0 after a requested stop, such as 143",
            TakeExitCodes},

    Setting{"listen", kGateway, kSingle, false, "[ADDR:]PORT", "off",
            "stand in front of the server there: requests are refused early, limited, carried to "
            "it and drained",
            TakeListen},
    Setting{"upstream", kGateway, kSingle, false, "HOST:PORT", "",
            "where the server is: an address, a name (looked up in /etc/hosts, else with DNS), or "
            "unix:PATH; without it --port of this host",
            TakeUpstream},
    Setting{"proxy-tokens", kGateway, kSingle, false, "FILE", "",
            "only requests with one of these tokens are carried: lines KEY:SHA256-OF-SECRET"
            "[:ENVIRONMENT]; so are those of $MODAL_AGENT_TOKENS",
            [](Draft& d, const std::string& v) { return TakeAbsolute(v, d.tokens_file); }},
    Setting{"environment", kGateway, kSingle, false, "NAME", "",
            "ours, for tokens that are good in one environment only",
            TakeEnvironmentName},
    Setting{"rate-limit", kGateway, kSingle, false, "COUNT", "off",
            "requests a second; what is more is answered with 429",
            [](Draft& d, const std::string& v) { return Take(ParseCountOrOff(v), d.gateway.rate_limit); }},
    Setting{"rate-burst", kGateway, kSingle, false, "COUNT", "",
            "and so many at once after a pause; without it five times the rate",
            TakeRateBurst},
    Setting{"max-concurrency", kGateway, kSingle, false, "COUNT", "off",
            "requests that are with the server at a time; others wait in a queue",
            [](Draft& d, const std::string& v) { return Take(ParseCountOrOff(v), d.gateway.max_concurrency); }},
    Setting{"target-concurrency", kGateway, kSingle, false, "COUNT", "off",
            "what /metrics tells autoscalers to aim at",
            [](Draft& d, const std::string& v) { return Take(ParseCountOrOff(v), d.gateway.target_concurrency); }},
    Setting{"queue", kGateway, kSingle, false, "COUNT", "128",
            "how many may wait there, or off; what is more is answered with 503",
            [](Draft& d, const std::string& v) { return Take(ParseCountOrOff(v), d.gateway.queue); }},
    Setting{"queue-timeout", kGateway, kSingle, false, "DURATION", "10s",
            "and for how long",
            [](Draft& d, const std::string& v) { return Take(ParseGatewayTimeAboveZero(v), d.gateway.queue_timeout_ms); }},
    Setting{"hold-requests", kGateway, kSingle, false, "DURATION", "off",
            "how long up to 1024 requests may wait for a server that starts, instead of being "
            "answered with 503",
            [](Draft& d, const std::string& v) { return Take(ParseGatewayTime(v), d.gateway.hold_ms); }},
    Setting{"max-header", kGateway, kSingle, false, "SIZE", "64k",
            "of a request; more is answered with 431",
            [](Draft& d, const std::string& v) { return Take(ParseSize(v, kSmallestHeader), d.gateway.max_header); }},
    Setting{"max-body", kGateway, kSingle, false, "SIZE", "4GiB",
            "of a request, or off; more is answered with 413",
            [](Draft& d, const std::string& v) { return Take(ParseSizeOrOff(v), d.gateway.max_body); }},
    Setting{"max-message", kGateway, kSingle, false, "SIZE", "2MiB",
            "of a WebSocket, or off; more closes it with 1009",
            [](Draft& d, const std::string& v) { return Take(ParseSizeOrOff(v), d.gateway.max_message); }},
    Setting{"header-timeout", kGateway, kSingle, false, "DURATION", "10s",
            "the longest that a request's head may take to come",
            [](Draft& d, const std::string& v) { return Take(ParseGatewayTimeAboveZero(v), d.gateway.header_timeout_ms); }},
    Setting{"connect-timeout", kGateway, kSingle, false, "DURATION", "5s",
            "and the server to take a connection",
            [](Draft& d, const std::string& v) { return Take(ParseGatewayTimeAboveZero(v), d.gateway.connect_timeout_ms); }},
    Setting{"first-byte-timeout", kGateway, kSingle, false, "DURATION", "off",
            "and its answer to begin",
            [](Draft& d, const std::string& v) { return Take(ParseGatewayTime(v), d.gateway.first_byte_timeout_ms); }},
    Setting{"idle-timeout", kGateway, kSingle, false, "DURATION", "75s",
            "how long nothing may move on a connection, or off",
            [](Draft& d, const std::string& v) { return Take(ParseGatewayTime(v), d.gateway.idle_timeout_ms); }},
    Setting{"request-timeout", kGateway, kSingle, false, "DURATION", "off",
            "the longest that a request may take altogether",
            [](Draft& d, const std::string& v) { return Take(ParseGatewayTime(v), d.gateway.request_timeout_ms); }},
    Setting{"trusted-proxies", kGateway, kRepeated, false, "CIDR,...", "",
            "networks whose word about their clients (X-Forwarded-For, Forwarded) is believed",
            TakeTrustedProxies},
    Setting{"allow-upgrade", kGateway, kSingle, false, "NAME,...", "websocket",
            "protocols to which a connection may change, or off",
            TakeUpgrades},
    Setting{"access-log", kGateway, kSingle, false, "FILE", "off",
            "a line for each request is appended to FILE (- is standard output)",
            TakeAccessLog},
    Setting{"access-log-format", kGateway, kSingle, false, "FORMAT", "json",
            "json or common",
            TakeAccessLogFormat},
    Setting{"slow-request", kGateway, kSingle, false, "DURATION", "off",
            "requests that take longer are told in the agent's log",
            [](Draft& d, const std::string& v) { return Take(ParseGatewayTime(v), d.gateway.slow_request_ms); }},
    Setting{"server-timing", kGateway, kSwitch, false, "", "false",
            "answers tell in Server-Timing how long they took",
            TakeServerTiming},
    Setting{"gateway-threads", kGateway, kSingle, false, "COUNT", "",
            "threads that carry requests; without it one for each CPU, and at most 4",
            TakeThreads},

    Setting{"user", kWorkload, kSingle, false, "USER[:GROUP]", "",
            "run hooks and server as this user (name or number)",
            [](Draft& d, const std::string& v) { d.user = v; return Result<void>(); }},
    Setting{"group", kWorkload, kSingle, false, "GROUP", "",
            "and as this group",
            [](Draft& d, const std::string& v) { d.group = v; return Result<void>(); }},
    Setting{"workdir", kWorkload, kSingle, false, "DIR", "",
            "and in this folder",
            [](Draft& d, const std::string& v) { return TakeFolder(v, d.options.workdir); }},
    Setting{"env", kWorkload, kRepeated, true, "NAME[=VALUE]", "",
            "set a variable for them; NAME alone takes over the agent's own",
            TakeEnv},
    Setting{"env-file", kWorkload, kRepeated, false, "FILE", "",
            "the same from a file of NAME=VALUE lines, as for `docker run --env-file`; --env "
            "counts more",
            [](Draft& d, const std::string& v) { d.env_files.push_back(v); return Result<void>(); }},
    Setting{"rlimit", kWorkload, kRepeated, false, "NAME=SOFT[:HARD]", "",
            "a resource limit for them, such as nofile=1024:65536",
            TakeLimit},

    Setting{"no-new-privs", kConfinement, kSwitch, false, "", "false",
            "set-user-ID programs and file capabilities give them nothing",
            [](Draft& d, const std::string& v) { return Take(ParseSwitch(v), d.options.no_new_privileges); }},
    Setting{"cap-keep", kConfinement, kRepeated, false, "CAP,...", "",
            "capabilities they keep, such as NET_BIND_SERVICE, or none; all others are dropped",
            TakeCapabilities},
    Setting{"seccomp-profile", kConfinement, kSingle, false, "FILE", "unconfined",
            "a profile in Docker's JSON format, default (the built-in one) or unconfined; "
            "implies no-new-privs",
            [](Draft& d, const std::string& v) { d.seccomp_profile = v; return Result<void>(); }},

    Setting{"config", kGeneral, kSingle, false, "FILE", "/etc/modal-agent/config",
            "read settings from FILE, or off; the default may be missing",
            [](Draft&, const std::string&) { return Result<void>(); }},
    Setting{"log-format", kGeneral, kSingle, false, "FORMAT", "auto",
            "text, json, or auto: text if stderr is a terminal",
            TakeLogFormat},
    Setting{"log-level", kGeneral, kSingle, false, "LEVEL", "info",
            "the least that is logged: debug, info, warn or error",
            TakeLogLevel},
};
// clang-format on

}  // namespace

std::string_view SettingGroupTitle(SettingGroup group) {
  constexpr std::array<std::string_view, kSettingGroupCount> kTitles{
      "Ports",          "Start",   "Health",           "Snapshots",
      "Drain and stop", "Gateway", "Hooks and server", "Confinement",
      "General"};
  return kTitles[static_cast<size_t>(group)];
}

std::span<const Setting> AllSettings() { return kSettings; }

const Setting* FindSetting(std::string_view name) {
  const auto* const found = std::find_if(kSettings.begin(), kSettings.end(),
                                         [name](const Setting& one) { return one.name == name; });
  return found == kSettings.end() ? nullptr : found;
}

std::string VariableName(const Setting& setting) {
  std::string variable(kVariablePrefix);
  for (const char c : setting.name) {
    variable += c == '-' ? '_' : static_cast<char>(c - 'a' + 'A');
  }
  return variable;
}

const Setting* FindByVariable(std::string_view variable) {
  if (!variable.starts_with(kVariablePrefix)) return nullptr;
  std::string name;
  for (const char c : variable.substr(kVariablePrefix.size())) {
    if ((c < 'A' || c > 'Z') && c != '_') return nullptr;
    name += c == '_' ? '-' : static_cast<char>(c - 'A' + 'a');
  }
  return FindSetting(name);
}

}  // namespace modal

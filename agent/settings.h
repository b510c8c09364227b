// The one table of settings: from it come the flags, the MODAL_AGENT_* variables, the keys of the
// config file, `--help` and `modal-agent config`.
//
// One name everywhere: --startup-timeout 5, MODAL_AGENT_STARTUP_TIMEOUT=5, startup-timeout = 5.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/log.h"
#include "agent/base/result.h"
#include "lifecycle/options.h"

namespace modal {

// In the order of `--help`.
enum class SettingGroup {
  kPorts,
  kStart,
  kHealth,
  kSnapshots,
  kStop,
  kGateway,
  kWorkload,
  kConfinement,
  kGeneral
};
inline constexpr int kSettingGroupCount = 9;
std::string_view SettingGroupTitle(SettingGroup group);

enum class ValueForm {
  kSingle,    // one value; given again, the last one counts
  kRepeated,  // each use adds a value; in a variable each stands on a line of its own
  kSwitch,    // a flag that needs no value
};

// What settings are collected in. Those that need each other (user and group, the whole
// environment, the seccomp profile) stay text until all are known: see MakeOptions() in config.h.
struct Draft {
  lifecycle::Options options;
  std::optional<LogFormat> log_format;  // empty: by what stderr is
  LogLevel log_level = LogLevel::kInfo;

  std::string any_address = "0.0.0.0";  // of --admin without ADDR

  // Of the gateway; what it needs of other settings is added by FinishDataPlane().
  policy::GatewayConfig gateway{};
  std::optional<lifecycle::Upstream> upstream;
  std::optional<uint32_t> rate_burst;
  uint32_t gateway_threads = 0;  // 0: by the number of CPUs
  std::vector<policy::Network> trusted_proxies;
  std::string tokens_file;
  std::string access_log;  // as in DataPlane
  bool access_log_is_common = false;

  std::string user;
  std::string group;
  std::vector<std::string> env;
  std::vector<std::string> env_files;
  std::string seccomp_profile;
};

struct Setting {
  std::string_view name;
  SettingGroup group;
  ValueForm form;
  bool secret;                  // its values are never shown
  std::string_view value_name;  // "DURATION"; empty for a switch
  std::string_view unset;       // the default, as one would write it; empty: none
  std::string_view help;        // a line or two, without a full stop
  // Takes one value into the draft. An Error says what was expected.
  Result<void> (*apply)(Draft& draft, const std::string& value);
};

// In the order of `--help`.
std::span<const Setting> AllSettings();
const Setting* FindSetting(std::string_view name);
// "MODAL_AGENT_STARTUP_TIMEOUT" for "startup-timeout".
std::string VariableName(const Setting& setting);

// Holds proxy tokens: lines as in the file of --proxy-tokens, separated by line ends or blanks. No
// setting: it has neither a flag nor a line of the config file.
inline constexpr std::string_view kTokensVariable = "MODAL_AGENT_TOKENS";
// The setting of such a name, or null.
const Setting* FindByVariable(std::string_view variable);

}  // namespace modal

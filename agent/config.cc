#include "agent/config.h"

#include <algorithm>
#include <cerrno>

#include "agent/base/strings.h"
#include "agent/config_file.h"
#include "agent/text_file.h"
#include "agent/workload_environment.h"

namespace modal {
namespace {

constexpr std::string_view kConfig = "config";

std::optional<std::string_view> Variable(const char* const* environment, std::string_view name) {
  for (; *environment; ++environment) {
    const std::string_view variable = *environment;
    if (variable.size() > name.size() && variable.starts_with(name) &&
        variable[name.size()] == '=') {
      return variable.substr(name.size() + 1);
    }
  }
  return std::nullopt;
}

std::vector<GivenValue> ValuesOfVariable(const Setting& setting, std::string_view text) {
  if (setting.form != ValueForm::kRepeated) return {{std::string(text)}};
  std::vector<GivenValue> values;
  for (const std::string& line : Split(text, '\n')) {
    if (!Trim(line).empty()) values.push_back({std::string(Trim(line))});
  }
  return values;
}

std::string UnknownVariable(std::string_view name) {
  // The prefix, which all have, would make everything look alike.
  std::vector<std::string> known;
  for (const Setting& setting : AllSettings()) {
    known.push_back(VariableName(setting).substr(kVariablePrefix.size()));
  }
  std::string warning = Concat(name, " is no setting and is ignored");
  if (const auto nearest = Nearest(name.substr(kVariablePrefix.size()), known)) {
    warning += Concat("; did you mean ", kVariablePrefix, *nearest, "?");
  }
  return warning;
}

Error UnknownKey(const std::string& key) {
  std::vector<std::string> known;
  for (const Setting& setting : AllSettings()) known.emplace_back(setting.name);
  std::string message = Concat("unknown setting '", key, "'");
  if (const auto nearest = Nearest(key, known)) message += "; did you mean " + *nearest + "?";
  return Error(message);
}

}  // namespace

Result<Configuration> Configuration::Gather(const std::vector<FlagUse>& flags,
                                            const Surroundings& around) {
  Configuration configuration;
  configuration.states_.reserve(AllSettings().size());
  for (const Setting& setting : AllSettings()) {
    configuration.states_.push_back({&setting, Origin::kDefault, {}});
  }
  // From the top down: what is taken already is left alone by the ones below.
  configuration.TakeFlags(flags);
  configuration.TakeEnvironment(around);
  if (Result<void> file = configuration.TakeFile(around); !file) return std::move(file.error());
  configuration.TakeDefaults(around);
  return configuration;
}

SettingState& Configuration::At(const Setting& setting) {
  return states_[static_cast<size_t>(&setting - AllSettings().data())];
}

const SettingState& Configuration::operator[](std::string_view name) const {
  const Setting* setting = FindSetting(name);
  MODAL_CHECK(setting);
  return states_[static_cast<size_t>(setting - AllSettings().data())];
}

void Configuration::TakeFlags(const std::vector<FlagUse>& flags) {
  for (const FlagUse& flag : flags) {
    SettingState& state = At(*flag.setting);
    state.origin = Origin::kFlag;
    // An empty value takes back those before it; for a single one the last counts anyway.
    const bool starts_over = flag.setting->form != ValueForm::kRepeated || flag.value.empty();
    if (starts_over) state.values.clear();
    if (!flag.value.empty() || !flag.setting->unset.empty()) state.values.push_back({flag.value});
  }
}

void Configuration::TakeEnvironment(const Surroundings& around) {
  for (const char* const* one = around.environment; *one; ++one) {
    const std::string_view variable = *one;
    if (!variable.starts_with(kVariablePrefix)) continue;
    const size_t equals = variable.find('=');
    if (equals == std::string_view::npos) continue;
    TakeVariable(variable.substr(0, equals), variable.substr(equals + 1));
  }
}

void Configuration::TakeVariable(std::string_view name, std::string_view value) {
  if (name == kTokensVariable) return;
  const Setting* setting = FindByVariable(name);
  if (IsServiceLink(name, value)) {
    if (setting) {
      warnings_.push_back(Concat(name, "=", value,
                                 " is ignored: it is what Kubernetes injects for a service of ",
                                 "that name (enableServiceLinks: false stops it)"));
    }
    return;
  }
  if (!setting) {
    warnings_.push_back(UnknownVariable(name));
    return;
  }
  SettingState& state = At(*setting);
  if (value.empty() || state.origin == Origin::kFlag) return;
  state.origin = Origin::kEnvironment;
  state.values = ValuesOfVariable(*setting, value);
}

Result<void> Configuration::TakeFile(const Surroundings& around) {
  SettingState& chosen = At(*FindSetting(kConfig));
  std::string path = around.root + std::string(chosen.setting->unset);
  if (chosen.origin != Origin::kDefault) path = chosen.values.front().text;
  if (path == "off") return {};

  Result<std::string> text = ReadTextFile(path);
  if (!text) {
    const int code = text.error().code();
    if (chosen.origin == Origin::kDefault && (code == ENOENT || code == ENOTDIR)) return {};
    return std::move(text.error()).While("config file");
  }
  file_ = path;
  Result<std::vector<ConfigEntry>> entries = ParseConfigFile(*text, path);
  if (!entries) return std::move(entries.error());

  for (ConfigEntry& entry : *entries) {
    const std::string where = Concat(path, ":", entry.line);
    const Setting* setting = FindSetting(entry.key);
    if (!setting) return UnknownKey(entry.key).While(where);
    if (setting == chosen.setting) {
      return Error(where + ": a config file cannot name another one");
    }
    SettingState& state = At(*setting);
    if (state.origin > Origin::kFile) continue;
    if (!state.values.empty() && setting->form != ValueForm::kRepeated) {
      return Error(
          Concat(where, ": ", entry.key, " is set already in line ", state.values.front().line));
    }
    state.origin = Origin::kFile;
    if (!entry.value.empty() || !setting->unset.empty()) {
      state.values.push_back({std::move(entry.value), entry.line});
    }
  }
  return {};
}

void Configuration::TakeDefaults(const Surroundings& around) {
  for (SettingState& state : states_) {
    if (state.origin != Origin::kDefault || state.setting->unset.empty()) continue;
    state.values.push_back({std::string(state.setting->unset)});
  }
  SettingState& admin = At(*FindSetting("admin"));
  if (admin.origin == Origin::kDefault && around.is_local_run) {
    admin.values = {{"127.0.0.1:8001"}};
  }
  SettingState& port = At(*FindSetting("port"));
  const auto variable = Variable(around.environment, "PORT");
  if (port.origin == Origin::kDefault && variable && !variable->empty()) {
    port.origin = Origin::kPortVariable;
    port.values = {{std::string(*variable)}};
  }
}

std::string Configuration::DescribePlace(const SettingState& state, const GivenValue& value) const {
  const std::string_view name = state.setting->name;
  switch (state.origin) {
    case Origin::kPortVariable:
      return "PORT";
    case Origin::kEnvironment:
      return VariableName(*state.setting);
    case Origin::kFile:
      return Concat(file_, ":", value.line, ": ", name);
    case Origin::kDefault:
    case Origin::kFlag:
      break;
  }
  return Concat("--", name);
}

std::string Configuration::Describe(const SettingState& state, const GivenValue& value) const {
  std::string place = DescribePlace(state, value);
  if (state.setting->secret || value.text.empty()) return place;
  const bool is_variable =
      state.origin == Origin::kEnvironment || state.origin == Origin::kPortVariable;
  const std::string_view joint = is_variable ? "=" : state.origin == Origin::kFile ? " = " : " ";
  return Concat(place, joint, value.text);
}

std::string Configuration::DescribeOrigin(const SettingState& state,
                                          const GivenValue& value) const {
  switch (state.origin) {
    case Origin::kDefault:
      return state.values.empty() ? "not set" : "default";
    case Origin::kPortVariable:
      return "$PORT";
    case Origin::kFile:
      return value.line ? Concat(file_, ":", value.line) : file_;
    case Origin::kEnvironment:
      return "environment " + VariableName(*state.setting);
    case Origin::kFlag:
      return "flag";
  }
  return "default";
}

}  // namespace modal

#include "agent/workload_environment.h"

#include <algorithm>
#include <array>
#include <optional>
#include <unordered_map>

#include "agent/base/strings.h"

namespace modal {
namespace {

struct Variable {
  std::string_view name;
  std::string_view value;
};

std::optional<Variable> SplitVariable(const char* text) {
  const std::string_view whole = text;
  const size_t equals = whole.find('=');
  if (equals == 0 || equals == std::string_view::npos) return std::nullopt;
  return Variable{whole.substr(0, equals), whole.substr(equals + 1)};
}

std::optional<std::string_view> Find(const char* const* variables, std::string_view name) {
  for (; *variables; ++variables) {
    const std::optional<Variable> variable = SplitVariable(*variables);
    if (variable && variable->name == name) return variable->value;
  }
  return std::nullopt;
}

bool IsOurs(const Variable& variable) {
  return variable.name.starts_with(kVariablePrefix) &&
         !IsServiceLink(variable.name, variable.value);
}

// What replaces or joins the inherited variables, in order of first mention.
class Overrides {
 public:
  void Set(std::string name, std::optional<std::string> value) {
    const auto [at, is_new] = index_.try_emplace(name, list_.size());
    if (is_new) list_.push_back({std::move(name), std::nullopt, false});
    list_[at->second].value = std::move(value);
  }
  // If `name` is overridden, appends its new value where the old one stood. A name that is
  // inherited twice stays only once.
  bool Place(std::string_view name, std::vector<std::string>& to) {
    const auto found = index_.find(std::string(name));
    if (found == index_.end()) return false;
    PlaceOnce(list_[found->second], to);
    return true;
  }
  void PlaceRest(std::vector<std::string>& to) {
    for (Override& one : list_) PlaceOnce(one, to);
  }

 private:
  struct Override {
    std::string name;
    std::optional<std::string> value;  // empty: unset
    bool placed;
  };
  static void PlaceOnce(Override& one, std::vector<std::string>& to) {
    if (one.value && !one.placed) to.push_back(one.name + "=" + *one.value);
    one.placed = true;
  }

  std::vector<Override> list_;
  std::unordered_map<std::string, size_t> index_;
};

void SetUser(const process::Credentials& user, Overrides& overrides) {
  overrides.Set("HOME", user.home);
  const std::optional<std::string> name =
      user.name.empty() ? std::nullopt : std::optional(user.name);
  overrides.Set("USER", name);
  overrides.Set("LOGNAME", name);
}

// Takes the digits and letters up to the next '_' from the front of `text`, and that '_'.
std::string_view TakeWord(std::string_view& text) {
  const std::string_view word = text.substr(0, text.find('_'));
  text.remove_prefix(std::min(word.size() + 1, text.size()));
  return word;
}

// "80_TCP", "80_TCP_PROTO", "80_TCP_PORT", "80_TCP_ADDR".
bool IsPortLink(std::string_view text) {
  if (!ParseUnsigned(TakeWord(text))) return false;
  const std::string_view protocol = TakeWord(text);
  if (protocol != "TCP" && protocol != "UDP" && protocol != "SCTP") return false;
  return text.empty() || text == "PROTO" || text == "PORT" || text == "ADDR";
}

}  // namespace

bool IsServiceLink(std::string_view name, std::string_view value) {
  if (name.ends_with("_SERVICE_HOST")) return true;
  if (name.ends_with("_SERVICE_PORT")) return true;
  if (name.find("_SERVICE_PORT_") != std::string_view::npos) return true;
  for (const std::string_view scheme : {"tcp://", "udp://", "sctp://"}) {
    if (name.ends_with("_PORT") && value.starts_with(scheme)) return true;
  }
  constexpr std::string_view kPort = "_PORT_";
  const size_t port = name.find(kPort);
  return port != std::string_view::npos && IsPortLink(name.substr(port + kPort.size()));
}

std::vector<std::string> MakeEnvironment(const char* const* inherited,
                                         const WorkloadEnvironment& wanted) {
  Overrides overrides;
  if (wanted.changed_user) SetUser(*wanted.changed_user, overrides);
  for (const EnvironmentEntry& entry : wanted.entries) {
    if (entry.value) {
      overrides.Set(entry.name, entry.value);
    } else if (const auto ours = Find(inherited, entry.name)) {
      overrides.Set(entry.name, std::string(*ours));
    }
  }
  overrides.Set("PORT", std::to_string(wanted.port));
  if (!wanted.control.empty()) overrides.Set("MODAL_AGENT_CONTROL", wanted.control);

  std::vector<std::string> environment;
  for (; *inherited; ++inherited) {
    const std::optional<Variable> variable = SplitVariable(*inherited);
    if (!variable || overrides.Place(variable->name, environment) || IsOurs(*variable)) continue;
    environment.emplace_back(*inherited);
  }
  overrides.PlaceRest(environment);
  return environment;
}

}  // namespace modal

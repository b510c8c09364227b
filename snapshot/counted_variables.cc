#include "snapshot/counted_variables.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string_view>

#include "agent/base/strings.h"

namespace modal::snapshot {
namespace {

// Some runtimes say TERM and container also where there is no terminal, and not in an image's
// build.
constexpr std::array<std::string_view, 15> kOfOneRun{
    "HOSTNAME",         "container", "container_uuid", "INVOCATION_ID", "JOURNAL_STREAM",
    "LISTEN_PID",       "MAINPID",   "NOTIFY_SOCKET",  "WATCHDOG_PID",  "MANAGERPID",
    "SYSTEMD_EXEC_PID", "_",         "SHLVL",          "OLDPWD",        "TERM"};

std::string_view NameOf(std::string_view variable) {
  return variable.substr(0, variable.find('='));
}

std::string_view ValueOf(std::string_view variable) {
  const size_t equals = variable.find('=');
  return equals == std::string_view::npos ? "" : variable.substr(equals + 1);
}

bool IsAddress(const std::string& text) {
  std::array<unsigned char, sizeof(in6_addr)> address;
  return ::inet_pton(AF_INET, text.c_str(), address.data()) == 1 ||
         ::inet_pton(AF_INET6, text.c_str(), address.data()) == 1;
}

using Values = std::map<std::string, std::string, std::less<>>;

std::optional<std::string> Find(const Values& values, const std::string& name) {
  const auto found = values.find(name);
  if (found == values.end()) return std::nullopt;
  return found->second;
}

// Names of services that have a whole group.
std::vector<std::string> Services(const Values& values) {
  constexpr std::string_view kHost = "_SERVICE_HOST";
  std::vector<std::string> services;
  for (const auto& [name, host] : values) {
    if (!name.ends_with(kHost) || name.size() == kHost.size() || !IsAddress(host)) continue;
    const std::string service = name.substr(0, name.size() - kHost.size());
    const auto port = Find(values, service + "_SERVICE_PORT");
    const auto link = Find(values, service + "_PORT");
    if (!port || !ParseUnsigned(*port) || !link) continue;
    const bool is_v6 = host.find(':') != std::string::npos;
    const std::string place = is_v6 ? Concat("[", host, "]:", *port) : Concat(host, ":", *port);
    for (const std::string_view protocol : {"tcp://", "udp://", "sctp://"}) {
      if (*link == Concat(protocol, place)) services.push_back(service);
    }
  }
  return services;
}

// Takes the digits and letters up to the next '_' from the front of `text`, and that '_'.
std::string_view TakeWord(std::string_view& text) {
  const std::string_view word = text.substr(0, text.find('_'));
  text.remove_prefix(std::min(word.size() + 1, text.size()));
  return word;
}

// `rest` is what stands behind the service's name.
bool BelongsToService(std::string_view rest, std::string_view value) {
  constexpr std::string_view kNamedPort = "_SERVICE_PORT_";
  constexpr std::string_view kLink = "_PORT_";
  if (rest == "_SERVICE_HOST" || rest == "_SERVICE_PORT" || rest == "_PORT") return true;
  if (rest.starts_with(kNamedPort)) return ParseUnsigned(value).has_value();
  if (!rest.starts_with(kLink)) return false;
  rest.remove_prefix(kLink.size());
  if (!ParseUnsigned(TakeWord(rest))) return false;
  const std::string_view protocol = TakeWord(rest);
  if (protocol != "TCP" && protocol != "UDP" && protocol != "SCTP") return false;
  return rest.empty() || rest == "PROTO" || rest == "PORT" || rest == "ADDR";
}

bool IsIgnored(std::string_view name, const std::vector<std::string>& ignored) {
  if (name.starts_with("MODAL_AGENT_")) return true;
  if (std::find(kOfOneRun.begin(), kOfOneRun.end(), name) != kOfOneRun.end()) return true;
  return std::any_of(ignored.begin(), ignored.end(), [&](std::string_view pattern) {
    if (!pattern.ends_with('*')) return name == pattern;
    return name.starts_with(pattern.substr(0, pattern.size() - 1));
  });
}

}  // namespace

std::vector<std::string> CountedVariables(const std::vector<std::string>& environment,
                                          const std::vector<std::string>& ignored) {
  Values values;
  for (const std::string& variable : environment) {
    values.emplace(NameOf(variable), ValueOf(variable));
  }
  const std::vector<std::string> services = Services(values);
  std::vector<std::string> counted;
  for (const std::string& variable : environment) {
    const std::string_view name = NameOf(variable);
    const bool is_link =
        std::any_of(services.begin(), services.end(), [&](const std::string& service) {
          return name.starts_with(service) &&
                 BelongsToService(name.substr(service.size()), ValueOf(variable));
        });
    if (!is_link && !IsIgnored(name, ignored)) counted.push_back(variable);
  }
  std::stable_sort(counted.begin(), counted.end(), [](const std::string& a, const std::string& b) {
    return NameOf(a) < NameOf(b);
  });
  return counted;
}

}  // namespace modal::snapshot

#include "agent/data_plane_options.h"

#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "agent/base/socket_address.h"
#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"
#include "agent/event/name_files.h"
#include "agent/policy/tokens.h"
#include "agent/text_file.h"

namespace modal {
namespace {

constexpr uint32_t kMostHeld = 1024;
constexpr uint32_t kBurstOfRate = 5;
constexpr int kMostDefaultThreads = 4;

Error At(const Configuration& configuration, std::string_view name, const std::string& message) {
  const SettingState& state = configuration[name];
  const GivenValue value = state.values.empty() ? GivenValue{} : state.values.front();
  return Error(Concat(configuration.Describe(state, value), ": ", message));
}

std::string_view TokensVariable(const char* const* environment) {
  for (; *environment; ++environment) {
    std::string_view variable = *environment;
    if (!variable.starts_with(kTokensVariable)) continue;
    variable.remove_prefix(kTokensVariable.size());
    if (variable.starts_with('=')) return variable.substr(1);
  }
  return {};
}

uint32_t DefaultThreads() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  if (::sched_getaffinity(0, sizeof cpus, &cpus) != 0) return 1;
  return static_cast<uint32_t>(std::clamp(CPU_COUNT(&cpus), 1, kMostDefaultThreads));
}

// Whether an interface of this host has the address: only then can it be bound.
bool IsOfThisHost(const SocketAddress& address) {
  if (address.is_loopback()) return true;
  const UniqueFd fd(::socket(address.get()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  SocketAddress any_port = *SocketAddress::Parse(address.host(), 0);
  return fd && ::bind(fd.get(), any_port.get(), any_port.size()) == 0;
}

// What is known of its name without asking anybody.
std::vector<SocketAddress> LocalAddressesOf(const lifecycle::Upstream& upstream) {
  return event::FindInHosts(event::ReadNameFiles().hosts, upstream.name);
}

// Whether a server at one of them would be in the way of one at the other.
bool Overlap(const lifecycle::ListenAddress& a, const lifecycle::ListenAddress& b) {
  if (a.port != b.port) return false;
  const Result<SocketAddress> one = SocketAddress::Parse(a.address, a.port);
  const Result<SocketAddress> other = SocketAddress::Parse(b.address, b.port);
  if (!one || !other) return false;
  if (one->host() == other->host()) return true;
  // [::] takes IPv4 too.
  const auto covers = [](const SocketAddress& any, const SocketAddress& address) {
    return any.host() == "::" ||
           (any.host() == "0.0.0.0" && address.host().find(':') == std::string::npos);
  };
  return covers(*one, *other) || covers(*other, *one);
}

void WarnOfVain(const Configuration& configuration, const Surroundings& around,
                std::vector<std::string>& warnings) {
  std::vector<std::string> vain;
  for (const SettingState& state : configuration.states()) {
    if (state.setting->group != SettingGroup::kGateway || state.origin == Origin::kDefault)
      continue;
    if (state.setting->name == "listen" || state.values.empty()) continue;
    vain.push_back(configuration.DescribePlace(state, state.values.front()));
  }
  if (!TokensVariable(around.environment).empty()) vain.emplace_back(kTokensVariable);
  if (vain.empty()) return;
  warnings.push_back(
      Concat(Join(vain, ", "), vain.size() == 1 ? " has" : " have", " no effect without --listen"));
}

// The variable's value with a line for each token.
std::string LinesOf(std::string_view value) {
  std::string lines(value);
  std::replace_if(
      lines.begin(), lines.end(), [](char c) { return c == ' ' || c == '\t'; }, '\n');
  return lines;
}

Result<void> FinishTokens(const Configuration& configuration, const Surroundings& around,
                          Draft& draft) {
  lifecycle::DataPlane& data_plane = draft.options.data_plane;
  const auto take = [&data_plane](std::string_view text, const std::string& name) -> Result<void> {
    if (Result<void> is_text = CheckIsText(text, name); !is_text) return is_text;
    Result<std::vector<policy::TokenRecord>> tokens = policy::ParseTokens(text, name);
    if (!tokens) return std::move(tokens.error());
    data_plane.config.auth_required = 1;
    data_plane.tokens.insert(data_plane.tokens.end(), tokens->begin(), tokens->end());
    return {};
  };
  if (!draft.tokens_file.empty()) {
    const SettingState& state = configuration["proxy-tokens"];
    const std::string where = configuration.DescribePlace(state, state.values.front());
    Result<std::string> text = ReadTextFile(draft.tokens_file);
    if (!text) return std::move(text.error()).While(where);
    Result<void> taken = take(*text, draft.tokens_file);
    if (!taken) return std::move(taken.error()).While(where);
  }
  const std::string_view variable = TokensVariable(around.environment);
  if (variable.empty()) return {};
  return take(LinesOf(variable), std::string(kTokensVariable));
}

Result<void> FinishUpstream(const Configuration& configuration, Draft& draft) {
  using Kind = lifecycle::Upstream::Kind;
  lifecycle::Options& options = draft.options;
  if (draft.upstream) {
    options.upstream = *draft.upstream;
  } else {
    options.upstream.port = options.port;
  }
  lifecycle::Upstream& upstream = options.upstream;
  if (!upstream.name.empty()) {
    const std::vector<SocketAddress> local = LocalAddressesOf(upstream);
    if (!local.empty() && std::all_of(local.begin(), local.end(), IsOfThisHost)) {
      upstream.kind = Kind::kPort;
    }
  } else if (upstream.kind == Kind::kPort) {
    const Result<SocketAddress> address = SocketAddress::Parse(upstream.address, upstream.port);
    if (!address) return At(configuration, "upstream", address.error().message());
    if (!IsOfThisHost(*address)) upstream.kind = Kind::kElsewhere;
  }
  if (upstream.kind == Kind::kUnixSocket && !options.health_path.empty()) {
    return At(configuration, "health-path", "cannot be asked for at a unix socket (--upstream)");
  }
  SetUpstream(upstream, options.data_plane.config);
  return {};
}

// Two that are to listen at the same place.
Result<void> CheckAddresses(const Configuration& configuration, const lifecycle::Options& options) {
  const lifecycle::Upstream& upstream = options.upstream;
  std::vector<std::string> addresses{upstream.address};
  if (!upstream.name.empty()) {
    addresses.clear();
    for (const SocketAddress& one : LocalAddressesOf(upstream)) addresses.push_back(one.host());
  }
  const bool overlap =
      std::any_of(addresses.begin(), addresses.end(), [&](const std::string& address) {
        return Overlap(*options.listen, {address, upstream.port});
      });
  if (upstream.kind == lifecycle::Upstream::Kind::kPort && overlap) {
    return At(configuration, "listen",
              Concat("the server is to be at ", upstream.ToString(),
                     upstream.is_default ? " (--port)" : " (--upstream)",
                     "; choose another port for one of them"));
  }
  if (options.admin && !options.admin_is_default && Overlap(*options.listen, *options.admin)) {
    return At(configuration, "listen",
              "the admin endpoints are to be there (--admin); choose another port for one of them");
  }
  return {};
}

}  // namespace

Result<void> FinishDataPlane(const Configuration& configuration, const Surroundings& around,
                             Draft& draft, std::vector<std::string>& warnings) {
  lifecycle::Options& options = draft.options;
  if (!options.listen) {
    WarnOfVain(configuration, around, warnings);
    options.data_plane.config.threads = 1;
    return {};
  }
  policy::GatewayConfig& config = options.data_plane.config;
  config = draft.gateway;
  config.threads = draft.gateway_threads ? draft.gateway_threads : DefaultThreads();
  const uint64_t burst = draft.rate_burst.value_or(
      std::min<uint64_t>(uint64_t{config.rate_limit} * kBurstOfRate, 1'000'000));
  config.rate_burst = static_cast<uint32_t>(config.rate_limit ? burst : 0);
  config.hold_most = config.hold_ms ? kMostHeld : 0;
  options.data_plane.access_log = draft.access_log;
  if (!draft.access_log.empty()) {
    config.access_log = draft.access_log_is_common ? policy::AccessLogFormat::kCommon
                                                   : policy::AccessLogFormat::kJson;
  }
  config.trusted_count = static_cast<uint32_t>(draft.trusted_proxies.size());
  std::copy(draft.trusted_proxies.begin(), draft.trusted_proxies.end(), config.trusted);
  if (Result<void> tokens = FinishTokens(configuration, around, draft); !tokens) return tokens;
  if (Result<void> upstream = FinishUpstream(configuration, draft); !upstream) return upstream;
  return CheckAddresses(configuration, options);
}

}  // namespace modal

#include "lifecycle/reload.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

namespace modal::lifecycle {
namespace {

using policy::GatewayConfig;

struct Row {
  std::string_view name;
  bool (*differs)(const Options& a, const Options& b);
  void (*take_over)(const Options& fresh, Options& running);  // null: at the next start
};

template <auto kMember>
bool Differs(const Options& a, const Options& b) {
  return a.*kMember != b.*kMember;
}

template <auto kMember>
constexpr Row AtOnce(std::string_view name) {
  return {name, Differs<kMember>,
          [](const Options& fresh, Options& running) { running.*kMember = fresh.*kMember; }};
}

template <auto kMember>
constexpr Row AtNextStart(std::string_view name) {
  return {name, Differs<kMember>, nullptr};
}

bool OtherAdmin(const Options& a, const Options& b) {
  if (a.admin.has_value() != b.admin.has_value()) return true;
  return a.admin && (a.admin->address != b.admin->address || a.admin->port != b.admin->port);
}

bool OtherListen(const Options& a, const Options& b) {
  if (a.listen.has_value() != b.listen.has_value()) return true;
  return a.listen && (a.listen->address != b.listen->address || a.listen->port != b.listen->port);
}

// Without --listen on both sides the gateway's settings are about nothing.
bool Carry(const Options& a, const Options& b) { return a.listen && b.listen; }

// One that nobody chose follows --port, and the server.
bool OtherUpstream(const Options& a, const Options& b) {
  if (!Carry(a, b) || (a.upstream.is_default && b.upstream.is_default)) return false;
  return a.upstream.is_default != b.upstream.is_default ||
         a.upstream.ToString() != b.upstream.ToString();
}

bool OtherTokens(const Options& a, const Options& b) {
  const auto same = [](const policy::TokenRecord& one, const policy::TokenRecord& other) {
    return std::memcmp(&one, &other, sizeof one) == 0;
  };
  const DataPlane& one = a.data_plane;
  const DataPlane& other = b.data_plane;
  return Carry(a, b) && (one.config.auth_required != other.config.auth_required ||
                         !std::equal(one.tokens.begin(), one.tokens.end(), other.tokens.begin(),
                                     other.tokens.end(), same));
}

void TakeTokens(const Options& fresh, Options& running) {
  running.data_plane.config.auth_required = fresh.data_plane.config.auth_required;
  running.data_plane.tokens = fresh.data_plane.tokens;
}

bool OtherAccessLog(const Options& a, const Options& b) {
  return Carry(a, b) && a.data_plane.access_log != b.data_plane.access_log;
}

void TakeAccessLog(const Options& fresh, Options& running) {
  running.data_plane.access_log = fresh.data_plane.access_log;
  running.data_plane.config.access_log = fresh.data_plane.config.access_log;
}

// Members of the gateway's configuration: numbers, and arrays without padding.
template <auto... kMembers>
bool DiffersInGateway(const Options& a, const Options& b) {
  const policy::GatewayConfig& one = a.data_plane.config;
  const policy::GatewayConfig& other = b.data_plane.config;
  return Carry(a, b) &&
         ((std::memcmp(&(one.*kMembers), &(other.*kMembers), sizeof(one.*kMembers)) != 0) || ...);
}

template <auto... kMembers>
constexpr Row OfGateway(std::string_view name) {
  return {name, DiffersInGateway<kMembers...>, [](const Options& fresh, Options& running) {
            const policy::GatewayConfig& from = fresh.data_plane.config;
            policy::GatewayConfig& to = running.data_plane.config;
            (std::memcpy(&(to.*kMembers), &(from.*kMembers), sizeof(to.*kMembers)), ...);
          }};
}

bool OtherUser(const Options& a, const Options& b) {
  if (a.credentials.has_value() != b.credentials.has_value()) return true;
  return a.credentials &&
         (a.credentials->uid != b.credentials->uid || a.credentials->gid != b.credentials->gid ||
          a.credentials->groups != b.credentials->groups);
}

bool OtherLimits(const Options& a, const Options& b) {
  const auto same = [](const process::ResourceLimit& one, const process::ResourceLimit& other) {
    return one.resource == other.resource && one.limit.rlim_cur == other.limit.rlim_cur &&
           one.limit.rlim_max == other.limit.rlim_max;
  };
  return !std::equal(a.limits.begin(), a.limits.end(), b.limits.begin(), b.limits.end(), same);
}

bool OtherFilter(const Options& a, const Options& b) {
  if (a.seccomp.has_value() != b.seccomp.has_value()) return true;
  if (!a.seccomp) return false;
  const sock_fprog one = a.seccomp->program();
  const sock_fprog other = b.seccomp->program();
  return a.seccomp->flags() != b.seccomp->flags() || one.len != other.len ||
         std::memcmp(one.filter, other.filter, one.len * sizeof *one.filter) != 0;
}

// In the order of `--help`. The environment as a whole follows from port, control and user, too:
// `added_environment` is what it holds of its own.
constexpr std::array kRows{
    AtNextStart<&Options::port>("port"),
    Row{"admin", OtherAdmin, nullptr},
    AtNextStart<&Options::control>("control"),
    AtNextStart<&Options::on_enter>("on-enter"),
    AtNextStart<&Options::on_restore>("on-restore"),
    AtOnce<&Options::on_exit>("on-exit"),
    AtNextStart<&Options::hooks_dir>("hooks-dir"),
    AtOnce<&Options::hook_timeout>("hook-timeout"),
    AtNextStart<&Options::startup_timeout>("startup-timeout"),
    AtOnce<&Options::health_path>("health-path"),
    AtOnce<&Options::health_interval>("health-interval"),
    AtOnce<&Options::health_timeout>("health-timeout"),
    AtOnce<&Options::health_threshold>("health-threshold"),
    AtOnce<&Options::restart>("restart"),
    AtNextStart<&Options::snapshots>("snapshot-dir"),
    AtOnce<&Options::drain_delay>("drain-delay"),
    AtOnce<&Options::exit_grace_period>("exit-grace-period"),
    AtOnce<&Options::stop_timeout>("stop-timeout"),
    AtOnce<&Options::stop_budget>("stop-budget"),
    AtOnce<&Options::stop_signal>("stop-signal"),
    AtOnce<&Options::success_exit_codes>("success-exit-codes"),
    Row{"listen", OtherListen, nullptr},
    Row{"upstream", OtherUpstream, nullptr},
    Row{"proxy-tokens", OtherTokens, TakeTokens},
    OfGateway<&GatewayConfig::environment>("environment"),
    OfGateway<&GatewayConfig::rate_limit>("rate-limit"),
    OfGateway<&GatewayConfig::rate_burst>("rate-burst"),
    OfGateway<&GatewayConfig::max_concurrency>("max-concurrency"),
    OfGateway<&GatewayConfig::target_concurrency>("target-concurrency"),
    OfGateway<&GatewayConfig::queue>("queue"),
    OfGateway<&GatewayConfig::queue_timeout_ms>("queue-timeout"),
    OfGateway<&GatewayConfig::hold_ms, &GatewayConfig::hold_most>("hold-requests"),
    OfGateway<&GatewayConfig::max_header>("max-header"),
    OfGateway<&GatewayConfig::max_body>("max-body"),
    OfGateway<&GatewayConfig::max_message>("max-message"),
    OfGateway<&GatewayConfig::header_timeout_ms>("header-timeout"),
    OfGateway<&GatewayConfig::connect_timeout_ms>("connect-timeout"),
    OfGateway<&GatewayConfig::first_byte_timeout_ms>("first-byte-timeout"),
    OfGateway<&GatewayConfig::idle_timeout_ms>("idle-timeout"),
    OfGateway<&GatewayConfig::request_timeout_ms>("request-timeout"),
    OfGateway<&GatewayConfig::trusted_count, &GatewayConfig::trusted>("trusted-proxies"),
    OfGateway<&GatewayConfig::upgrades>("allow-upgrade"),
    Row{"access-log", OtherAccessLog, TakeAccessLog},
    OfGateway<&GatewayConfig::access_log>("access-log-format"),
    OfGateway<&GatewayConfig::slow_request_ms>("slow-request"),
    OfGateway<&GatewayConfig::server_timing>("server-timing"),
    Row{"gateway-threads", DiffersInGateway<&GatewayConfig::threads>, nullptr},
    Row{"user", OtherUser, nullptr},
    AtNextStart<&Options::workdir>("workdir"),
    AtNextStart<&Options::added_environment>("env"),
    Row{"rlimit", OtherLimits, nullptr},
    AtNextStart<&Options::no_new_privileges>("no-new-privs"),
    AtNextStart<&Options::capabilities>("cap-keep"),
    Row{"seccomp-profile", OtherFilter, nullptr},
};

}  // namespace

ReloadOutcome TakeOver(const Options& fresh, Options& running) {
  ReloadOutcome outcome;
  // Follows from the log's settings, as these do from nothing here.
  running.data_plane.config.log_json = fresh.data_plane.config.log_json;
  for (const Row& row : kRows) {
    if (!row.differs(fresh, running)) continue;
    if (row.take_over) row.take_over(fresh, running);
    (row.take_over ? outcome.changed : outcome.waiting).emplace_back(row.name);
  }
  return outcome;
}

}  // namespace modal::lifecycle

#include "lifecycle/reload.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

namespace modal::lifecycle {
namespace {

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
    AtOnce<&Options::on_exit>("on-exit"),
    AtNextStart<&Options::hooks_dir>("hooks-dir"),
    AtOnce<&Options::hook_timeout>("hook-timeout"),
    AtNextStart<&Options::startup_timeout>("startup-timeout"),
    AtOnce<&Options::health_path>("health-path"),
    AtOnce<&Options::health_interval>("health-interval"),
    AtOnce<&Options::health_timeout>("health-timeout"),
    AtOnce<&Options::health_threshold>("health-threshold"),
    AtOnce<&Options::restart>("restart"),
    AtOnce<&Options::drain_delay>("drain-delay"),
    AtOnce<&Options::exit_grace_period>("exit-grace-period"),
    AtOnce<&Options::stop_timeout>("stop-timeout"),
    AtOnce<&Options::stop_budget>("stop-budget"),
    AtOnce<&Options::stop_signal>("stop-signal"),
    AtOnce<&Options::success_exit_codes>("success-exit-codes"),
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
  for (const Row& row : kRows) {
    if (!row.differs(fresh, running)) continue;
    if (row.take_over) row.take_over(fresh, running);
    (row.take_over ? outcome.changed : outcome.waiting).emplace_back(row.name);
  }
  return outcome;
}

}  // namespace modal::lifecycle

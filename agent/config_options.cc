// MakeOptions(): the values, each parsed by its row of the table, and then what needs several of
// them: the user, the data plane, the environment, the seccomp profile.
#include <unistd.h>

#include <algorithm>

#include "agent/base/strings.h"
#include "agent/config.h"
#include "agent/data_plane_options.h"
#include "agent/process/capabilities.h"
#include "agent/process/seccomp_filter.h"
#include "agent/text_file.h"
#include "agent/workload_environment.h"

namespace modal {
namespace {

Result<void> FinishUser(const Configuration& configuration, const Surroundings& around,
                        Draft& draft) {
  if (draft.user.empty() && draft.group.empty()) return {};
  Result<process::Credentials> found = process::LookUpUser(draft.user, draft.group, around.root);
  if (!found) {
    const SettingState& state = configuration[draft.user.empty() ? "group" : "user"];
    return std::move(found.error()).While(configuration.Describe(state, state.values.front()));
  }
  draft.options.credentials = *std::move(found);
  return {};
}

Result<void> FinishEnvironment(const Configuration& configuration, const Surroundings& around,
                               Draft& draft, std::vector<std::string>& warnings) {
  WorkloadEnvironment wanted;
  wanted.port = draft.options.port;
  wanted.control = draft.options.control;
  const auto& credentials = draft.options.credentials;
  if (credentials && credentials->uid != ::geteuid()) wanted.changed_user = &*credentials;

  const SettingState& files = configuration["env-file"];
  for (const GivenValue& file : files.values) {
    const std::string where = configuration.DescribePlace(files, file);
    Result<std::string> text = ReadTextFile(file.text);
    if (!text) return std::move(text.error()).While(where);
    Result<std::vector<EnvironmentEntry>> entries = ParseEnvFile(*text, file.text);
    if (!entries) return std::move(entries.error()).While(where);
    std::move(entries->begin(), entries->end(), std::back_inserter(wanted.entries));
  }
  for (const std::string& text : draft.env) {
    Result<EnvironmentEntry> entry = ParseEnvironmentEntry(text);
    if (!entry) return std::move(entry.error());
    wanted.entries.push_back(*std::move(entry));
  }

  for (const EnvironmentEntry& entry : wanted.entries) {
    draft.options.added_environment.push_back(entry.value ? Concat(entry.name, "=", *entry.value)
                                                          : entry.name);
  }

  const std::string port = std::to_string(wanted.port);
  for (const EnvironmentEntry& entry : wanted.entries) {
    if (entry.name != "PORT" || !entry.value || *entry.value == port) continue;
    warnings.push_back(Concat(
        "PORT is ", port, " for the server, as --port says, and not what --env or --env-file set"));
    break;
  }
  draft.options.environment = MakeEnvironment(around.environment, wanted);
  return {};
}

Result<void> FinishSeccomp(const Configuration& configuration, Draft& draft) {
  if (draft.seccomp_profile.empty() || draft.seccomp_profile == "unconfined") return {};
  const SettingState& state = configuration["seccomp-profile"];
  const std::string where = configuration.DescribePlace(state, state.values.front());
  std::string text;
  if (draft.seccomp_profile == "default") {
    text = process::SeccompFilter::DefaultProfile();
  } else {
    Result<std::string> read = ReadTextFile(draft.seccomp_profile);
    if (!read) return std::move(read.error()).While(where);
    text = *std::move(read);
  }
  const uint64_t held =
      draft.options.capabilities.value_or(process::kAllCapabilities) & process::BoundingSet();
  Result<process::SeccompFilter> filter =
      process::SeccompFilter::FromProfile(text, draft.seccomp_profile, held);
  if (!filter) return std::move(filter.error()).While(where);
  draft.options.seccomp = *std::move(filter);
  return {};
}

}  // namespace

Result<void> ApplySetting(const Configuration& configuration, const SettingState& state,
                          Draft& draft) {
  for (const GivenValue& value : state.values) {
    Result<void> applied = state.setting->apply(draft, value.text);
    if (!applied) return std::move(applied.error()).While(configuration.Describe(state, value));
  }
  return {};
}

Result<Draft> MakeOptions(const Configuration& configuration, const Surroundings& around,
                          std::vector<std::string>& warnings) {
  Draft draft;
  draft.options.is_local_run = around.is_local_run;
  draft.options.admin_is_default = configuration["admin"].origin == Origin::kDefault;
  if (around.is_local_run) draft.any_address = "127.0.0.1";

  for (const SettingState& state : configuration.states()) {
    if (Result<void> applied = ApplySetting(configuration, state, draft); !applied) {
      return std::move(applied.error());
    }
  }
  if (Result<void> user = FinishUser(configuration, around, draft); !user) {
    return std::move(user.error());
  }
  if (Result<void> data_plane = FinishDataPlane(configuration, around, draft, warnings);
      !data_plane) {
    return std::move(data_plane.error());
  }
  if (Result<void> environment = FinishEnvironment(configuration, around, draft, warnings);
      !environment) {
    return std::move(environment.error());
  }
  if (Result<void> seccomp = FinishSeccomp(configuration, draft); !seccomp) {
    return std::move(seccomp.error());
  }
  return draft;
}

}  // namespace modal

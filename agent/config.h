// Where each setting's value comes from, and what they all amount to.
//
// Flag over environment over file over default, each setting as a whole: a repeatable one that is
// given in one place replaces what stands in the places below. A value that is given and empty
// means "as if it had no value" for settings that have no default; an empty variable does not
// count.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/settings.h"

namespace modal {

enum class Origin { kDefault, kPortVariable, kFile, kEnvironment, kFlag };

struct GivenValue {
  std::string text;
  int line = 0;  // in the file, for Origin::kFile
};

struct SettingState {
  const Setting* setting = nullptr;
  Origin origin = Origin::kDefault;
  std::vector<GivenValue> values;  // none: not set
};

// One use of a flag, in the order of the command line.
struct FlagUse {
  const Setting* setting;
  std::string value;
};

// What the command line does not say. Tests choose their own.
struct Surroundings {
  const char* const* environment;  // as environ(7)
  bool is_process_1 = false;
  bool is_local_run = false;  // `run`, and not process 1
  bool stderr_is_terminal = false;
  std::string root;  // prepended to the default config file, /etc/passwd and /etc/group
};

class Configuration {
 public:
  // Reads environment and config file. An Error names the variable or file:line.
  static Result<Configuration> Gather(const std::vector<FlagUse>& flags,
                                      const Surroundings& around);

  const SettingState& operator[](std::string_view name) const;
  // All of them, in the table's order.
  const std::vector<SettingState>& states() const { return states_; }
  // The config file that was read; empty: none.
  const std::string& file() const { return file_; }
  const std::vector<std::string>& warnings() const { return warnings_; }

  // Where a value was given, for the front of an error: "--port", "MODAL_AGENT_PORT", "PORT",
  // "/etc/modal-agent/config:3: port".
  std::string DescribePlace(const SettingState& state, const GivenValue& value) const;
  // The same with the value: "--port 0", "MODAL_AGENT_PORT=0", "/etc/modal-agent/config:3: port =
  // 0". Without it if that is secret.
  std::string Describe(const SettingState& state, const GivenValue& value) const;
  // "flag", "environment MODAL_AGENT_PORT", "/etc/modal-agent/config:3", "default", "not set".
  std::string DescribeOrigin(const SettingState& state, const GivenValue& value) const;

 private:
  SettingState& At(const Setting& setting);
  void TakeFlags(const std::vector<FlagUse>& flags);
  void TakeEnvironment(const Surroundings& around);
  void TakeVariable(std::string_view name, std::string_view value);
  Result<void> TakeFile(const Surroundings& around);
  void TakeDefaults(const Surroundings& around);

  std::vector<SettingState> states_;
  std::string file_;
  std::vector<std::string> warnings_;
};

// Checks every value and makes the options of it; adds to `warnings` what is legal but odd.
Result<Draft> MakeOptions(const Configuration& configuration, const Surroundings& around,
                          std::vector<std::string>& warnings);

// One setting alone, for subcommands that need no more.
Result<void> ApplySetting(const Configuration& configuration, const SettingState& state,
                          Draft& draft);

// What `modal-agent config` prints: a config file with each value's origin as a comment, or JSON.
std::string ConfigReport(const Configuration& configuration);
std::string ConfigReportJson(const Configuration& configuration);

}  // namespace modal

#include "agent/settings.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "agent/config_file.h"

namespace modal {
namespace {

TEST_CASE("every setting has one name, and the variable that is made of it leads back to it") {
  std::set<std::string> names;
  std::set<std::string> variables;
  for (const Setting& setting : AllSettings()) {
    const std::string name(setting.name);
    CAPTURE(name);
    CHECK(names.insert(name).second);
    const std::string variable = VariableName(setting);
    CHECK(variables.insert(variable).second);
    CHECK(variable.starts_with("MODAL_AGENT_"));
    CHECK(FindSetting(name) == &setting);
    CHECK(FindByVariable(variable) == &setting);
  }
}

TEST_CASE("every setting's name can be a flag and a key of the config file") {
  for (const Setting& setting : AllSettings()) {
    const std::string name(setting.name);
    CAPTURE(name);
    CHECK(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz-") == std::string::npos);
    CHECK(name.front() != '-');
    const Result<std::vector<ConfigEntry>> read = ParseConfigFile(name + " = 1", "x");
    REQUIRE(read.ok());
    CHECK(read->front().key == name);
  }
}

TEST_CASE("every setting explains itself, and names its value unless it is a switch") {
  for (const Setting& setting : AllSettings()) {
    const std::string name(setting.name);
    CAPTURE(name);
    CHECK(setting.help.size() > 10);
    CHECK_FALSE(setting.help.ends_with('.'));
    CHECK(setting.value_name.empty() == (setting.form == ValueForm::kSwitch));
  }
}

TEST_CASE("every default is a value that the setting itself accepts") {
  for (const Setting& setting : AllSettings()) {
    if (setting.unset.empty()) continue;
    const std::string name(setting.name);
    CAPTURE(name);
    Draft draft;
    CHECK(setting.apply(draft, std::string(setting.unset)).ok());
  }
}

TEST_CASE("settings stand together with their group, as --help shows them") {
  const auto by_group = [](const Setting& a, const Setting& b) { return a.group < b.group; };
  CHECK(std::is_sorted(AllSettings().begin(), AllSettings().end(), by_group));
}

TEST_CASE("what is no variable of a setting leads nowhere") {
  CHECK(FindByVariable("MODAL_AGENT_") == nullptr);
  CHECK(FindByVariable("MODAL_AGENT_port") == nullptr);
  CHECK(FindByVariable("MODAL_AGENT_STARTUP-TIMEOUT") == nullptr);
  CHECK(FindByVariable("STARTUP_TIMEOUT") == nullptr);
  CHECK(FindByVariable("MODAL_AGENT_PORTS") == nullptr);
}

}  // namespace
}  // namespace modal

// What `modal-agent config` prints.
#include <algorithm>

#include "agent/base/json_writer.h"
#include "agent/base/strings.h"
#include "agent/config.h"
#include "agent/config_file.h"

namespace modal {
namespace {

// Only the name of a variable is shown; a value may be a password.
std::string Shown(const SettingState& state, const GivenValue& value) {
  if (!state.setting->secret) return value.text;
  const size_t equals = value.text.find('=');
  return equals == std::string::npos ? value.text : value.text.substr(0, equals) + "=(not shown)";
}

struct Row {
  std::string text;
  std::string origin;
};

// One line for each value. A line that would set nothing, or something else when read back, is a
// comment.
void AddRows(const Configuration& configuration, const SettingState& state,
             std::vector<Row>& rows) {
  const std::string name(state.setting->name);
  const std::string nowhere = configuration.DescribeOrigin(state, {});
  if (state.values.empty()) rows.push_back({Concat("# ", name, " ="), nowhere});
  for (const GivenValue& value : state.values) {
    const bool is_comment = state.setting->secret || name == "config";
    rows.push_back(
        {Concat(is_comment ? "# " : "", name, " = ", QuoteConfigValue(Shown(state, value))),
         configuration.DescribeOrigin(state, value)});
  }
}

}  // namespace

std::string ConfigReport(const Configuration& configuration) {
  std::vector<Row> rows;
  size_t width = 0;
  for (const SettingState& state : configuration.states()) {
    AddRows(configuration, state, rows);
  }
  for (const Row& row : rows) width = std::max(width, std::min<size_t>(row.text.size(), 40));

  std::string report = Concat("# Flag over environment over file over default. Config file: ",
                              configuration.file().empty() ? "none" : configuration.file(), "\n");
  for (const Row& row : rows) {
    const size_t padding = row.text.size() < width ? width - row.text.size() : 0;
    report += Concat(row.text, std::string(padding, ' '), "  # ", row.origin, "\n");
  }
  return report;
}

std::string ConfigReportJson(const Configuration& configuration) {
  JsonWriter json;
  json.BeginObject().Key("file");
  configuration.file().empty() ? json.Null() : json.String(configuration.file());
  json.Key("settings").BeginObject();
  for (const SettingState& state : configuration.states()) {
    json.Key(state.setting->name).BeginObject();
    json.Key("values").BeginArray();
    for (const GivenValue& value : state.values) json.String(Shown(state, value));
    json.EndArray();
    const GivenValue first = state.values.empty() ? GivenValue{} : state.values.front();
    json.Key("origin").String(configuration.DescribeOrigin(state, first));
    json.EndObject();
  }
  json.EndObject().EndObject();
  return json.Take() + "\n";
}

}  // namespace modal

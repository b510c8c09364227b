#include "agent/env_file.h"

#include <algorithm>

#include "agent/base/strings.h"
#include "agent/settings_values.h"
#include "agent/text_file.h"

namespace modal {
namespace {

// The kernel takes no single "NAME=value" longer than this (MAX_ARG_STRLEN, execve(2)).
constexpr size_t kLongestEntry = 128 * 1024 - 1;

}  // namespace

Result<EnvironmentEntry> ParseEnvironmentEntry(std::string_view text) {
  const size_t equals = text.find('=');
  const std::string_view name = text.substr(0, equals);
  if (name.empty()) return Error("there is no name before the =; write NAME=value");
  if (!IsVariableName(name)) {
    const bool exported = name.starts_with("export ");
    return Error(exported
                     ? "write NAME=value, without `export`"
                     : "the name holds a blank; write NAME=value, without blanks around the =");
  }
  if (text.size() > kLongestEntry) {
    return Error(
        Concat(name, ": longer than ", kLongestEntry, " bytes, which no program can be given"));
  }
  EnvironmentEntry entry{std::string(name), std::nullopt};
  if (equals != std::string_view::npos) entry.value = text.substr(equals + 1);
  return entry;
}

Result<std::vector<EnvironmentEntry>> ParseEnvFile(std::string_view text, const std::string& name) {
  if (Result<void> checked = CheckIsText(text, name); !checked) return std::move(checked.error());
  std::vector<EnvironmentEntry> entries;
  LineReader lines(text);
  while (std::optional<std::string_view> line = lines.Next()) {
    line->remove_prefix(std::min(line->find_first_not_of(" \t"), line->size()));
    if (line->empty() || line->starts_with('#')) continue;
    Result<EnvironmentEntry> entry = ParseEnvironmentEntry(*line);
    if (!entry) return std::move(entry.error()).While(Concat(name, ":", lines.number()));
    entries.push_back(*std::move(entry));
  }
  return entries;
}

}  // namespace modal

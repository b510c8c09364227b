// The readers of config and env files: whatever the bytes, they end in entries or in an error that
// names a line, and what they give back is what they would read again.
#include <string>
#include <string_view>

#include "agent/base/check.h"
#include "agent/config_file.h"
#include "agent/env_file.h"

using namespace modal;

namespace {

void CheckError(const Error& error) {
  MODAL_CHECK(error.message().starts_with("x:"));
  MODAL_CHECK(error.message().find('\n') == std::string::npos);
}

void CheckConfig(std::string_view text) {
  const Result<std::vector<ConfigEntry>> entries = ParseConfigFile(text, "x");
  if (!entries) return CheckError(entries.error());
  std::string again = "\n";  // a byte order mark counts in the first line alone
  for (const ConfigEntry& entry : *entries) {
    again += entry.key + " = " + QuoteConfigValue(entry.value) + "\n";
  }
  const Result<std::vector<ConfigEntry>> read = ParseConfigFile(again, "x");
  MODAL_CHECK(read.ok() && read->size() == entries->size());
  for (size_t i = 0; i < entries->size(); ++i) {
    MODAL_CHECK((*read)[i].key == (*entries)[i].key);
    MODAL_CHECK((*read)[i].value == (*entries)[i].value);
    MODAL_CHECK((*read)[i].line == static_cast<int>(i) + 2);
  }
}

void CheckEnvironment(std::string_view text) {
  const Result<std::vector<EnvironmentEntry>> entries = ParseEnvFile(text, "x");
  if (!entries) return CheckError(entries.error());
  std::string again = "\n";
  for (const EnvironmentEntry& entry : *entries) {
    MODAL_CHECK(!entry.name.empty());
    // A value may end with a CR; one more belongs to the line's end.
    again += entry.name + (entry.value ? "=" + *entry.value : "") + "\r\n";
  }
  const Result<std::vector<EnvironmentEntry>> read = ParseEnvFile(again, "x");
  MODAL_CHECK(read.ok() && read->size() == entries->size());
  for (size_t i = 0; i < entries->size(); ++i) {
    MODAL_CHECK((*read)[i].name == (*entries)[i].name);
    MODAL_CHECK((*read)[i].value == (*entries)[i].value);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  CheckConfig(text);
  CheckEnvironment(text);
  return 0;
}

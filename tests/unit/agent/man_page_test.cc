#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>

#include "agent/base/strings.h"
#include "agent/cli_words.h"
#include "agent/settings.h"
#include "agent/text_file.h"

namespace modal {
namespace {

TEST_CASE("the manual page has every setting, default and subcommand") {
  const auto tree = std::filesystem::path(__FILE__).parent_path() / "../../..";
  const Result<std::string> read = ReadTextFile(tree / "packaging/man/modal-agent.1");
  REQUIRE(read.ok());
  const std::string page = *read + "\n";
  for (const Setting& setting : AllSettings()) {
    CAPTURE(setting.name);
    const std::string entry = Concat("\n.It Fl -", setting.name);
    // One name may be the beginning of another.
    const size_t at = std::min(page.find(entry + " "), page.find(entry + "\n"));
    REQUIRE(at != std::string::npos);
    if (setting.unset.empty() || setting.form == ValueForm::kSwitch) continue;
    const std::string text = page.substr(at, page.find("\n.It", at + 1) - at);
    CHECK(text.find(setting.unset) != std::string::npos);
  }
  for (const std::string_view subcommand : Subcommands()) {
    CAPTURE(subcommand);
    CHECK(page.find(Concat("\n.It Cm ", subcommand, "\n")) != std::string::npos);
  }
}

}  // namespace
}  // namespace modal

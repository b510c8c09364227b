#include "agent/cli_help.h"

#include <doctest/doctest.h>

#include "agent/base/strings.h"
#include "agent/cli_words.h"
#include "agent/settings.h"
#include "agent/snapshot_request.h"
#include "agent/text_columns.h"

namespace modal {
namespace {

TEST_CASE("no help is wider than a terminal") {
  std::vector<std::string> texts{HelpText("")};
  for (const SnapshotVerb& verb : SnapshotVerbs()) {
    texts.push_back(HelpText(Concat("snapshot ", verb.name)));
  }
  for (const std::string_view subcommand : Subcommands()) texts.push_back(HelpText(subcommand));
  for (const std::string& text : texts) {
    for (const std::string& line : Split(text, '\n')) {
      CAPTURE(line);
      CHECK(line.size() <= kTerminalWidth);
      CHECK_FALSE(line.ends_with(' '));
    }
  }
}

TEST_CASE("--help shows every setting with its default, every group and every subcommand") {
  const std::string help = HelpText("");
  for (const Setting& setting : AllSettings()) {
    const std::string flag = Concat("\n  --", setting.name, setting.value_name.empty() ? " " : "",
                                    setting.value_name.empty() ? "" : " ", setting.value_name);
    CAPTURE(flag);
    CHECK(help.find(flag) != std::string::npos);
    if (setting.form == ValueForm::kSwitch || setting.unset.empty()) continue;
    CHECK(help.find(Concat("[", setting.unset, "]")) != std::string::npos);
  }
  for (int group = 0; group < kSettingGroupCount; ++group) {
    const auto title = SettingGroupTitle(static_cast<SettingGroup>(group));
    CHECK(help.find(Concat("\n", title, ":\n")) != std::string::npos);
  }
  for (const std::string_view subcommand : Subcommands()) {
    CHECK(help.find(subcommand) != std::string::npos);
  }
}

TEST_CASE("a subcommand's help is about its own options") {
  for (const std::string_view subcommand : {"health", "status", "drain", "reload", "check"}) {
    const std::string help = HelpText(subcommand);
    CAPTURE(help);
    CHECK(help.starts_with(Concat("modal-agent ", subcommand)));
    CHECK(help.find("--json") != std::string::npos);
    CHECK(help.find("--control") != std::string::npos);
    CHECK(help.find("--startup-timeout") == std::string::npos);
  }
  CHECK(HelpText("run") == HelpText(""));
}

TEST_CASE("each verb of `snapshot` has its line in the overview, and a help of its own") {
  for (const SnapshotVerb& verb : SnapshotVerbs()) {
    CAPTURE(verb.name);
    CHECK(HelpText("snapshot").find(Concat("\n  ", verb.name, " ")) != std::string::npos);
    const std::string help = HelpText(Concat("snapshot ", verb.name));
    CHECK(help.starts_with(Concat("modal-agent snapshot ", verb.name, " [OPTIONS]")));
    CHECK(help.find(verb.operands) != std::string::npos);
    // A sentence or two stand there, and not the options at once.
    CHECK(help.find("\n\n\nOptions:") == std::string::npos);
    CHECK((help.find("  --json") != std::string::npos) == verb.json);
  }
  CHECK(HelpText("snapshot prune").find("--older-than DURATION") != std::string::npos);
}

TEST_CASE("columns are as wide as their widest cell, and a line ends with the terminal") {
  CHECK(AlignColumns({{"A", "LONG", "C"}, {"äöü", "b", "c"}}) == "A    LONG  C\näöü  b     c\n");
  const std::string cut = AlignColumns({{"ab", std::string(100, 'x')}});
  CHECK(cut == "ab  " + std::string(kTerminalWidth - 5, 'x') + "…\n");
  CHECK(AlignColumns({}) == "");
}

TEST_CASE("text is broken between words, and begins on the next line where there is no room") {
  std::string out = "ab";
  AppendInColumn(out, 2, 6, "one two");
  CHECK(out == "ab    one two\n");
  out = "abcde";
  AppendInColumn(out, 5, 6, "one");
  CHECK(out == "abcde\n      one\n");
  out.clear();
  AppendInColumn(out, 0, 70, "nine char s");
  CHECK(out == std::string(70, ' ') + "nine char\n" + std::string(70, ' ') + "s\n");
}

}  // namespace
}  // namespace modal

#include "agent/cli_words.h"

#include <algorithm>
#include <array>

#include "agent/base/strings.h"
#include "agent/settings.h"
#include "agent/snapshot_request.h"

namespace modal {
namespace {

constexpr std::array<std::string_view, 10> kSubcommands{"run",      "health", "status", "drain",
                                                        "reload",   "check",  "config", "token",
                                                        "snapshot", "version"};

bool TakesNoValue(std::string_view subcommand, std::string_view option) {
  return option == "-h" || option == "--help" || option == "--version" || option == "--json" ||
         (subcommand == "snapshot" && option == "--dry-run");
}

// Options with a value that are the subcommand's own, and no setting of it.
bool IsOwnOption(std::string_view subcommand, std::string_view option) {
  if (subcommand == "token") return option == "--environment";
  return subcommand == "snapshot" &&
         (option == "--older-than" || option == "--keep" || option == "--max-size");
}

// Appends the option at `at` and the value that belongs to it; returns how many words that took, 0
// if it is unknown or its value is missing.
size_t TakeOption(std::string_view subcommand, std::span<char* const> words, size_t at,
                  std::vector<std::string>& to) {
  const std::string_view word = words[at];
  const size_t equals = word.find('=');
  if (equals == word.size() - 1) {
    to.emplace_back(word.substr(0, equals));
    to.emplace_back();
    return 1;
  }
  to.emplace_back(word);
  if (equals != std::string_view::npos || TakesNoValue(subcommand, word)) return 1;

  const Setting* setting = word.starts_with("--") ? FindSetting(word.substr(2)) : nullptr;
  if (!setting && !IsOwnOption(subcommand, word)) return 0;
  if (setting && setting->form == ValueForm::kSwitch) {
    to.emplace_back("true");
    return 1;
  }
  // "--user --port 80" has forgotten the user; a value like that is written --user=--port.
  if (at + 1 == words.size() || std::string_view(words[at + 1]).starts_with("--")) return 0;
  to.emplace_back(words[at + 1]);
  return 2;
}

CommandWords Named(CommandWords split) {
  split.name = split.subcommand;
  const bool is_verb = split.subcommand == "snapshot" && FindSnapshotVerb(split.verb).ok();
  if (is_verb) split.name += Concat(" ", split.verb);
  return split;
}

}  // namespace

bool TakesVerb(std::string_view subcommand) {
  return subcommand == "token" || subcommand == "snapshot";
}

bool TakesOperands(std::string_view subcommand, std::string_view verb) {
  return subcommand == "snapshot" && verb != kCreateVerb;
}

std::span<const std::string_view> Subcommands() { return kSubcommands; }

CommandWords SplitWords(std::span<char* const> words) {
  CommandWords split;
  size_t at = 0;
  if (!words.empty()) {
    const auto* const found = std::find(kSubcommands.begin(), kSubcommands.end(), words[0]);
    if (found != kSubcommands.end()) {
      split.subcommand = *found;
      at = 1;
    }
  }
  while (at < words.size()) {
    const std::string_view word = words[at];
    if (word == "--") {
      ++at;
      break;
    }
    if (word == "-" || !word.starts_with('-')) {
      if (TakesVerb(split.subcommand) && split.verb.empty() && !word.empty()) {
        split.verb = word;
      } else if (TakesOperands(split.subcommand, split.verb)) {
        split.command.emplace_back(word);
      } else {
        break;
      }
      ++at;
      continue;
    }
    const size_t taken = TakeOption(split.subcommand, words, at, split.options);
    if (taken == 0) return Named(std::move(split));
    at += taken;
  }
  split.command.insert(split.command.end(), words.begin() + static_cast<ptrdiff_t>(at),
                       words.end());
  return Named(std::move(split));
}

}  // namespace modal

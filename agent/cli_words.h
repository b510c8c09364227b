// Where the options end and COMMAND begins. Pure.
//
// Options end at `--` or at the first word that is none; everything after is COMMAND, untouched. To
// tell a value from COMMAND's first word one must know which options take one: the table does.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace modal {

struct CommandWords {
  std::string_view subcommand;  // "run", "health" ...; empty: none
  std::string_view verb;        // "new" of `modal-agent token new`
  // What options, help and errors go by: the subcommand, with its verb where each has options of
  // its own ("snapshot list").
  std::string name;
  // The options as they were given, except that each stands with its value in a word of its own
  // where that is empty ("--user=" is "--user", "") or may be left out ("--no-new-privs" is
  // "--no-new-privs", "true"). After an unknown option, or one whose value is missing, nothing
  // follows.
  std::vector<std::string> options;
  std::vector<std::string> command;  // or the operands of a verb: the words that are no options
};

// `words` without the program's name.
CommandWords SplitWords(std::span<char* const> words);

// Whether the first word of this subcommand that is no option says what to do, and options go on
// behind it.
bool TakesVerb(std::string_view subcommand);

// Whether options go on behind the words that a verb is about: `modal-agent snapshot inspect KEY
// --json`.
bool TakesOperands(std::string_view subcommand, std::string_view verb);

// The words that are subcommands in first place.
std::span<const std::string_view> Subcommands();

}  // namespace modal

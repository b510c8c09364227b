// What `--help` and `version` print. Made from the table of settings; no line is wider than 80.
#pragma once

#include <string>
#include <string_view>

namespace modal {

// `subcommand`: the name in CommandWords: `modal-agent status --help` is about status alone.
std::string HelpText(std::string_view subcommand);

std::string VersionText();
std::string VersionJson();

}  // namespace modal

// The configuration file's syntax. Pure.
//
//   # a comment
//   port = 8000
//   startup-timeout = 1m            # another
//   on-enter = "./migrate --now"    # repeatable settings: one line for each value
//   on-enter = ./warm-up
//
// A value is the rest of the line without the blanks around it; a # after a blank starts a comment.
// In double quotes \" \\ \n \t mean what they mean in C and # is an ordinary character; in single
// quotes everything is. Which keys there are is none of this file's business.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace modal {

struct ConfigEntry {
  std::string key;
  std::string value;
  int line = 0;
};

// In the order of the file. Errors read "NAME:LINE: ...".
Result<std::vector<ConfigEntry>> ParseConfigFile(std::string_view text, const std::string& name);

// `value` so that ParseConfigFile reads it back: in quotes if it needs them.
std::string QuoteConfigValue(std::string_view value);

}  // namespace modal

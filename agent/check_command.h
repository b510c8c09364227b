// `modal-agent check`: what this container permits, and what that means for an agent in it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/check_facts.h"

namespace modal {

enum class Verdict {
  kOk,
  kLimited,  // works, but less well, or not everywhere
  kNo,       // is not there
};

struct Finding {
  std::string_view name;
  Verdict verdict;
  std::string value;       // what was found, in a word or two
  std::string meaning;     // one sentence
  bool essential = false;  // without it no agent can run
};

// Pure: what these facts mean.
std::vector<Finding> Judge(const ContainerFacts& facts);
bool CanRun(const std::vector<Finding>& findings);
std::string CheckTable(const std::vector<Finding>& findings);
std::string CheckJson(const std::vector<Finding>& findings);

}  // namespace modal

// A manifest that a test has changed, with a checksum as if it had been written so.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "agent/base/strings.h"
#include "snapshot/checksum.h"

namespace modal::snapshot {

inline std::string Resealed(nlohmann::json json) {
  json.erase("checksum");
  std::string text = json.dump();
  text.pop_back();
  Checksum checksum;
  checksum.Add(text);
  return Concat(text, ",\"checksum\":\"", checksum.Text(), "\"}\n");
}

}  // namespace modal::snapshot

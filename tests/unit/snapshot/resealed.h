// A manifest that a test has changed, with a checksum as if it had been written so.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "agent/base/strings.h"
#include "snapshot/checksum.h"

namespace modal::snapshot {

// Whatever the text is: its last brace gives way to the checksum.
inline std::string SealedText(std::string_view text) {
  text = text.substr(0, text.rfind('}'));
  Checksum checksum;
  checksum.Add(text);
  return Concat(text, ",\"checksum\":\"", checksum.Text(), "\"}\n");
}

inline std::string Resealed(nlohmann::json json) {
  json.erase("checksum");
  return SealedText(json.dump());
}

}  // namespace modal::snapshot

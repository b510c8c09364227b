#include "agent/base/json_writer.h"

#include <cinttypes>
#include <cstdio>

#include "agent/base/utf8.h"

namespace modal {

void AppendJsonString(std::string& out, std::string_view value) {
  out += '"';
  while (!value.empty()) {
    const char c = value.front();
    const Utf8Character character = FirstCharacter(value);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\r') {
      out += "\\r";
    } else if (!character.valid) {
      out += kReplacementCharacter;
    } else if (character.control) {
      // One byte, or C2 and a second one that equals the code point.
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x",
                    static_cast<unsigned>(static_cast<unsigned char>(value[character.length - 1])));
      out += escaped;
    } else {
      out += value.substr(0, character.length);
    }
    value.remove_prefix(character.length);
  }
  out += '"';
}

JsonWriter& JsonWriter::Key(std::string_view key) {
  String(key);
  text_ += ':';
  first_ = true;
  return *this;
}

JsonWriter& JsonWriter::String(std::string_view value) {
  Comma();
  AppendJsonString(text_, value);
  return *this;
}

JsonWriter& JsonWriter::Number(int64_t value) {
  Comma();
  text_ += std::to_string(value);
  return *this;
}

JsonWriter& JsonWriter::Thousandths(int64_t value) {
  Comma();
  const uint64_t size = value < 0 ? uint64_t{0} - static_cast<uint64_t>(value) : value;
  char text[32];
  std::snprintf(text, sizeof text, "%s%" PRIu64 ".%03" PRIu64, value < 0 ? "-" : "", size / 1000,
                size % 1000);
  text_ += text;
  return *this;
}

JsonWriter& JsonWriter::Bool(bool value) {
  Comma();
  text_ += value ? "true" : "false";
  return *this;
}

JsonWriter& JsonWriter::Null() {
  Comma();
  text_ += "null";
  return *this;
}

JsonWriter& JsonWriter::Open(char bracket) {
  Comma();
  text_ += bracket;
  first_ = true;
  return *this;
}

JsonWriter& JsonWriter::Close(char bracket) {
  text_ += bracket;
  first_ = false;
  return *this;
}

void JsonWriter::Comma() {
  if (!first_) text_ += ',';
  first_ = false;
}

}  // namespace modal

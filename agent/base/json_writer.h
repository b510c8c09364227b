// Writes JSON (RFC 8259) text, for log lines and status: a string that grows, no tree.
//
//   JsonWriter json;
//   json.BeginObject().Key("phase").String("Serving").Key("port").Number(8000).EndObject();
//   json.text()  ->  {"phase":"Serving","port":8000}
//
// Bytes that are not UTF-8 come out as U+FFFD, so that the text is valid whatever it is given, and
// no control character comes out bare, so that it is safe to show on a terminal.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace modal {

class JsonWriter {
 public:
  JsonWriter& BeginObject() { return Open('{'); }
  JsonWriter& EndObject() { return Close('}'); }
  JsonWriter& BeginArray() { return Open('['); }
  JsonWriter& EndArray() { return Close(']'); }
  JsonWriter& Key(std::string_view key);
  JsonWriter& String(std::string_view value);
  JsonWriter& Number(int64_t value);
  JsonWriter& Thousandths(int64_t value);  // 12345 is 12.345
  JsonWriter& Bool(bool value);
  JsonWriter& Null();

  const std::string& text() const { return text_; }
  std::string Take() { return std::move(text_); }

 private:
  JsonWriter& Open(char bracket);
  JsonWriter& Close(char bracket);
  void Comma();

  std::string text_;
  bool first_ = true;  // nothing stands before the next value on its level
};

// `value` in quotes, escaped, appended to `out`.
void AppendJsonString(std::string& out, std::string_view value);

}  // namespace modal

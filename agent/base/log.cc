#include "agent/base/log.h"

#include <time.h>

#include <cstdio>

#include "agent/base/json_writer.h"
#include "agent/base/utf8.h"

namespace modal {
namespace {

struct WallTime {
  struct tm utc;
  int milliseconds;
};

WallTime Now() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  WallTime wall{};
  ::gmtime_r(&now.tv_sec, &wall.utc);
  wall.milliseconds = static_cast<int>(now.tv_nsec / 1'000'000);
  return wall;
}

// Control characters would let a program write escape sequences into an operator's terminal, and
// one of eight bits takes some bytes that are not UTF-8 for such.
void AppendPrintable(std::string& out, std::string_view text) {
  while (!text.empty()) {
    const Utf8Character character = FirstCharacter(text);
    if (!character.valid) {
      out += kReplacementCharacter;
    } else if (character.control && text.front() != '\t') {
      out += ' ';
    } else {
      out += text.substr(0, character.length);
    }
    text.remove_prefix(character.length);
  }
}

bool IsOneWord(std::string_view text) {
  if (text.empty()) return false;
  while (!text.empty()) {
    const Utf8Character character = FirstCharacter(text);
    const char c = text.front();
    if (character.control || c == ' ' || c == '"' || c == '=') return false;
    text.remove_prefix(character.length);
  }
  return true;
}

void AppendTextValue(std::string& out, const std::string& value) {
  if (IsOneWord(value)) {
    AppendPrintable(out, value);
  } else {
    AppendJsonString(out, value);
  }
}

std::string TextLine(LogLevel level, std::string_view event, Log::Fields fields) {
  const WallTime now = Now();
  char head[64];
  std::snprintf(head, sizeof head, "%02d:%02d:%02d.%03d %-5s ", now.utc.tm_hour, now.utc.tm_min,
                now.utc.tm_sec, now.milliseconds, LogLevelName(level).data());
  std::string line = head;
  line += event;
  for (const LogField& field : fields) {
    if (field.key != "message") continue;
    line += "  ";
    AppendPrintable(line, field.value);
  }
  for (const LogField& field : fields) {
    if (field.key == "message") continue;
    line += "  ";
    line += field.key;
    line += '=';
    AppendTextValue(line, field.value);
  }
  line += '\n';
  return line;
}

std::string JsonLine(LogLevel level, std::string_view event, Log::Fields fields) {
  const WallTime now = Now();
  char time[48];
  std::snprintf(time, sizeof time, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", now.utc.tm_year + 1900,
                now.utc.tm_mon + 1, now.utc.tm_mday, now.utc.tm_hour, now.utc.tm_min,
                now.utc.tm_sec, now.milliseconds);
  std::string line = "{\"time\":\"";
  line += time;
  line += "\",\"level\":\"";
  line += LogLevelName(level);
  line += "\",\"event\":";
  AppendJsonString(line, event);
  for (const LogField& field : fields) {
    line += ',';
    AppendJsonString(line, field.key);
    line += ':';
    if (field.bare) {
      line += field.value;
    } else {
      AppendJsonString(line, field.value);
    }
  }
  line += "}\n";
  return line;
}

}  // namespace

std::string_view LogLevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarn:
      return "warn";
    case LogLevel::kError:
      return "error";
  }
  return "error";
}

void Log::Write(LogLevel level, std::string_view event, Fields fields) {
  if (level < least_) return;
  sink_.Write(format_ == LogFormat::kJson ? JsonLine(level, event, fields)
                                          : TextLine(level, event, fields));
}

}  // namespace modal

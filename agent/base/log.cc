#include "agent/base/log.h"

#include <time.h>

#include <cstdio>

#include "agent/base/json_writer.h"

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

// Control characters would let a program write escape sequences into an operator's terminal.
void AppendPrintable(std::string& out, std::string_view text) {
  for (const char c : text) {
    const bool control = static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
    out += control && c != '\t' ? ' ' : c;
  }
}

void AppendTextValue(std::string& out, const std::string& value) {
  if (value.empty() || value.find_first_of(" \t\n\"=") != std::string::npos) {
    AppendJsonString(out, value);
  } else {
    AppendPrintable(out, value);
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

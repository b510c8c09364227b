// The log: one line per event, a dotted name and fields. Never blocks.
//
//   log.Info("hook.exit", {{"hook", name}, {"status", status.ToString()}, {"ms", elapsed}});
//
// Event names and field names are stable: people search for them. A field named "message" is for
// people: in the text format it stands first and without its name. Formats:
//   text  12:34:56.789 warn  port.note  listening on 127.0.0.1:8000, which ...  pid=7
//   json  {"time":"2026-01-31T12:34:56.789Z","level":"warn","event":"port.note","message":...}
#pragma once

#include <chrono>
#include <cmath>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>

namespace modal {

enum class LogLevel { kDebug, kInfo, kWarn, kError };
enum class LogFormat { kText, kJson };

// Takes whole lines, newline included. Must never block; what it cannot take it counts as lost.
class LogSink {
 public:
  virtual ~LogSink() = default;
  virtual void Write(std::string_view line) = 0;
};

struct LogField {
  LogField(std::string_view key, std::string_view value) : key(key), value(value) {}
  LogField(std::string_view key, const char* value) : key(key), value(value) {}
  LogField(std::string_view key, const std::string& value) : key(key), value(value) {}
  LogField(std::string_view key, bool value)
      : key(key), value(value ? "true" : "false"), bare(true) {}
  template <class Number>
  requires std::is_arithmetic_v<Number> LogField(std::string_view key, Number value)
      : key(key),
        value(std::to_string(value)),
        bare(std::isfinite(static_cast<double>(value))) {}  // JSON has no infinity
  LogField(std::string_view key, std::chrono::milliseconds value) : LogField(key, value.count()) {}

  std::string_view key;
  std::string value;
  bool bare = false;  // a number or a boolean: no quotes in JSON
};

class Log {
 public:
  using Fields = std::initializer_list<LogField>;

  // `sink` outlives the log.
  Log(LogSink& sink, LogFormat format, LogLevel least)
      : sink_(sink), format_(format), least_(least) {}

  void Debug(std::string_view event, Fields fields) { Write(LogLevel::kDebug, event, fields); }
  void Info(std::string_view event, Fields fields) { Write(LogLevel::kInfo, event, fields); }
  void Warn(std::string_view event, Fields fields) { Write(LogLevel::kWarn, event, fields); }
  void Error(std::string_view event, Fields fields) { Write(LogLevel::kError, event, fields); }
  void Write(LogLevel level, std::string_view event, Fields fields);

  void Reconfigure(LogFormat format, LogLevel least) {
    format_ = format;
    least_ = least;
  }

 private:
  LogSink& sink_;
  LogFormat format_;
  LogLevel least_;
};

std::string_view LogLevelName(LogLevel level);

}  // namespace modal

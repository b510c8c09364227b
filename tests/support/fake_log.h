// A Log that keeps what is written, in the text format, without the time.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/log.h"

namespace modal::test {

class FakeLog {
 public:
  // "info  some.event  the message  field=value", debug lines included.
  const std::vector<std::string>& lines() const { return sink_.lines; }
  // How many lines there are with `text` in them.
  size_t Count(std::string_view text) const {
    return static_cast<size_t>(std::count_if(
        lines().begin(), lines().end(),
        [text](const std::string& line) { return line.find(text) != std::string::npos; }));
  }
  bool Has(std::string_view text) const { return Count(text) > 0; }
  void Clear() { sink_.lines.clear(); }

 private:
  struct Sink : LogSink {
    void Write(std::string_view line) override {
      constexpr size_t kTime = sizeof "12:34:56.789";
      lines.emplace_back(line.substr(kTime, line.size() - kTime - 1));
    }
    std::vector<std::string> lines;
  };
  Sink sink_;

 public:
  Log log{sink_, LogFormat::kText, LogLevel::kDebug};
};

}  // namespace modal::test

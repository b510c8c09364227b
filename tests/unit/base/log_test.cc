#include "agent/base/log.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace modal {
namespace {

using Json = nlohmann::json;
using namespace std::chrono_literals;

class Lines : public LogSink {
 public:
  void Write(std::string_view line) override { lines.emplace_back(line); }
  std::vector<std::string> lines;
};

// The only line that `write` makes a log of `format` write.
template <class Write>
std::string LineOf(LogFormat format, Write write) {
  Lines sink;
  Log log(sink, format, LogLevel::kDebug);
  write(log);
  REQUIRE(sink.lines.size() == 1);
  return sink.lines[0];
}

// `pattern` has a # for each digit.
bool Matches(std::string_view text, std::string_view pattern) {
  return std::equal(text.begin(), text.end(), pattern.begin(), pattern.end(),
                    [](char c, char p) { return p == '#' ? c >= '0' && c <= '9' : c == p; });
}

// The part of a text line that follows the time.
std::string TextOf(Log::Fields fields) {
  const std::string line =
      LineOf(LogFormat::kText, [&](Log& log) { log.Info("some.event", fields); });
  CHECK(Matches(std::string_view(line).substr(0, 29), "##:##:##.### info  some.event"));
  CHECK(line.ends_with('\n'));
  return line.substr(line.find("some.event"), line.size() - line.find("some.event") - 1);
}

Json JsonOf(Log::Fields fields) {
  const std::string line =
      LineOf(LogFormat::kJson, [&](Log& log) { log.Info("some.event", fields); });
  CHECK(line.find('\n') == line.size() - 1);
  return Json::parse(line);
}

TEST_CASE("a line of text has the message first and the other fields by name") {
  CHECK(TextOf({}) == "some.event");
  CHECK(TextOf({{"pid", 7}, {"message", "it is up"}, {"hook", "warm"}}) ==
        "some.event  it is up  pid=7  hook=warm");
}

TEST_CASE("values that are not one plain word are quoted in text") {
  CHECK(TextOf({{"a", "two words"}, {"b", ""}, {"c", "x=y"}, {"d", "say \"no\""}}) ==
        R"(some.event  a="two words"  b=""  c="x=y"  d="say \"no\"")");
  CHECK(TextOf({{"a", "tab\tand\nline"}}) == R"(some.event  a="tab\tand\nline")");
  CHECK(TextOf({{"a", "日本"}}) == "some.event  a=日本");
}

TEST_CASE("numbers, durations and truth values need no quotes") {
  const Log::Fields fields{{"int", -3},      {"big", UINT64_MAX}, {"size", size_t{5}},
                           {"took", 1500ms}, {"yes", true},       {"no", false},
                           {"half", 0.5}};
  CHECK(TextOf(fields) ==
        "some.event  int=-3  big=18446744073709551615  size=5  took=1500  "
        "yes=true  no=false  half=0.500000");
  const Json json = JsonOf(fields);
  CHECK(json["int"] == -3);
  CHECK(json["big"] == UINT64_MAX);
  CHECK(json["took"] == 1500);
  CHECK(json["yes"] == true);
  CHECK(json["no"] == false);
  CHECK(json["half"] == 0.5);
}

TEST_CASE("a line of JSON is one object with time, level, event and the fields") {
  const Json json = JsonOf({{"message", "two\nlines"}, {"hook", std::string("warm")}});
  CHECK(Matches(json["time"].get<std::string>(), "####-##-##T##:##:##.###Z"));
  CHECK(json["level"] == "info");
  CHECK(json["event"] == "some.event");
  CHECK(json["message"] == "two\nlines");
  CHECK(json["hook"] == "warm");
  CHECK(json.size() == 5);
}

TEST_CASE("whatever a field holds, a line of JSON is valid and one line") {
  std::string all;
  for (int c = 0; c < 256; ++c) all += static_cast<char>(c);
  CHECK(JsonOf({{"message", all}})["message"].get<std::string>().starts_with(
      std::string_view(all).substr(0, 128)));
  CHECK(JsonOf({{all, "x"}}).size() == 4);
  CHECK_NOTHROW((void)JsonOf({{"x", std::numeric_limits<double>::quiet_NaN()}}));
  CHECK_NOTHROW((void)JsonOf({{"x", -std::numeric_limits<double>::infinity()}}));
}

TEST_CASE("no control character reaches a terminal, whatever is logged") {
  // Bare ones, those of eight bits, and the same as UTF-8: ESC, CSI, OSC, backspace, CR, NUL ...
  std::vector<std::string> evil{std::string(1, '\0')};
  for (int c = 1; c < 0x20; ++c) evil.emplace_back(1, static_cast<char>(c));
  evil.emplace_back("\x7f");
  for (int c = 0x80; c < 0xa0; ++c) {
    evil.emplace_back(1, static_cast<char>(c));
    evil.push_back({'\xc2', static_cast<char>(c)});
  }
  for (const std::string& control : evil) {
    CAPTURE(static_cast<int>(static_cast<unsigned char>(control.back())));
    for (const std::string& value : {control, "a" + control + "[2Jb", "a b" + control}) {
      const std::string line = LineOf(LogFormat::kText, [&](Log& log) {
        log.Info("some.event", {{"message", value}, {"field", value}});
      });
      const std::string_view text = std::string_view(line).substr(0, line.size() - 1);
      for (size_t i = 0; i < text.size(); ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        const bool is_c0 = (byte < 0x20 && byte != '\t') || byte == 0x7f;
        REQUIRE_FALSE(is_c0);
        // Every byte of 0x80 to 0x9f is the tail of the replacement character.
        const bool may_be_c1 = byte >= 0x80 && byte < 0xa0;
        REQUIRE_FALSE(may_be_c1);
      }
    }
  }
}

TEST_CASE("a message shows control characters as blanks, a field shows which they were") {
  CHECK(TextOf({{"message",
                 "a\x1b[31mb\xc2\x9b"
                 "c"}}) == "some.event  a [31mb c");
  CHECK(TextOf({{"field", "a\x1b[31mb"}}) == R"(some.event  field="a\u001b[31mb")");
  CHECK(TextOf({{"message", "a\tb"}}) == "some.event  a\tb");
}

TEST_CASE("a log writes what is at least as important as its level") {
  struct Case {
    LogLevel least;
    size_t written;
  };
  for (const Case& one : {Case{LogLevel::kDebug, 4}, Case{LogLevel::kInfo, 3},
                          Case{LogLevel::kWarn, 2}, Case{LogLevel::kError, 1}}) {
    Lines sink;
    Log log(sink, LogFormat::kJson, one.least);
    log.Debug("d", {});
    log.Info("i", {});
    log.Warn("w", {});
    log.Error("e", {});
    REQUIRE(sink.lines.size() == one.written);
    CHECK(Json::parse(sink.lines.back())["level"] == "error");
    CHECK(Json::parse(sink.lines.front())["level"] == LogLevelName(one.least));
  }
}

TEST_CASE("format and level may change while it runs") {
  Lines sink;
  Log log(sink, LogFormat::kText, LogLevel::kError);
  log.Info("first", {});
  log.Reconfigure(LogFormat::kJson, LogLevel::kDebug);
  log.Debug("second", {});
  REQUIRE(sink.lines.size() == 1);
  CHECK(Json::parse(sink.lines[0])["event"] == "second");
}

}  // namespace
}  // namespace modal

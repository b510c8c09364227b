#include "agent/base/json_writer.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace modal {
namespace {

using Json = nlohmann::json;

std::string Quoted(std::string_view value) {
  std::string out;
  AppendJsonString(out, value);
  return out;
}

// What a strict parser reads back.
std::string ReadBack(std::string_view value) {
  return Json::parse(Quoted(value)).get<std::string>();
}

TEST_CASE("thousandths are written as a number with a point") {
  JsonWriter json;
  json.BeginArray();
  for (const int64_t value :
       {int64_t{0}, int64_t{7}, int64_t{12'345}, int64_t{-1'050}, INT64_MIN}) {
    json.Thousandths(value);
  }
  CHECK(json.EndArray().text() == "[0.000,0.007,12.345,-1.050,-9223372036854775.808]");
}

TEST_CASE("values are separated by commas on every level") {
  JsonWriter json;
  json.BeginObject();
  json.Key("empty").BeginObject().EndObject();
  json.Key("list").BeginArray().Number(1).BeginArray().EndArray().Null().EndArray();
  json.Key("yes").Bool(true).Key("no").Bool(false);
  json.EndObject();
  CHECK(json.text() == R"({"empty":{},"list":[1,[],null],"yes":true,"no":false})");
}

TEST_CASE("a parser reads what was written") {
  JsonWriter json;
  json.BeginArray();
  json.BeginObject().Key("a\"b").String("c\\d").EndObject();
  json.Number(INT64_MIN).Number(INT64_MAX).Number(0).String("");
  json.EndArray();
  const Json read = Json::parse(json.Take());
  CHECK(read[0]["a\"b"] == "c\\d");
  CHECK(read[1] == INT64_MIN);
  CHECK(read[2] == INT64_MAX);
  CHECK(read[3] == 0);
  CHECK(read[4] == "");
  CHECK(read.size() == 5);
}

TEST_CASE("a value may stand alone") {
  CHECK(JsonWriter().String("x").text() == "\"x\"");
  CHECK(JsonWriter().Null().text() == "null");
}

TEST_CASE("every ASCII character survives, and no control character stays bare") {
  std::string all;
  for (int c = 0; c < 0x80; ++c) all += static_cast<char>(c);
  const std::string quoted = Quoted(all);
  CHECK(ReadBack(all) == all);
  for (const char c : quoted) CHECK((c >= 0x20 && c < 0x7f));
}

TEST_CASE("control characters beyond ASCII are escaped too, for terminals obey them") {
  for (int c = 0x80; c <= 0x9f; ++c) {
    const std::string control{'\xc2', static_cast<char>(c)};
    CHECK(Quoted(control).find(control) == std::string::npos);
    CHECK(ReadBack(control) == control);
  }
  CHECK(Quoted("\xc2\x9b") == "\"\\u009b\"");
  CHECK(Quoted("\xc2\xa0") == "\"\xc2\xa0\"");
}

TEST_CASE("valid UTF-8 stays as it is") {
  for (const char* text : {"é", "日本", "😀", "\xf4\x8f\xbf\xbf", "\xed\x9f\xbf", "\xee\x80\x80",
                           "\xe0\xa0\x80", "\xf0\x90\x80\x80", "\xef\xbf\xbd"}) {
    CAPTURE(text);
    CHECK(Quoted(text) == std::string("\"") + text + "\"");
    CHECK(ReadBack(text) == text);
  }
}

TEST_CASE("every byte that is not UTF-8 becomes U+FFFD") {
  const std::string mark = "\xef\xbf\xbd";
  CHECK(ReadBack("a\xff z") == "a" + mark + " z");
  CHECK(ReadBack("\x80") == mark);
  CHECK(ReadBack("\xc0\xaf") == mark + mark);                        // overlong '/'
  CHECK(ReadBack("\xe0\x80\xaf") == mark + mark + mark);             // overlong, three bytes
  CHECK(ReadBack("\xed\xa0\x80") == mark + mark + mark);             // a surrogate
  CHECK(ReadBack("\xf4\x90\x80\x80") == mark + mark + mark + mark);  // beyond U+10FFFF
  CHECK(ReadBack("\xe6\x97") == mark + mark);                        // cut off at the end
  CHECK(ReadBack("\xe6\x97x") == mark + mark + "x");                 // cut off by a letter
  CHECK(ReadBack("\xc3\xc3\xa9") == mark + "é");
}

TEST_CASE("whatever two or three bytes are given, the text is valid JSON") {
  std::string text;
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      text.push_back(static_cast<char>(first));
      text.push_back(static_cast<char>(second));
      const std::string pair = text.substr(text.size() - 2);
      REQUIRE(Json::accept(Quoted(pair)));
    }
  }
  REQUIRE(Json::accept(Quoted(text)));
  for (int third = 0; third < 256; ++third) {
    for (const char* start : {"\xe0", "\xed", "\xf0", "\xf4", "\xef\xbf", "\xf0\x90", "\xf4\x8f"}) {
      REQUIRE(Json::accept(Quoted(start + std::string(1, static_cast<char>(third)))));
      REQUIRE(Json::accept(Quoted(start + std::string(1, static_cast<char>(third)) + "\x80")));
    }
  }
}

}  // namespace
}  // namespace modal

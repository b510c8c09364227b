#include "agent/config_file.h"

#include <doctest/doctest.h>

namespace modal {
namespace {

std::string ValueOf(std::string_view line) {
  const Result<std::vector<ConfigEntry>> entries = ParseConfigFile(line, "x");
  if (!entries) return "error " + entries.error().message();
  return entries->size() == 1 ? entries->front().value : "no single entry";
}

TEST_CASE("a config file is lines of key = value, with comments and empty lines") {
  const Result<std::vector<ConfigEntry>> entries = ParseConfigFile(
      "# all of it\n\nport = 8000\n  startup-timeout=1m  # long\r\n#user = x\non-enter = "
      "a\non-enter = b",
      "x");
  REQUIRE(entries.ok());
  REQUIRE(entries->size() == 4);
  CHECK((*entries)[0].key == "port");
  CHECK((*entries)[0].value == "8000");
  CHECK((*entries)[0].line == 3);
  CHECK((*entries)[1].value == "1m");
  CHECK((*entries)[2].value == "a");
  CHECK((*entries)[3].line == 7);
}

TEST_CASE("a comment begins at a # after a blank, and not within a word or quotes") {
  CHECK(ValueOf("k = a#b") == "a#b");
  CHECK(ValueOf("k = a #b") == "a");
  CHECK(ValueOf("k = a\t# b # c") == "a");
  CHECK(ValueOf("k = # nothing") == "");
  CHECK(ValueOf("k = \"a # b\" # c") == "a # b");
  CHECK(ValueOf("k = 'a # b'") == "a # b");
}

TEST_CASE("double quotes know escapes, single quotes know nothing") {
  CHECK(ValueOf(R"(k = "  a \"b\" \\ \n\t")") == "  a \"b\" \\ \n\t");
  CHECK(ValueOf(R"(k = '  a \n "b" ')") == R"(  a \n "b" )");
  CHECK(ValueOf(R"(k = "")") == "");
  CHECK(ValueOf(R"(k = a "b" c)") == R"(a "b" c)");
}

TEST_CASE("values may hold what the key's line is made of") {
  CHECK(ValueOf("k = A=b=c") == "A=b=c");
  CHECK(ValueOf("k==") == "=");
  CHECK(ValueOf("k =") == "");
}

TEST_CASE("a line that is damaged is an error with file and line") {
  const auto error = [](std::string_view text) {
    const auto entries = ParseConfigFile(text, "/etc/x");
    return entries ? "none" : entries.error().message();
  };
  CHECK(error("a = 1\nport 8000") == "/etc/x:2: not of the form `key = value`");
  CHECK(error("= 1") == "/etc/x:1: not of the form `key = value`");
  CHECK(error("[ports]\n") ==
        "/etc/x:1: there are no [sections] here; every line is `key = value`");
  CHECK(error("\n\nk = \"a") == "/etc/x:3: the quote is not closed on this line");
  CHECK(error("k = \"a\\") == "/etc/x:1: the quote is not closed on this line");
  CHECK(error("k = 'a") == "/etc/x:1: the quote is not closed on this line");
  CHECK(error("k = \"a\" b") == "/etc/x:1: ' b' after the closing quote; quote the whole value");
  CHECK(error("k = \"a\"#b") == "/etc/x:1: '#b' after the closing quote; quote the whole value");
  CHECK(error("k = \"\\x\"") ==
        "/etc/x:1: \\x means nothing in double quotes; \\\\ is a backslash");
  CHECK(error("k = a\n\x01") == "/etc/x:2: holds a byte of value 1; this is not a text file");
}

TEST_CASE("a quoted value is read back as it was") {
  for (const std::string& value :
       {std::string("plain"), std::string(), std::string(" a "), std::string("a # b"),
        std::string("#"), std::string("\"a\""), std::string("'a'"), std::string("a\nb"),
        std::string("a\\b"), std::string("\\\\\" #"), std::string("a#b"), std::string("x = y"),
        std::string("it's"), std::string("\ttab\t")}) {
    CAPTURE(value);
    CHECK(ValueOf("k = " + QuoteConfigValue(value)) == value);
  }
  CHECK(QuoteConfigValue("./migrate --now") == "./migrate --now");
}

}  // namespace
}  // namespace modal

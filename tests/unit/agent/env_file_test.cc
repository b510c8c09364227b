#include "agent/env_file.h"

#include <doctest/doctest.h>

namespace modal {
namespace {

std::string ErrorOf(std::string_view text) {
  const auto entries = ParseEnvFile(text, "/app.env");
  return entries ? "none" : entries.error().message();
}

TEST_CASE("an env file is lines of NAME=value, where everything after the = is the value") {
  const Result<std::vector<EnvironmentEntry>> entries = ParseEnvFile(
      "# comment\nA=1\n\n  B= two # no comment \r\nC=\"quoted\"\nEMPTY=\nTAKEN\n\t# "
      "comment\nA=again=1",
      "x");
  REQUIRE(entries.ok());
  REQUIRE(entries->size() == 6);
  CHECK((*entries)[0].name == "A");
  CHECK(*(*entries)[0].value == "1");
  CHECK((*entries)[1].name == "B");
  CHECK(*(*entries)[1].value == " two # no comment ");
  CHECK(*(*entries)[2].value == "\"quoted\"");
  CHECK(*(*entries)[3].value == "");
  CHECK((*entries)[4].name == "TAKEN");
  CHECK_FALSE((*entries)[4].value);
  CHECK(*(*entries)[5].value == "again=1");
}

TEST_CASE("a damaged env file is an error with file and line, and without the value") {
  CHECK(ErrorOf("A=1\n=secret") == "/app.env:2: there is no name before the =; write NAME=value");
  CHECK(ErrorOf("export A=secret") == "/app.env:1: write NAME=value, without `export`");
  CHECK(ErrorOf("A = secret") ==
        "/app.env:1: the name holds a blank; write NAME=value, without blanks around the =");
  CHECK(ErrorOf(std::string_view("A=1\nB=\0", 7)) ==
        "/app.env:2: holds a byte of value 0; this is not a text file");
  CHECK(ErrorOf("A=" + std::string(200'000, 'x')) ==
        "/app.env:1: A: longer than 131071 bytes, which no program can be given");
}

}  // namespace
}  // namespace modal

#include "agent/base/strings.h"

#include <doctest/doctest.h>

#include <array>
#include <cstdio>
#include <memory>

namespace modal {
namespace {

using Words = std::vector<std::string>;

// What a real shell makes of `command_line`: each word that it sees, followed by a NUL.
std::string WordsOfTheShell(const std::string& command_line) {
  const std::string script = "printf '%s\\0' " + command_line;
  const std::unique_ptr<FILE, int (*)(FILE*)> shell(::popen(script.c_str(), "re"), ::pclose);
  REQUIRE(shell != nullptr);
  std::string out;
  std::array<char, 256> buffer;
  while (const size_t size = std::fread(buffer.data(), 1, buffer.size(), shell.get())) {
    out.append(buffer.data(), size);
  }
  return out;
}

TEST_CASE("strings and integers are concatenated") {
  CHECK(Concat("port ", 8000, std::string(" is"), ' ', std::string_view("taken"), -1) ==
        "port 8000 is taken-1");
  CHECK(Concat() == "");
  CHECK(Concat(UINT64_MAX, "/", INT64_MIN) == "18446744073709551615/-9223372036854775808");
}

TEST_CASE("joining puts the separator between pieces only") {
  CHECK(Join(Words{}, ", ") == "");
  CHECK(Join(Words{"a"}, ", ") == "a");
  CHECK(Join(Words{"a", "", "b"}, ", ") == "a, , b");
}

TEST_CASE("splitting keeps empty pieces") {
  CHECK(Split("a,,b", ',') == Words{"a", "", "b"});
  CHECK(Split("", ',') == Words{""});
  CHECK(Split(",", ',') == Words{"", ""});
  CHECK(Split("a", ',') == Words{"a"});
  CHECK(Split("a,", ',') == Words{"a", ""});
}

TEST_CASE("joining what was split gives the same text back") {
  for (const char* text : {"", ",", "a", ",a,,b,", "no comma"}) {
    CHECK(Join(Split(text, ','), ",") == text);
  }
}

TEST_CASE("trimming takes white space from the ends and leaves the middle") {
  CHECK(Trim(" \t\r\n a b \r\n") == "a b");
  CHECK(Trim("a") == "a");
  CHECK(Trim(" \t\r\n") == "");
  CHECK(Trim("") == "");
  CHECK(Trim("\va") == "\va");
}

TEST_CASE("only a whole decimal number that fits is a number") {
  CHECK(ParseUnsigned("0") == 0);
  CHECK(ParseUnsigned("007") == 7);
  CHECK(ParseUnsigned("18446744073709551615") == UINT64_MAX);
  for (const char* text : {"", " 1", "1 ", "-1", "+1", "0x10", "1.0", "1e3", "12a",
                           "18446744073709551616", "99999999999999999999999"}) {
    CAPTURE(text);
    CHECK_FALSE(ParseUnsigned(text));
  }
}

TEST_CASE("the nearest word is offered when it is near enough to be meant") {
  const Words flags{"startup-timeout", "stop-timeout", "health-timeout", "port", "admin"};
  CHECK(Nearest("startup-timout", flags) == "startup-timeout");
  CHECK(Nearest("prot", flags) == "port");       // letters that changed places are one edit
  CHECK(Nearest("opt", flags) == std::nullopt);  // two edits of three letters are too many
  CHECK(Nearest("por", flags) == "port");
  CHECK(Nearest("ports", flags) == "port");
  CHECK(Nearest("pOrt", flags) == "port");
  CHECK(Nearest("stop-timeout", flags) == "stop-timeout");
  CHECK(Nearest("wibble", flags) == std::nullopt);
  CHECK(Nearest("port", Words{}) == std::nullopt);
}

TEST_CASE("the nearest of several wins, and the first of equals") {
  CHECK(Nearest("healthy", Words{"wealthy!", "healthx", "heal"}) == "healthx");
  CHECK(Nearest("bat", Words{"cat", "hat"}) == "cat");
}

TEST_CASE("a word of one letter is still near to its neighbours") {
  CHECK(Nearest("a", Words{"ab"}) == "ab");
  CHECK(Nearest("", Words{"b", "abc"}) == "b");
}

TEST_CASE("plain words are shown as they are, the others in quotes") {
  CHECK(ShellJoin(Words{"python3", "-m", "http.server", "--port=8000", "a/b:c@d,e+f_g%"}) ==
        "python3 -m http.server --port=8000 a/b:c@d,e+f_g%");
  CHECK(ShellJoin(Words{"sh", "-c", "echo $HOME"}) == "sh -c 'echo $HOME'");
  CHECK(ShellJoin(Words{"it's", ""}) == "'it'\\''s' ''");
  CHECK(ShellJoin(Words{}) == "");
}

TEST_CASE("a shell reads a joined command line as the same words") {
  Words words{"plain", "",   " ", "a b", "it's", "'",    "''", "$HOME",          "`id`",
              "\"",    "\\", "*", "~",   "#",    "a\nb", "\t", ";&|<>(){}[]!?^", "\xff\x01"};
  std::string expected;
  for (const std::string& word : words) expected += word + '\0';
  CHECK(WordsOfTheShell(ShellJoin(words)) == expected);
}

}  // namespace
}  // namespace modal

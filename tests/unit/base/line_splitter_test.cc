#include "agent/base/line_splitter.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace modal {
namespace {

using Lines = std::vector<std::string>;

Lines LinesOf(const std::vector<std::string_view>& pieces, size_t longest = 100) {
  Lines lines;
  LineSplitter splitter(longest, [&](std::string_view line) { lines.emplace_back(line); });
  for (const std::string_view piece : pieces) splitter.Feed(piece);
  splitter.Finish();
  return lines;
}

TEST_CASE("lines come without their newline, and the last one without needing any") {
  CHECK(LinesOf({"one\ntwo\n\nfour"}) == Lines{"one", "two", "", "four"});
  CHECK(LinesOf({"one\n"}) == Lines{"one"});
  CHECK(LinesOf({""}) == Lines{});
  CHECK(LinesOf({"\n"}) == Lines{""});
}

TEST_CASE("a CR is taken from the end of a line, and from nowhere else") {
  CHECK(LinesOf({"one\r\ntw\ro\r\r\n"}) == Lines{"one", "tw\ro\r"});
  CHECK(LinesOf({"\r\n"}) == Lines{""});
}

TEST_CASE("however an input is cut, its lines are the same") {
  const std::string input = "ab\r\n\nlonger than the limit\r\n\r\rx\nexactly8\nexactly8\r\nend";
  for (const size_t longest : {1, 2, 8, 100}) {
    const Lines whole = LinesOf({input}, longest);
    std::vector<std::string_view> bytes;
    for (size_t i = 0; i < input.size(); ++i) bytes.push_back(std::string_view(input).substr(i, 1));
    CHECK(LinesOf(bytes, longest) == whole);
    for (size_t first = 0; first <= input.size(); ++first) {
      for (size_t second = first; second <= input.size(); ++second) {
        const std::string_view text = input;
        const Lines lines = LinesOf(
            {text.substr(0, first), text.substr(first, second - first), text.substr(second)},
            longest);
        REQUIRE(lines == whole);
      }
    }
  }
}

TEST_CASE("a line longer than the limit comes in pieces of that length") {
  CHECK(LinesOf({"abcdefghij\nk\n"}, 4) == Lines{"abcd", "efgh", "ij", "k"});
}

TEST_CASE("a line of exactly the limit is one line") {
  CHECK(LinesOf({"abcd\nefgh\n"}, 4) == Lines{"abcd", "efgh"});
}

TEST_CASE("where a long line is cut no byte of it is lost") {
  std::string line;
  for (int i = 0; i < 50; ++i) line += "ab\rc\r";
  for (size_t longest = 1; longest <= 7; ++longest) {
    std::string joined;
    for (const std::string& piece : LinesOf({line + "."}, longest)) {
      CHECK(piece.size() <= longest);
      joined += piece;
    }
    CHECK(joined == line + ".");
  }
}

TEST_CASE("nothing that is fed makes a line longer than the limit") {
  size_t longest_seen = 0;
  size_t bytes_seen = 0;
  LineSplitter splitter(1000, [&](std::string_view line) {
    longest_seen = std::max(longest_seen, line.size());
    bytes_seen += line.size();
  });
  const std::string flood(100'003, 'x');
  for (int i = 0; i < 10; ++i) splitter.Feed(flood);
  splitter.Finish();
  CHECK(longest_seen == 1000);
  CHECK(bytes_seen == 10 * flood.size());
}

TEST_CASE("bytes of any value are text") {
  const std::string zeros("\0a\0", 3);
  CHECK(LinesOf({zeros, "\n\xff\n"}) == Lines{zeros, "\xff"});
}

TEST_CASE("a finished splitter has nothing left to say") {
  Lines lines;
  LineSplitter splitter(10, [&](std::string_view line) { lines.emplace_back(line); });
  splitter.Feed("once");
  splitter.Finish();
  splitter.Finish();
  CHECK(lines == Lines{"once"});
}

}  // namespace
}  // namespace modal

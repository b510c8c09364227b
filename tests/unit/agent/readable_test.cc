#include "agent/readable.h"

#include <doctest/doctest.h>

namespace modal {
namespace {

TEST_CASE("sizes have the unit that fits them") {
  CHECK(ReadableSize(0) == "0 B");
  CHECK(ReadableSize(1023) == "1023 B");
  CHECK(ReadableSize(1024) == "1.0 KiB");
  CHECK(ReadableSize(1536) == "1.5 KiB");
  CHECK(ReadableSize((uint64_t{1} << 20) - 1) == "1023.9 KiB");
  CHECK(ReadableSize(uint64_t{3} << 30) == "3.0 GiB");
  CHECK(ReadableSize(~uint64_t{0}) == "15.9 EiB");
}

TEST_CASE("times have the units that matter") {
  CHECK(ReadableTime(0) == "0 ms");
  CHECK(ReadableTime(9'999) == "9999 ms");
  CHECK(ReadableTime(12'345) == "12.3 s");
  CHECK(ReadableTime(310'000) == "5 m 10 s");
  CHECK(ReadableTime(3 * 3'600'000 + 120'000) == "3 h 2 m");
  CHECK(ReadableTime(int64_t{51} * 3'600'000) == "2 d 3 h");
}

TEST_CASE("moments are those of UTC") {
  CHECK(ReadableMoment(1'700'000'000'123) == "2023-11-14 22:13:20 UTC");
  CHECK(ReadableMoment(0) == "1970-01-01 00:00:00 UTC");
  CHECK(ReadableMoment(-1) == "-");
}

TEST_CASE("whatever a text holds, a terminal only shows it") {
  CHECK(Printable("plain äöü 日本") == "plain äöü 日本");
  CHECK(Printable("a\nb\tc") == "a\\nb\\tc");
  CHECK(Printable("\x1b]0;title\x07") == "\\x1b]0;title\\x07");
  CHECK(Printable("\xc2\x9b"
                  "2J") == "\\xc2\\x9b2J");
  CHECK(Printable("\xff!") == "\xef\xbf\xbd!");
  CHECK(Printable(std::string_view("\0", 1)) == "\\x00");
}

}  // namespace
}  // namespace modal

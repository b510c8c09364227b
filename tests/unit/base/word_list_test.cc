#include "agent/base/word_list.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

namespace modal {

TEST_CASE("words come out as they went in, whatever bytes they hold") {
  const std::vector<std::string> list = {"", "two words", "\xff\xfe\n=", std::string(100'000, 'x')};
  const Result<UniqueFd> sealed =
      WordWriter().Add("first").Add(-7).Add(list).Add(std::vector<std::string>()).Add("").Seal("t");
  REQUIRE(sealed);
  Result<WordReader> reader = WordReader::Open(sealed->get());
  REQUIRE(reader);
  CHECK(reader->Word() == "first");
  CHECK(reader->Number() == -7);
  CHECK(reader->List() == list);
  CHECK(reader->List().empty());
  CHECK_FALSE(reader->at_end());
  CHECK(reader->Word().empty());
  CHECK(reader->ok());
  CHECK(reader->at_end());
}

TEST_CASE("nobody changes sealed words") {
  const Result<UniqueFd> sealed = WordWriter().Add("secret").Seal("t");
  REQUIRE(sealed);
  CHECK(::pwrite(sealed->get(), "x", 1, 0) < 0);
  CHECK(errno == EPERM);
  CHECK(::ftruncate(sealed->get(), 0) < 0);
}

TEST_CASE(
    "a list that is shorter than it says, a number that is none, and the end are all noticed") {
  using std::string_literals::operator""s;
  for (const std::string& text :
       {""s, "word"s, "x\0"s, "2\0a\0"s, "-1\0"s, "99999999999999999999\0"s, "1000000\0a\0"s}) {
    CAPTURE(text);
    WordReader reader(text);
    CHECK(reader.List().empty());
    CHECK_FALSE(reader.ok());
    CHECK(reader.Word().empty());
    CHECK(reader.Number() == 0);
  }
}

}  // namespace modal

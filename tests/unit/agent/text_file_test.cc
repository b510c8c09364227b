#include "agent/text_file.h"

#include <doctest/doctest.h>
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/agent/temp_folder.h"

namespace modal {
namespace {

TEST_CASE("a text file is read as a whole") {
  test::TempFolder folder;
  CHECK(*ReadTextFile(folder.Write("a", "one\ntwo\r\n\ttab")) == "one\ntwo\r\n\ttab");
  CHECK(ReadTextFile(folder.Write("empty", ""))->empty());
}

TEST_CASE("a file that is not there, or a folder, is an error with its path and code") {
  test::TempFolder folder;
  const std::string missing = folder.path() + "/missing";
  const Result<std::string> read = ReadTextFile(missing);
  REQUIRE_FALSE(read.ok());
  CHECK(read.error().message() == missing + ": No such file or directory");
  CHECK(read.error().code() == ENOENT);
  CHECK(ReadTextFile(folder.path()).error().message() == folder.path() + ": Is a directory");
}

TEST_CASE("a pipe that nobody writes is refused and not waited for") {
  test::TempFolder folder;
  const std::string pipe = folder.path() + "/pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(ReadTextFile(pipe).error().message() == pipe + ": not a regular file");
}

TEST_CASE("a file that may not be read is an error") {
  if (::geteuid() == 0) return;  // root may
  test::TempFolder folder;
  const std::string secret = folder.Write("secret", "x");
  REQUIRE(::chmod(secret.c_str(), 0) == 0);
  CHECK(ReadTextFile(secret).error().code() == EACCES);
}

TEST_CASE("a file that is too large to be meant is refused") {
  test::TempFolder folder;
  CHECK(ReadTextFile(folder.Write("most", std::string(kLargestTextFile, 'a'))).ok());
  const std::string file = folder.Write("more", std::string(kLargestTextFile + 1, 'a'));
  CHECK(ReadTextFile(file).error().message() ==
        file + ": larger than 1024 KiB; is this the file that was meant?");
}

TEST_CASE("bytes that no text holds are refused with their line") {
  using namespace std::string_view_literals;
  CHECK(CheckIsText("one\ntwo\0"sv, "x").error().message() ==
        "x:2: holds a byte of value 0; this is not a text file");
  CHECK_FALSE(CheckIsText("\x7f"
                          "ELF\x02\x01"sv,
                          "x")
                  .ok());
  CHECK(CheckIsText("PS1=\x1b[1m \xc3\xa4 \xff\r\n\t", "x").ok());
}

TEST_CASE("lines come without their ends and with their numbers") {
  LineReader lines("\xef\xbb\xbfone\r\n\nthree");
  CHECK(*lines.Next() == "one");
  CHECK(lines.number() == 1);
  CHECK(lines.Next()->empty());
  CHECK(*lines.Next() == "three");
  CHECK(lines.number() == 3);
  CHECK_FALSE(lines.Next());
  CHECK_FALSE(LineReader("").Next());
}

}  // namespace
}  // namespace modal

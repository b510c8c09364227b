#include "agent/base/result.h"

#include <doctest/doctest.h>

#include <cerrno>
#include <memory>
#include <string>

namespace modal {
namespace {

Result<std::unique_ptr<int>> Seven() { return std::make_unique<int>(7); }

TEST_CASE("a result is either its value or its error") {
  Result<std::string> good(std::string("here"));
  CHECK(good);
  CHECK(good.ok());
  CHECK(*good == "here");
  CHECK(good->size() == 4);

  Result<std::string> bad(Error("not here"));
  CHECK_FALSE(bad);
  CHECK_FALSE(bad.ok());
  CHECK(bad.error().message() == "not here");
}

TEST_CASE("what cannot be copied is moved out of a result") {
  Result<std::unique_ptr<int>> result = Seven();
  const std::unique_ptr<int> value = *std::move(result);
  CHECK(*value == 7);
  CHECK(**Seven() == 7);
}

TEST_CASE("a result of nothing is fine until it is an error") {
  CHECK(Result<void>().ok());
  const Result<void> bad(Error("no"));
  CHECK_FALSE(bad);
  CHECK(bad.error().message() == "no");
}

TEST_CASE("each layer puts what it was doing in front, and the code stays") {
  Error error =
      Error::FromErrno("open /x", ENOENT).WithExitCode(127).While("read config").While("start");
  CHECK(error.message() == "start: read config: open /x: No such file or directory");
  CHECK(error.code() == ENOENT);
  CHECK(error.exit_code() == 127);
}

TEST_CASE("an error of our own has neither an errno nor an exit code") {
  const Error error("no");
  CHECK(error.code() == 0);
  CHECK(error.exit_code() == 0);
}

}  // namespace
}  // namespace modal

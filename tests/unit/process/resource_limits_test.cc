#include "agent/process/resource_limits.h"

#include <doctest/doctest.h>

namespace modal::process {
namespace {

TEST_CASE("a limit is a name with one value or two") {
  const auto both = ParseResourceLimit("nofile=1024:65536");
  REQUIRE(both);
  CHECK(both->resource == RLIMIT_NOFILE);
  CHECK(both->limit.rlim_cur == 1024);
  CHECK(both->limit.rlim_max == 65536);
  CHECK(ResourceLimitToString(both->limit) == "1024:65536");

  const auto one = ParseResourceLimit("RLIMIT_NPROC=99");
  REQUIRE(one);
  CHECK(one->resource == RLIMIT_NPROC);
  CHECK(one->limit.rlim_cur == 99);
  CHECK(one->limit.rlim_max == 99);

  const auto endless = ParseResourceLimit("core=0:unlimited");
  REQUIRE(endless);
  CHECK(endless->limit.rlim_cur == 0);
  CHECK(endless->limit.rlim_max == RLIM_INFINITY);
  CHECK(ResourceLimitToString(endless->limit) == "0:unlimited");
  CHECK(ParseResourceLimit("as=-1")->limit.rlim_cur == RLIM_INFINITY);
}

TEST_CASE("every resource is called by its name") {
  for (int resource = 0; resource < RLIM_NLIMITS; ++resource) {
    const auto limit = ParseResourceLimit(ResourceName(resource) + "=1:2");
    REQUIRE(limit);
    CHECK(limit->resource == resource);
  }
  CHECK(ResourceName(77) == "resource 77");
}

TEST_CASE("a limit that cannot be read says why") {
  const auto error = [](const char* text) { return ParseResourceLimit(text).error().message(); };
  CHECK(error("nofile") == "'nofile' is not NAME=SOFT[:HARD], as in nofile=1024:65536");
  CHECK(error("nofiles=1") == "unknown resource 'nofiles'; did you mean nofile?");
  CHECK(error("everything=1").find("there are as, core, cpu") != std::string::npos);
  CHECK(error("nofile=") == "'' is not SOFT[:HARD]: each is a number or 'unlimited'");
  CHECK(error("nofile=1k") == "'1k' is not SOFT[:HARD]: each is a number or 'unlimited'");
  CHECK(error("nofile=1:") == "'1:' is not SOFT[:HARD]: each is a number or 'unlimited'");
  CHECK(error("nofile=1:2:3") == "'1:2:3' is not SOFT[:HARD]: each is a number or 'unlimited'");
  CHECK(error("nofile=99999999999999999999") ==
        "'99999999999999999999' is not SOFT[:HARD]: each is a number or 'unlimited'");
  CHECK(error("nofile=2:1") == "the soft limit 2 is above the hard limit 1");
  CHECK(error("core=unlimited:1") == "the soft limit unlimited is above the hard limit 1");
}

}  // namespace
}  // namespace modal::process

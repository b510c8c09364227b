#include "agent/agent_build.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <string_view>

namespace modal {
namespace {

TEST_CASE("a build is known by its version and the linker's build id") {
  const std::string build = AgentBuild();
  const size_t plus = build.find('+');
  CHECK(build.substr(0, plus) == MODAL_VERSION);
  REQUIRE(plus != std::string::npos);
  const std::string_view id = std::string_view(build).substr(plus + 1);
  CHECK(id.size() == 16);
  CHECK(id.find_first_not_of("0123456789abcdef") == std::string_view::npos);
  CHECK(std::any_of(id.begin(), id.end(), [](char digit) { return digit != '0'; }));
}

}  // namespace
}  // namespace modal

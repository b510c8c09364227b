#include "agent/base/control_protocol.h"

#include <doctest/doctest.h>

namespace modal {
namespace {

using Paths = std::vector<std::string>;

TEST_CASE("the control socket has one place if one was chosen") {
  CHECK(ControlSocketPaths("/x/y.sock", "/run/user/7", 7) == Paths{"/x/y.sock"});
}

TEST_CASE("otherwise it stands in /run, in the user's runtime folder, or in /tmp") {
  CHECK(ControlSocketPaths("", "/run/user/7", 7) == Paths{"/run/modal-agent/control.sock",
                                                          "/run/user/7/modal-agent/control.sock",
                                                          "/tmp/modal-agent-7/control.sock"});
}

TEST_CASE("a runtime folder that is not set, or not absolute, is left out") {
  const Paths others{"/run/modal-agent/control.sock", "/tmp/modal-agent-0/control.sock"};
  CHECK(ControlSocketPaths("", "", 0) == others);
  CHECK(ControlSocketPaths("", "run/user/7", 0) == others);
}

}  // namespace
}  // namespace modal

#include "agent/base/control_protocol.h"

#include <doctest/doctest.h>

#include <cstddef>

namespace modal {
namespace {

using Paths = std::vector<std::string>;

// Without the last one, which is no file.
Paths FilesOf(Paths paths) {
  paths.pop_back();
  return paths;
}

TEST_CASE("the control socket has one place if one was chosen") {
  CHECK(ControlSocketPaths("/x/y.sock", "/run/user/7", 7) == Paths{"/x/y.sock"});
}

TEST_CASE("otherwise it stands in /run, in the user's runtime folder, or in /tmp") {
  CHECK(FilesOf(ControlSocketPaths("", "/run/user/7", 7)) ==
        Paths{"/run/modal-agent/control.sock", "/run/user/7/modal-agent/control.sock",
              "/tmp/modal-agent-7/control.sock"});
}

TEST_CASE("where no file can be made it has a name of this user and this PID namespace") {
  const Paths paths = ControlSocketPaths("", "", 7);
  CHECK(paths.back().starts_with("@modal-agent-7-"));
  CHECK(IsAbstractSocket(paths.back()));
  CHECK_FALSE(IsAbstractSocket(paths.front()));
  const Result<ControlAddress> address = ControlSocketAddress(paths.back());
  REQUIRE(address);
  CHECK(address->name.sun_path[0] == '\0');
  CHECK(address->size == offsetof(sockaddr_un, sun_path) + paths.back().size());
}

TEST_CASE("a path that no socket can have is refused") {
  CHECK(ControlSocketAddress(std::string(107, 'x')));
  CHECK_FALSE(ControlSocketAddress(std::string(108, 'x')));
}

TEST_CASE("a runtime folder that is not set, or not absolute, is left out") {
  const Paths others{"/run/modal-agent/control.sock", "/tmp/modal-agent-0/control.sock"};
  CHECK(FilesOf(ControlSocketPaths("", "", 0)) == others);
  CHECK(FilesOf(ControlSocketPaths("", "run/user/7", 0)) == others);
}

}  // namespace
}  // namespace modal

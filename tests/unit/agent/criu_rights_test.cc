#include "agent/criu_rights.h"

#include <doctest/doctest.h>
#include <linux/capability.h>

namespace modal {
namespace {

constexpr uint64_t Bit(int capability) { return uint64_t{1} << capability; }
constexpr uint64_t kBoth = Bit(CAP_CHECKPOINT_RESTORE) | Bit(CAP_SETPCAP);

bool Holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

CriuRights Root() {
  CriuRights rights;
  rights.criu = "/opt/criu";
  rights.permitted = rights.bounding = kBoth;
  return rights;
}

// As in Docker: the container has them, its user has not.
CriuRights User() {
  CriuRights rights = Root();
  rights.uid = 1000;
  rights.permitted = 0;
  return rights;
}

TEST_CASE("CRIU has its rights from us, or from its file") {
  CHECK(WhatCriuLacks(Root()) == "");
  CriuRights user = User();
  SUBCASE("ambient capabilities") { user.permitted = kBoth; }
  SUBCASE("its file") { user.of_file = kBoth; }
  SUBCASE("one of each") {
    user.permitted = Bit(CAP_SETPCAP);
    user.of_file = Bit(CAP_CHECKPOINT_RESTORE);
  }
  CHECK(WhatCriuLacks(user) == "");
}

TEST_CASE("CAP_SYS_ADMIN stands for CAP_CHECKPOINT_RESTORE") {
  CriuRights rights = Root();
  rights.permitted = Bit(CAP_SYS_ADMIN) | Bit(CAP_SETPCAP);
  CHECK(WhatCriuLacks(rights) == "");
}

TEST_CASE("what the container does not have is told as the options that give it") {
  CriuRights rights = Root();
  rights.permitted = rights.bounding = Bit(CAP_SETPCAP);
  CHECK(WhatCriuLacks(rights) ==
        "CRIU lacks CAP_CHECKPOINT_RESTORE: start the container with "
        "--cap-add=CHECKPOINT_RESTORE");
  rights.permitted = rights.bounding = 0;
  CHECK(Holds(WhatCriuLacks(rights), "--cap-add=SETPCAP --cap-add=CHECKPOINT_RESTORE"));
}

TEST_CASE("a filter that would be the next obstacle is told at once") {
  CriuRights rights = Root();
  rights.permitted = rights.bounding = Bit(CAP_SETPCAP);
  rights.has_filter = true;
  CHECK(Holds(WhatCriuLacks(rights),
              "with --cap-add=CHECKPOINT_RESTORE --security-opt=seccomp=unconfined"));
  rights.permitted = rights.bounding = kBoth;
  CHECK(WhatCriuLacks(rights) == "");
}

TEST_CASE("a user is to be given what the container has, too") {
  CriuRights user = User();
  user.bounding = Bit(CAP_SETPCAP);
  CHECK(Holds(WhatCriuLacks(user), "--cap-add=SETPCAP --cap-add=CHECKPOINT_RESTORE"));
}

TEST_CASE("a file that gives what the container may not have gives nothing") {
  CriuRights user = User();
  user.bounding = 0;
  user.of_file = kBoth;
  CHECK(Holds(WhatCriuLacks(user), "--cap-add=CHECKPOINT_RESTORE"));
}

TEST_CASE("a user to whom the container's capabilities do not come is told why") {
  CriuRights user = User();
  SUBCASE("nobody has given them") {
    CHECK(Holds(WhatCriuLacks(user),
                "`setcap cap_checkpoint_restore,cap_setpcap+ep /opt/criu` in the image"));
  }
  SUBCASE("no_new_privs defeats the file's") {
    user.of_file = kBoth;
    user.no_new_privileges = true;
    CHECK(Holds(WhatCriuLacks(user), "no-new-privileges"));
  }
  SUBCASE("a mount does") {
    user.of_file = kBoth;
    user.file_counts = false;
    CHECK(Holds(WhatCriuLacks(user), "nosuid"));
  }
}

TEST_CASE("for another user's server CRIU also needs to reach what is root's") {
  CriuRights rights = Root();
  rights.changes_user = true;
  CHECK(Holds(WhatCriuLacks(rights), "--cap-add=DAC_OVERRIDE"));
  rights.permitted = rights.bounding = kBoth | Bit(CAP_DAC_OVERRIDE);
  CHECK(WhatCriuLacks(rights) == "");
}

}  // namespace
}  // namespace modal

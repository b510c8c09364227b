#include "snapshot/own_root.h"

#include <doctest/doctest.h>
#include <linux/magic.h>
#include <sys/stat.h>

#include "tests/unit/agent/temp_folder.h"

namespace modal::snapshot {
namespace {

TEST_CASE("a folder ends with its container if both stand on the same overlay") {
  CHECK(EndsWithContainer({.device = 40, .root_device = 40, .root_file_system = 0x794c7630}));
  SUBCASE("a volume does not") {
    CHECK_FALSE(
        EndsWithContainer({.device = 2049, .root_device = 40, .root_file_system = 0x794c7630}));
  }
  SUBCASE("the root of a machine does not, whatever it is made of") {
    for (const int64_t system : {int64_t{EXT4_SUPER_MAGIC}, int64_t{BTRFS_SUPER_MAGIC},
                                 int64_t{XFS_SUPER_MAGIC}, int64_t{TMPFS_MAGIC}, int64_t{0}}) {
      CAPTURE(system);
      CHECK_FALSE(
          EndsWithContainer({.device = 2049, .root_device = 2049, .root_file_system = system}));
    }
  }
}

TEST_CASE("the place of a folder that is still to be made is that of the one above it") {
  const test::TempFolder temp;
  struct stat of_temp {};
  REQUIRE(::stat(temp.path().c_str(), &of_temp) == 0);
  for (const char* name : {"", "/to-be-made"}) {
    CAPTURE(name);
    const std::optional<FolderPlace> place = LookAtPlace(temp.path() + name);
    REQUIRE(place);
    CHECK(place->device == of_temp.st_dev);
  }
  const std::optional<FolderPlace> kernels = LookAtPlace("/proc");
  REQUIRE(kernels);
  CHECK(kernels->device != kernels->root_device);
  CHECK_FALSE(EndsWithContainer(*kernels));
  CHECK_FALSE(LookAtPlace(temp.path() + "/none/to-be-made"));
  CHECK_FALSE(LookAtPlace(""));
}

}  // namespace
}  // namespace modal::snapshot

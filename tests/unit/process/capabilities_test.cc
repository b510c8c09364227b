#include "agent/process/capabilities.h"

#include <doctest/doctest.h>
#include <linux/capability.h>
#include <stdlib.h>

#include "tests/unit/process/launch_fixture.h"

namespace modal::process {
namespace {

using namespace testing;

TEST_CASE("capabilities have names, and names have capabilities") {
  for (int number = 0; number <= CAP_CHECKPOINT_RESTORE; ++number) {
    CHECK(CapabilityNumber(CapabilityName(number)) == number);
  }
  CHECK(CapabilityName(CAP_NET_BIND_SERVICE) == "CAP_NET_BIND_SERVICE");
  CHECK(CapabilityNumber("net_bind_service") == CAP_NET_BIND_SERVICE);
  CHECK(CapabilityNumber("Cap_Sys_Admin") == CAP_SYS_ADMIN);
  CHECK(CapabilityName(63) == "CAP_63");
  CHECK_FALSE(CapabilityNumber(""));
  CHECK_FALSE(CapabilityNumber("CAP_"));
}

TEST_CASE("lists of capabilities are read and written") {
  const auto set = ParseCapabilities("CAP_NET_BIND_SERVICE, chown");
  REQUIRE(set);
  CHECK(*set == (uint64_t{1} << CAP_NET_BIND_SERVICE | uint64_t{1} << CAP_CHOWN));
  CHECK(CapabilitiesToString(*set) == "CAP_CHOWN,CAP_NET_BIND_SERVICE");
  CHECK(*ParseCapabilities("all") == kAllCapabilities);
  CHECK(*ParseCapabilities("ALL") == kAllCapabilities);
  CHECK(*ParseCapabilities("none") == 0);
  CHECK(CapabilitiesToString(0) == "none");
  CHECK(CapabilitiesToString(kAllCapabilities) == "all");
}

TEST_CASE("a list that cannot be read says why") {
  const auto error = [](const char* list) { return ParseCapabilities(list).error().message(); };
  CHECK(error("net_bind_servce") ==
        "unknown capability 'net_bind_servce'; did you mean NET_BIND_SERVICE?");
  CHECK(error("CAP_CHWON") == "unknown capability 'CAP_CHWON'; did you mean CAP_CHOWN?");
  CHECK(error("chown,,kill") == "unknown capability ''");
  CHECK(error("quite-something-else") == "unknown capability 'quite-something-else'");
  CHECK(error("") == "no capability is named; to keep none, write 'none'");
  CHECK(error("all,chown") == "'all' stands alone; no other capability can be named with it");
}

TEST_CASE("the sets of this process are those of /proc") {
  const std::string status = ReadWhole("/proc/self/status");
  const auto hex = [&](const char* name) {
    return ::strtoull(StatusLine(status, name).c_str(), nullptr, 16);
  };
  const CapabilitySets sets = CurrentCapabilities();
  CHECK(sets.effective == hex("CapEff"));
  CHECK(sets.permitted == hex("CapPrm"));
  CHECK(sets.inheritable == hex("CapInh"));
  CHECK(BoundingSet() == hex("CapBnd"));
}

TEST_CASE("dropping all leaves nothing, and cannot be undone") {
  const std::string status = InAnotherProcess([]() -> std::string {
    const CapabilitySets before = CurrentCapabilities();
    if (!DropAllCapabilities()) return "cannot drop";
    if (before.permitted != 0 && SetCapabilities(before)) return "taken back";
    return ReadWhole("/proc/self/status");
  });
  for (const char* name : {"CapInh", "CapPrm", "CapEff", "CapAmb"}) {
    CHECK(StatusLine(status, name) == "0000000000000000");
  }
  if (IsRoot()) CHECK(StatusLine(status, "CapBnd") == "0000000000000000");
}

}  // namespace
}  // namespace modal::process

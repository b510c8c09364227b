#include "agent/process/credentials.h"

#include <doctest/doctest.h>

#include "tests/unit/process/launch_fixture.h"

namespace modal::process {
namespace {

using namespace testing;

struct FilesFixture {
  FilesFixture() {
    std::filesystem::create_directory(root.path() + "/etc");
    root.File("etc/passwd",
              "root:x:0:0:root:/root:/bin/sh\n"
              "# a comment\n"
              "\n"
              "app:x:1000:1000:The App:/srv/app:/bin/sh\n"
              "homeless:x:1001:1000:::\n"
              "broken:x:ten:1000::/:\n"
              "short:x:1002\n"
              "4321:x:1003:1003::/odd:\n"
              "+::::::\n");
    root.File("etc/group",
              "root:x:0:\n"
              "app:x:1000:\n"
              "video:x:44:app,homeless\n"
              "audio:x:29:apple,app\n"
              "odd:x:zz:nobody\n");
  }
  Result<Credentials> LookUp(const std::string& user, const std::string& group = "") {
    return LookUpUser(user, group, root.path());
  }
  std::string ErrorOf(const std::string& user, const std::string& group = "") {
    const Result<Credentials> found = LookUp(user, group);
    if (found) return "found";
    CHECK(found.error().exit_code() == kExitAgentError);
    return found.error().message();
  }
  TempFolder root;
};

TEST_CASE_FIXTURE(FilesFixture, "a user by name or number has the groups that name it") {
  std::string user;
  SUBCASE("name") { user = "app"; }
  SUBCASE("number") { user = "1000"; }
  const auto found = LookUp(user);
  REQUIRE(found);
  CHECK(found->uid == 1000);
  CHECK(found->gid == 1000);
  CHECK(found->groups == std::vector<gid_t>{29, 44, 1000});
  CHECK(found->name == "app");
  CHECK(found->home == "/srv/app");
}

TEST_CASE_FIXTURE(FilesFixture, "a group that is given is the only one") {
  for (const auto& [user, group] : {std::pair{"app:video", ""}, std::pair{"1000:44", ""},
                                    std::pair{"app", "video"}, std::pair{"app:audio", "44"}}) {
    const auto found = LookUp(user, group);
    REQUIRE(found);
    CHECK(found->uid == 1000);
    CHECK(found->gid == 44);
    CHECK(found->groups == std::vector<gid_t>{44});
  }
}

TEST_CASE_FIXTURE(FilesFixture, "numbers need no entry") {
  const auto found = LookUp("12345:678");
  REQUIRE(found);
  CHECK(found->uid == 12345);
  CHECK(found->gid == 678);
  CHECK(found->name == "");
  CHECK(found->home == "/");

  const TempFolder empty;
  const auto nowhere = LookUpUser("12345", "", empty.path());
  REQUIRE(nowhere);
  CHECK(nowhere->gid == ::getgid());
  CHECK(nowhere->groups == std::vector<gid_t>{::getgid()});
}

TEST_CASE_FIXTURE(FilesFixture, "a group alone stands for our own user") {
  const auto found = LookUp("", "video");
  REQUIRE(found);
  CHECK(found->uid == ::getuid());
  CHECK(found->gid == 44);
}

TEST_CASE_FIXTURE(FilesFixture,
                  "a name of digits is a name first, and no home is the root folder") {
  const auto odd = LookUp("4321");
  REQUIRE(odd);
  CHECK(odd->uid == 1003);
  const auto homeless = LookUp("homeless");
  REQUIRE(homeless);
  CHECK(homeless->home == "/");
}

TEST_CASE_FIXTURE(FilesFixture, "what cannot be found is said with what is near") {
  CHECK(ErrorOf("apps") ==
        "unknown user 'apps': not in " + root.path() + "/etc/passwd; did you mean app?");
  CHECK(ErrorOf("zzzzzzz") == "unknown user 'zzzzzzz': not in " + root.path() + "/etc/passwd");
  CHECK(ErrorOf("app:vide") ==
        "unknown group 'vide': not in " + root.path() + "/etc/group; did you mean video?");
  CHECK(ErrorOf("4294967295") == "'4294967295' is no user id; there are 0 to 4294967294");
  CHECK(ErrorOf("1:99999999999") == "'99999999999' is no group id; there are 0 to 4294967294");
  CHECK(ErrorOf("") == "'' names no user");
  CHECK(ErrorOf(":video") == "':video' names no user");
  CHECK(ErrorOf("app:") == "'app:' names no group after the colon");
  CHECK(ErrorOf("-1") == "unknown user '-1': not in " + root.path() + "/etc/passwd");

  const TempFolder empty;
  const auto missing = LookUpUser("app", "", empty.path());
  REQUIRE_FALSE(missing);
  CHECK(missing.error().message() ==
        "unknown user 'app': there is no " + empty.path() + "/etc/passwd; give the number instead");
}

TEST_CASE_FIXTURE(FilesFixture, "a damaged line matters only if it is needed, and is named") {
  CHECK(ErrorOf("broken") == root.path() + "/etc/passwd:6: 'ten' is no user id");
  CHECK(ErrorOf("short") ==
        root.path() +
            "/etc/passwd:7: damaged: name:password:uid:gid:comment:home:shell is expected");
  CHECK(ErrorOf("app:odd") == root.path() + "/etc/group:5: 'zz' is no group id");
  CHECK(LookUp("app"));
}

TEST_CASE_FIXTURE(FilesFixture, "a file that cannot be read is an error") {
  std::filesystem::remove(root.path() + "/etc/passwd");
  std::filesystem::create_directory(root.path() + "/etc/passwd");
  CHECK(ErrorOf("app") == "read " + root.path() + "/etc/passwd: Is a directory");
}

TEST_CASE("root is found on this machine") {
  const auto root = LookUpUser("root", "");
  REQUIRE(root);
  CHECK(root->uid == 0);
  CHECK(root->name == "root");
}

}  // namespace
}  // namespace modal::process

#include "snapshot/hazards.h"

#include <doctest/doctest.h>

#include <string>

#include "tests/unit/snapshot/file_tree.h"

namespace modal::snapshot {
namespace {

using testing::FileTree;

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kSince = 1000 * kSecond + 7;

// The first bytes of a database; 1: a rollback journal, 2: a write-ahead log.
std::string DatabaseWithJournal(char kind) {
  std::string head("SQLite format 3\0", 16);
  head += "\x10";
  head += '\0';
  head += {kind, kind};
  return head + std::string(80, '\0');
}

std::string Problem(const FileTree& root, const std::vector<std::string>& open) {
  const ChangedFiles travels{{{"var", 0}, {"var/app.db", 100}}, 100};
  const Result<void> found = FindHazard({root.path(), kSince}, travels, open);
  return found ? "" : found.error().message();
}

TEST_CASE("an SQLite database with a rollback journal that is open and would travel is a hazard") {
  const FileTree root;
  root.File("var/app.db", DatabaseWithJournal(1));
  CHECK(Problem(root, {"/dev/null", "/var/app.db"})
            .starts_with("\"/var/app.db\": an SQLite database"));
  SUBCASE("not if nobody has it open") { CHECK(Problem(root, {"/dev/null"}) == ""); }
  SUBCASE("not if it does not travel") { CHECK(Problem(root, {"/data/app.db"}) == ""); }
  SUBCASE("not with a write-ahead log") {
    root.File("var/app.db", DatabaseWithJournal(2));
    CHECK(Problem(root, {"/var/app.db"}) == "");
  }
  SUBCASE("not if it is something else") {
    root.File("var/app.db", std::string(100, '\1'));
    CHECK(Problem(root, {"/var/app.db"}) == "");
    root.File("var/app.db", "SQLite");
    CHECK(Problem(root, {"/var/app.db"}) == "");
    root.Remove("var/app.db");
    CHECK(Problem(root, {"/var/app.db"}) == "");
  }
}

TEST_CASE("System V objects of the start are hazards, and those that were there before are not") {
  const FileTree root;
  const std::string head =
      "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n";
  const std::string semaphore =
      "     17219          0   600          1     0     0     0     0          0 ";
  root.File("proc/sysvipc/sem", head);
  CHECK(Problem(root, {}) == "");
  root.File("proc/sysvipc/sem", head + semaphore + "999\n");
  CHECK(Problem(root, {}) == "");
  root.File("proc/sysvipc/sem", head + semaphore + "999\n" + semaphore + "1000\n");
  CHECK(Problem(root, {}).starts_with("the start has made System V semaphores"));
  root.Remove("proc/sysvipc/sem");
  root.File("proc/sysvipc/msg", "17219 0 644 0 0 0 0 0 0 0 0 0 0 1001\n");
  CHECK(Problem(root, {}).starts_with("the start has made System V message queues"));
  root.Remove("proc/sysvipc/msg");
  root.File("proc/sysvipc/shm", "17219 0 644 100 10 0 1 0 0 0 0 0 0 1001 4096 0\n");
  CHECK(Problem(root, {}).starts_with("the start has made System V shared memory"));
}

}  // namespace
}  // namespace modal::snapshot

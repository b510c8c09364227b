#include "agent/process/process_table.h"

#include <doctest/doctest.h>
#include <sys/prctl.h>

#include <algorithm>

#include "tests/unit/process/launch_fixture.h"

namespace modal::process {
namespace {

using namespace testing;

TEST_CASE("a line of /proc/PID/stat is read whatever the name holds") {
  std::string name;
  SUBCASE("plain") { name = "nginx"; }
  SUBCASE("blanks and parentheses") { name = "a) S 1 (b"; }
  SUBCASE("a newline") { name = "x\ny) R 7 7 7"; }
  SUBCASE("empty") { name = ""; }
  SUBCASE("only parentheses") { name = ")("; }
  const auto info = ParseProcessStat("42 (" + name + ") Z 7 40 39 34816 -1 4194560 96 0 0 0 0 0\n");
  REQUIRE(info);
  CHECK(info->pid == 42);
  CHECK(info->name == name);
  CHECK(info->state == 'Z');
  CHECK(info->parent == 7);
  CHECK(info->group == 40);
  CHECK(info->session == 39);
  CHECK(info->has_execed);
}

TEST_CASE("a process that has not executed anything yet is known by its flags") {
  const auto info = ParseProcessStat("42 (sh) S 7 40 39 0 -1 4194368 96 0");
  REQUIRE(info);
  CHECK_FALSE(info->has_execed);
}

TEST_CASE("what is no such line is nothing") {
  for (const char* line :
       {"", "42", "42 (sh", "42 sh) S 1 1 1 0 -1 0", ") (", "42 (sh)", "42 (sh) S",
        "x (sh) S 1 1 1 0 -1 0", "42 (sh) S 1 1", "42 (sh) S 1 a 1 0 -1 0"}) {
    CHECK_FALSE(ParseProcessStat(line));
  }
}

TEST_CASE("every process is listed, zombies and strange names included") {
  const BlockedSignals blocked;
  Pipe ready;
  Pipe end;
  const pid_t strange = ::fork();
  MODAL_CHECK(strange >= 0);
  if (strange == 0) {
    ::prctl(PR_SET_NAME, "a) Z 1\n(b");
    ready.writer.Reset();
    end.writer.Reset();
    ReadToEnd(end.reader.get());
    ::_exit(0);
  }
  const pid_t zombie = ::fork();
  MODAL_CHECK(zombie >= 0);
  if (zombie == 0) ::_exit(0);
  AwaitZombie(zombie);
  ready.writer.Reset();
  ReadToEnd(ready.reader.get());  // the end comes when `strange` has its name

  const auto all = ListProcesses();
  REQUIRE(all);
  const auto find = [&](pid_t pid) {
    const auto found =
        std::find_if(all->begin(), all->end(), [&](const auto& info) { return info.pid == pid; });
    return found == all->end() ? ProcessInfo{} : *found;
  };
  CHECK(find(strange).name == "a) Z 1\n(b");
  CHECK(find(strange).parent == ::getpid());
  CHECK_FALSE(find(strange).has_execed);
  CHECK(find(zombie).state == 'Z');
  CHECK(find(::getpid()).session == ::getsid(0));
  CHECK(find(::getpid()).group == ::getpgrp());
  const auto ours = DescendantsOf(::getpid(), *all);
  CHECK(ours.size() == 2);

  end.writer.Reset();
  ::waitpid(strange, nullptr, 0);
  ::waitpid(zombie, nullptr, 0);
  CHECK_FALSE(LookAtProcess(zombie));
}

TEST_CASE("descendants are found generation by generation") {
  const auto process = [](pid_t pid, pid_t parent) {
    return ProcessInfo{pid, parent, 0, 0, 'S', "", true};
  };
  const std::vector<ProcessInfo> all{process(9, 4), process(1, 0), process(4, 2), process(2, 1),
                                     process(3, 1), process(5, 2), process(7, 6), process(6, 0)};
  std::vector<pid_t> found;
  for (const ProcessInfo& info : DescendantsOf(1, all)) found.push_back(info.pid);
  REQUIRE(found.size() == 5);
  std::sort(found.begin(), found.begin() + 2);
  std::sort(found.begin() + 2, found.begin() + 4);
  CHECK(found == std::vector<pid_t>{2, 3, 4, 5, 9});
  CHECK(DescendantsOf(9, all).empty());
  CHECK(DescendantsOf(1000, all).empty());
}

TEST_CASE("a circle of parents, as reused numbers can make one, comes to an end") {
  const std::vector<ProcessInfo> all{ProcessInfo{2, 3, 0, 0, 'S', "", true},
                                     ProcessInfo{3, 2, 0, 0, 'S', "", true},
                                     ProcessInfo{5, 5, 0, 0, 'S', "", true}};
  CHECK(DescendantsOf(2, all).size() == 1);
  CHECK(DescendantsOf(5, all).empty());
}

}  // namespace
}  // namespace modal::process

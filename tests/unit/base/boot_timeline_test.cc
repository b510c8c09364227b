#include "agent/base/boot_timeline.h"

#include <doctest/doctest.h>

#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "agent/base/strings.h"

namespace modal {
namespace {

constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

// "hooks 0+20", "port 20+?", "restore.memory 3+4 failed"
std::vector<std::string> Steps(const BootTimeline& timeline) {
  std::vector<std::string> steps;
  for (const BootSpan& span : timeline.spans()) {
    const std::string took = span.end_us < 0 ? "?" : std::to_string(span.end_us - span.begin_us);
    steps.push_back(Concat(BootStepName(span.step), " ", span.begin_us, "+", took,
                           span.failed ? " failed" : ""));
  }
  return steps;
}

using Words = std::vector<std::string>;

TEST_CASE("a step ends when the next one begins, and what follows serving is no part of the boot") {
  BootTimeline timeline;
  timeline.Enter(BootStep::kHooks, 0);
  timeline.Enter(BootStep::kExec, 20);
  timeline.Enter(BootStep::kPort, 25);
  CHECK(Steps(timeline) == Words{"hooks 0+20", "exec 20+5", "port 25+?"});
  timeline.Enter(BootStep::kServing, 90);
  CHECK(Steps(timeline).back() == "serving 90+?");
  timeline.Enter(BootStep::kExec, 500);
  timeline.End(900);
  CHECK(Steps(timeline) == Words{"hooks 0+20", "exec 20+5", "port 25+65", "serving 90+410"});
}

TEST_CASE("parts stand where they have begun, those of a dump after serving too") {
  BootTimeline timeline;
  timeline.Enter(BootStep::kDump, 10);
  timeline.Add({BootStep::kDumpFrozen, 0, 30, 40}, 50);
  timeline.Add({BootStep::kDumpQuiesce, 0, 10, 20}, 50);
  timeline.Enter(BootStep::kServing, 60);
  timeline.Add({BootStep::kDumpWritten, 0, 40, 90}, 90);
  CHECK(Steps(timeline) == Words{"dump 10+50", "dump.quiesce 10+10", "dump.frozen 30+10",
                                 "dump.written 40+50", "serving 60+?"});
}

TEST_CASE("a part that has failed makes its step a failed one, and no other") {
  BootTimeline timeline;
  timeline.Enter(BootStep::kRestore, 0);
  timeline.Add({BootStep::kRestoreMemory, 7, 2, 8}, 10);
  timeline.Enter(BootStep::kHooks, 10);
  timeline.Add({BootStep::kDumpWritten, 1, 10, 11}, 12);
  CHECK(Steps(timeline) == Words{"restore 0+10 failed", "restore.memory 2+6 failed", "hooks 10+?",
                                 "dump.written 10+1 failed"});
  timeline.Fail();
  CHECK(Steps(timeline)[2] == "hooks 10+? failed");
}

TEST_CASE("what another process says of its parts is cut to what can be") {
  BootTimeline timeline;
  for (const auto& [begin, end] :
       {std::pair(kMin, kMax), {kMax, kMin}, {kMin, kMin}, {kMax, kMax}, {-1, -1}, {50, 40}}) {
    timeline.Add({BootStep::kRestoreMemory, 0, begin, end}, 100);
  }
  REQUIRE(timeline.spans().size() == 6);
  for (const BootSpan& span : timeline.spans()) {
    CHECK(span.begin_us >= 0);
    CHECK(span.end_us >= span.begin_us);
    CHECK(span.end_us <= 100);
  }
  timeline.Add({BootStep::kServing, 0, 1, 2}, 100);  // no part of anything
  timeline.Add({static_cast<BootStep>(4711), 0, 1, 2}, 100);
  CHECK(timeline.spans().size() == 6);
  CHECK(BootStepName(static_cast<BootStep>(4711)) == "unknown");
}

TEST_CASE("a timeline that is full takes the last step all the same, and its size is bounded") {
  BootTimeline timeline;
  for (int i = 0; i < 100; ++i) timeline.Enter(BootStep::kExec, i);
  CHECK(timeline.spans().size() == BootTimeline::kMost - 1);
  timeline.Enter(BootStep::kServing, 100);
  CHECK(timeline.spans().size() == BootTimeline::kMost);
  CHECK(timeline.spans().back().step == BootStep::kServing);
  timeline.Add({BootStep::kDumpWritten, 0, 1, 2}, 100);
  CHECK(timeline.spans().size() == BootTimeline::kMost);
  std::memset(static_cast<void*>(&timeline), 0xff, sizeof timeline);  // as on a foreign board
  CHECK(timeline.spans().size() == BootTimeline::kMost);
}

}  // namespace
}  // namespace modal

#include "agent/timeline_picture.h"

#include <doctest/doctest.h>

#include <limits>
#include <sstream>

namespace modal {
namespace {

using Steps = std::vector<TimelineStep>;

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

size_t Widest(const std::string& picture) {
  size_t widest = 0;
  for (const std::string& line : Lines(picture)) widest = std::max(widest, line.size());
  return widest;
}

TEST_CASE("a restore is drawn to scale, its parts below it, and serving where it begins") {
  const Steps steps{{"restore", 0, 30'000},
                    {"restore.identity", 0, 15'000},
                    {"restore.memory", 15'000, 15'000},
                    {"port", 30'000, 10'000},
                    {"serving", 40'000, {}}};
  CHECK(DrawTimeline(steps, 99'000'000, 52) ==
        "                  at      took  0            40.0 ms\n"
        "restore      0.00 ms   30.0 ms  ###############\n"
        "  identity   0.00 ms   15.0 ms  ========\n"
        "  memory     15.0 ms   15.0 ms         ========\n"
        "port         30.0 ms   10.0 ms                 #####\n"
        "serving      40.0 ms                               >\n");
}

TEST_CASE("what has failed is said and marked, and a cold start follows it") {
  const Steps steps{{"restore", 0, 10'000, true},
                    {"restore.memory", 5'000, 5'000, true},
                    {"late_hooks", 10'000, 10'000}};
  CHECK(DrawTimeline(steps, 20'000, 58) ==
        "                       at      took  0             20.0 ms\n"
        "restore failed    0.00 ms   10.0 ms  xxxxxxxxxxx\n"
        "  memory failed   5.00 ms   5.00 ms       xxxxxx\n"
        "late hooks        10.0 ms   10.0 ms            ###########\n");
}

TEST_CASE("a start of 3 ms reads as well as one of 30 s and more") {
  const Steps quick{{"exec", 100, 400}, {"port", 500, 2'500}, {"serving", 3'000, {}}};
  CHECK(DrawTimeline(quick, 3'000, 40) ==
        "               at      took  0   3.00 ms\n"
        "exec      0.10 ms   0.40 ms  ##\n"
        "port      0.50 ms   2.50 ms   ##########\n"
        "serving   3.00 ms                      >\n");
  const Steps slow{{"hooks", 0, 29'950'000},
                   {"exec", 29'950'000, 1'000},
                   {"port", 29'951'000, 49'000},
                   {"serving", 30'000'000, {}}};
  const std::vector<std::string> lines = Lines(DrawTimeline(slow, 30'000'000, 60));
  CHECK(lines[0].ends_with("30.0 s"));
  CHECK(lines[2] == "exec       29.9 s   1.00 ms" + std::string(32, ' ') + "#");
}

TEST_CASE("no width is too small, and lines keep within it where that can be") {
  const Steps steps{{"hooks", 0, 1'000'000},
                    {"restore.identity", 3, 900'000'000, true},
                    {"serving", 900'000'003, {}}};
  for (const size_t width : {80, 60, 200, 1000})
    CHECK(Widest(DrawTimeline(steps, 0, width)) <= width);
  CHECK(Widest(DrawTimeline(steps, 0, 0)) == Widest(DrawTimeline(steps, 0, 20)));
}

TEST_CASE("what is under way lasts until now, and says so") {
  const Steps steps{{"hooks", 1'000'000, {}}};
  const std::vector<std::string> lines = Lines(DrawTimeline(steps, 4'000'000, 60));
  CHECK(lines[1].find("3.00 s+  ") != std::string::npos);
}

TEST_CASE("numbers that no boot has do no harm") {
  constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  const Steps steps{
      {"a", kMin, kMax}, {"b", kMax, kMax}, {"c", kMax, {}}, {"d.e", 5, kMin}, {"f", 0, 0}};
  CHECK(Lines(DrawTimeline(steps, kMin, 80)).size() == 6);
  CHECK(Lines(DrawTimeline({}, 0, 80)).size() == 1);
}

TEST_CASE("times have three digits, whatever they are") {
  CHECK(ShortTime(0) == "0.00 ms");
  CHECK(ShortTime(3'217) == "3.21 ms");
  CHECK(ShortTime(61'250) == "61.2 ms");
  CHECK(ShortTime(340'999) == "340 ms");
  CHECK(ShortTime(1'234'567) == "1.23 s");
  CHECK(ShortTime(59'999'999) == "59.9 s");
  CHECK(ShortTime(310'000'000) == "5 m 10 s");
}

}  // namespace
}  // namespace modal

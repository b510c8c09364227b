#include "snapshot/missing_memory.h"

#include <doctest/doctest.h>

#include <limits>
#include <random>

namespace modal::snapshot {
namespace {

TEST_CASE("what has come is missing no longer, and the rest is where it was in the file") {
  MissingMemory missing;
  missing.Add({{100, 200}, 1000});
  missing.Remove({120, 150});
  CHECK(missing.bytes() == 70);
  CHECK_FALSE(missing.At(120));
  CHECK_FALSE(missing.At(200));
  CHECK(missing.At(119)->memory.end == 120);
  CHECK(missing.At(160)->offset == 1060);
  CHECK(missing.EndOfHole(120) == 150);
  CHECK(missing.EndOfHole(150) == std::numeric_limits<uint64_t>::max());
  missing.Remove({0, 1000});
  CHECK(missing.empty());
}

TEST_CASE("what is filled next lies behind the address, or else at the beginning") {
  MissingMemory missing;
  CHECK_FALSE(missing.NextFrom(0));
  missing.Add({{100, 200}, 0});
  missing.Add({{300, 400}, 100});
  CHECK(missing.NextFrom(150)->memory.start == 150);
  CHECK(missing.NextFrom(150)->offset == 50);
  CHECK(missing.NextFrom(250)->memory.start == 300);
  CHECK(missing.NextFrom(400)->memory.start == 100);
}

TEST_CASE("memory that is moved takes what is missing along, onto nothing that was there") {
  MissingMemory missing;
  missing.Add({{100, 200}, 0});
  missing.Add({{500, 600}, 900});
  missing.Move({150, 250}, 520);
  CHECK_FALSE(missing.At(150));
  CHECK(missing.At(149)->offset == 49);
  CHECK(missing.At(520)->offset == 50);
  CHECK(missing.At(569)->offset == 99);
  CHECK_FALSE(missing.At(570));  // a hole moved there
  CHECK(missing.At(519)->offset == 919);
}

// Against an array that holds the place in the file of every unit of memory.
TEST_CASE("however memory is removed and moved, each part is told apart") {
  constexpr int kUnits = 64;
  std::mt19937 random(1);
  const auto below = [&random](int limit) {
    return std::uniform_int_distribution<int>(0, limit - 1)(random);
  };
  for (int round = 0; round < 200; ++round) {
    MissingMemory missing;
    std::vector<int> model(kUnits, -1);
    for (int at = 0; at + 8 <= kUnits; at += 8) {
      if (below(4) == 0) continue;
      missing.Add({{static_cast<uint64_t>(at), static_cast<uint64_t>(at) + 6},
                   static_cast<uint64_t>(at) * 10});
      for (int i = 0; i < 6; ++i) model[at + i] = at * 10 + i;
    }
    for (int step = 0; step < 12; ++step) {
      const int start = below(kUnits);
      const int size = below(kUnits - start) / 2 + 1;
      const int to = below(kUnits - size + 1);
      const bool moves = below(2) == 0 && (to + size <= start || start + size <= to);
      const MemoryRange range{static_cast<uint64_t>(start), static_cast<uint64_t>(start + size)};
      const std::vector<int> before = model;
      for (int i = 0; i < size; ++i) model[start + i] = -1;
      if (moves) {
        missing.Move(range, static_cast<uint64_t>(to));
        for (int i = 0; i < size; ++i) model[to + i] = before[start + i];
      } else {
        missing.Remove(range);
      }
      uint64_t count = 0;
      for (int at = 0; at < kUnits; ++at) {
        const std::optional<PageRun> run = missing.At(static_cast<uint64_t>(at));
        REQUIRE((run ? static_cast<int>(run->offset) : -1) == model[at]);
        count += run ? 1 : 0;
      }
      REQUIRE(missing.bytes() == count);
      REQUIRE(missing.empty() == (count == 0));
    }
  }
}

}  // namespace
}  // namespace modal::snapshot

#include "lifecycle/backoff.h"

#include <doctest/doctest.h>

namespace modal::lifecycle {
namespace {

using namespace std::chrono_literals;

TEST_CASE("each delay is twice the one before, up to the limit") {
  Backoff backoff(500ms, 30s);
  for (const Milliseconds expected : {500ms, 1000ms, 2000ms, 4000ms, 8000ms, 16000ms}) {
    CHECK(backoff.Next() == expected);
  }
  for (int i = 0; i < 100; ++i) CHECK(backoff.Next() == 30s);
}

TEST_CASE("after a reset it begins with the first delay again") {
  Backoff backoff(10ms, 100ms);
  for (int i = 0; i < 10; ++i) (void)backoff.Next();
  backoff.Reset();
  CHECK(backoff.Next() == 10ms);
  CHECK(backoff.Next() == 20ms);
}

}  // namespace
}  // namespace modal::lifecycle

#include "agent/policy/request_id.h"

#include <doctest/doctest.h>

#include <set>
#include <string>

namespace modal::policy {
namespace {

constexpr std::string_view kParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

std::string With(size_t at, std::string_view text) {
  return std::string(kParent).replace(at, text.size(), text);
}

TEST_CASE("a request id is kept if it is short and of plain characters") {
  CHECK(IsRequestId("a"));
  CHECK(IsRequestId("3f2c-AZ.z_9~+/=="));
  CHECK(IsRequestId(std::string(128, 'x')));
  CHECK_FALSE(IsRequestId(""));
  CHECK_FALSE(IsRequestId(std::string(129, 'x')));
  for (const char* bad : {"a b", "a\"b", "a,b", "a;b", "a\r\nb", "a<b", "\x80", "a:b", "a\\"}) {
    CHECK_FALSE(IsRequestId(bad));
  }
  CHECK_FALSE(IsRequestId(std::string_view("a\0b", 3)));
}

TEST_CASE("a traceparent of version 00 is exactly of its form") {
  CHECK(IsTraceParent(kParent));
  CHECK(IsTraceParent(With(53, "00")));
  CHECK(IsTraceParent(With(53, "ff")));
  CHECK(TraceIdOf(kParent) == "4bf92f3577b34da6a3ce929d0e0e4736");
  CHECK_FALSE(IsTraceParent(""));
  CHECK_FALSE(IsTraceParent(kParent.substr(0, 54)));
  CHECK_FALSE(IsTraceParent(std::string(kParent) + "-"));
  CHECK_FALSE(IsTraceParent(std::string(kParent) + " "));
  CHECK_FALSE(IsTraceParent(With(3, "4BF9")));  // upper case
  CHECK_FALSE(IsTraceParent(With(36, "g")));
  CHECK_FALSE(IsTraceParent(With(53, "0x")));
  CHECK_FALSE(IsTraceParent(With(3, std::string(32, '0'))));
  CHECK_FALSE(IsTraceParent(With(36, std::string(16, '0'))));
  for (const size_t dash : {2, 35, 52}) CHECK_FALSE(IsTraceParent(With(dash, "_")));
}

TEST_CASE("a traceparent of a later version may say more, and ff is none") {
  CHECK(IsTraceParent(With(0, "01")));
  CHECK(IsTraceParent(With(0, "cc") + "-what-comes.later"));
  CHECK_FALSE(IsTraceParent(With(0, "cc") + ".what"));
  CHECK_FALSE(IsTraceParent(With(0, "cc") + "-a\r\nb"));
  CHECK_FALSE(IsTraceParent(With(0, "ff")));
  CHECK_FALSE(IsTraceParent(With(0, "cc") + "-a,b"));  // two, joined
  CHECK_FALSE(IsTraceParent(With(0, "CC")));
}

TEST_CASE("one valid traceparent goes on, and several are as good as none") {
  const std::string_view one[] = {kParent};
  const std::string_view two[] = {kParent, kParent};
  const std::string_view bad[] = {"00-1-2-3"};
  CHECK(TraceParentToKeep(one) == kParent);
  CHECK(TraceParentToKeep(two).empty());
  CHECK(TraceParentToKeep(bad).empty());
  CHECK(TraceParentToKeep({}).empty());
}

TEST_CASE("names that are made are valid, and no two are the same") {
  NameMaker maker;
  NameMaker another;
  std::set<std::string, std::less<>> seen;
  for (int i = 0; i < 10'000; ++i) {
    for (NameMaker* one : {&maker, &another}) {
      const RequestId id = one->NewRequestId();
      const TraceParent parent = one->NewTraceParent();
      REQUIRE(IsRequestId(id.view()));
      REQUIRE(IsTraceParent(parent.view()));
      seen.emplace(id.view());
      seen.emplace(TraceIdOf(parent.view()));
      seen.emplace(parent.view().substr(36, 16));
    }
  }
  CHECK(seen.size() == 60'000);
  CHECK(maker.NewTraceParent().view().ends_with("-01"));
}

TEST_CASE("a copy makes the same names until it is seeded anew") {
  NameMaker maker({1, 2, 3, 4});
  NameMaker copy = maker;
  CHECK(maker.NewRequestId().view() == copy.NewRequestId().view());
  copy.Reseed();
  CHECK(maker.NewRequestId().view() != copy.NewRequestId().view());
}

TEST_CASE("a request id is two numbers of xoshiro256++") {
  // From the state 1, 2, 3, 4 the first are 41943041 and 58720359.
  NameMaker maker({1, 2, 3, 4});
  CHECK(maker.NewRequestId().view() == "00000000028000010000000003800067");
  NameMaker zero({0, 0, 0, 0});
  CHECK(zero.NewRequestId().view() != zero.NewRequestId().view());
}

}  // namespace
}  // namespace modal::policy

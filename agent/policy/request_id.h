// Names for requests: X-Request-Id, and the W3C trace context. Pure, but for the seed.
//
// What a client sends is kept if it is well-formed, and made otherwise. Of the trace context
// (https://www.w3.org/TR/trace-context-1/) we are a pass-through: we record no spans, so a valid
// `traceparent` goes on unchanged (section 3.4, "Mutating the traceparent Field"), and `tracestate`
// with it. One that is missing or invalid is replaced by a new one (4.2, 4.3), and then a
// `tracestate` is dropped: it would belong to nothing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace modal::policy {

inline constexpr size_t kLongestRequestId = 128;

// 1 to 128 characters of A-Z a-z 0-9 . _ ~ + / = -
bool IsRequestId(std::string_view text);

// Section 3.2: "00-" 32 digits "-" 16 digits "-" 2 digits, lower-case hex, neither of the first two
// all zeros. A version that is not known yet (01 to fe) may say more behind another "-" (3.2.4).
bool IsTraceParent(std::string_view text);

// `values` are those of all traceparent headers of a request: what may go on, or empty. Several are
// as good as none.
std::string_view TraceParentToKeep(std::span<const std::string_view> values);

// The 32 digits of a valid traceparent.
inline std::string_view TraceIdOf(std::string_view trace_parent) {
  return trace_parent.substr(3, 32);
}

// Text of a fixed length, in place.
template <size_t kSize>
struct FixedText {
  std::array<char, kSize> characters;
  std::string_view view() const { return {characters.data(), kSize}; }
};
using RequestId = FixedText<32>;
using TraceParent = FixedText<55>;

// Makes names that are unique, without a system call each. Not secret: who has seen some can work
// out the next. One for each thread.
class NameMaker {
 public:
  NameMaker();  // from getrandom(2)
  explicit NameMaker(const std::array<uint64_t, 4>& seed);

  // Anew from getrandom(2): in a copy of a process, or a restored one, which would go on to make
  // the names that the other makes.
  void Reseed();

  RequestId NewRequestId();  // 32 lower-case hex digits
  // Version 00, flags 01 ("sampled", 3.2.2.5.1). We record nothing ourselves, but with 00 the
  // common tracing libraries in the server, which follow their parent, would record nothing either.
  TraceParent NewTraceParent();

 private:
  uint64_t Next();

  std::array<uint64_t, 4> state_;  // of xoshiro256++; never all zeros
};

}  // namespace modal::policy

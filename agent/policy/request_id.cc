#include "agent/policy/request_id.h"

#include <sys/random.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "agent/base/check.h"

namespace modal::policy {
namespace {

// Which characters may stand in a request id: one look each.
constexpr std::array<bool, 256> kIdCharacters = [] {
  std::array<bool, 256> allowed{};
  for (const char c : std::string_view("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                       "0123456789._~+/=-")) {
    allowed[static_cast<unsigned char>(c)] = true;
  }
  return allowed;
}();

bool IsHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool IsZero(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c == '0'; });
}

void WriteHex(char* to, uint64_t value) {
  for (int shift = 60; shift >= 0; shift -= 4) *to++ = "0123456789abcdef"[value >> shift & 15];
}

}  // namespace

bool IsRequestId(std::string_view text) {
  return !text.empty() && text.size() <= kLongestRequestId &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return kIdCharacters[static_cast<unsigned char>(c)]; });
}

bool IsTraceParent(std::string_view text) {
  constexpr size_t kLength = sizeof(TraceParent);
  if (text.size() < kLength) return false;
  const std::string_view version = text.substr(0, 2);
  const std::string_view trace = text.substr(3, 32);
  const std::string_view parent = text.substr(36, 16);
  const std::string_view flags = text.substr(53, 2);
  if (text[2] != '-' || text[35] != '-' || text[52] != '-') return false;
  if (!IsHex(version) || !IsHex(trace) || !IsHex(parent) || !IsHex(flags)) return false;
  if (version == "ff" || IsZero(trace) || IsZero(parent)) return false;
  if (text.size() == kLength) return true;
  return version != "00" && text[kLength] == '-' &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return c > ' ' && c < 0x7f && c != ','; });
}

std::string_view TraceParentToKeep(std::span<const std::string_view> values) {
  if (values.size() != 1 || !IsTraceParent(values[0])) return {};
  return values[0];
}

NameMaker::NameMaker() { Reseed(); }

NameMaker::NameMaker(const std::array<uint64_t, 4>& seed) : state_(seed) {
  if (seed == std::array<uint64_t, 4>{}) state_[0] = 1;
}

void NameMaker::Reseed() {
  do {
    // So few bytes come whole, once the kernel has entropy.
    while (::getrandom(state_.data(), sizeof state_, 0) != ssize_t{sizeof state_}) {
      MODAL_CHECK(errno == EINTR);
    }
  } while (state_ == std::array<uint64_t, 4>{});
}

RequestId NameMaker::NewRequestId() {
  RequestId id;
  WriteHex(&id.characters[0], Next());
  WriteHex(&id.characters[16], Next());
  return id;
}

TraceParent NameMaker::NewTraceParent() {
  TraceParent parent;
  char* const text = parent.characters.data();
  std::string_view("00-").copy(text, 3);
  // Neither may be all zeros: one chance in 2^64 is taken away by a bit.
  WriteHex(text + 3, Next() | 1);
  WriteHex(text + 19, Next());
  text[35] = '-';
  WriteHex(text + 36, Next() | 1);
  std::string_view("-01").copy(text + 52, 3);
  return parent;
}

// xoshiro256++ (Blackman, Vigna: "Scrambled linear pseudorandom number generators").
uint64_t NameMaker::Next() {
  auto& [a, b, c, d] = state_;
  const uint64_t result = std::rotl(a + d, 23) + a;
  const uint64_t shifted = b << 17;
  c ^= a;
  d ^= b;
  b ^= c;
  a ^= d;
  c ^= shifted;
  d = std::rotl(d, 45);
  return result;
}

}  // namespace modal::policy

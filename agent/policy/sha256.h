// SHA-256, as far as tokens need it. Pure; no allocation but where a std::string is returned.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace modal::policy {

using Sha256Digest = std::array<uint8_t, 32>;

Sha256Digest Sha256(std::string_view text);

// 64 lower-case digits.
std::string ToHex(const Sha256Digest& digest);
// The reverse, in either case; nothing if `hex` is anything but 64 such digits.
std::optional<Sha256Digest> DigestFromHex(std::string_view hex);

}  // namespace modal::policy

// The values that settings take, as people write them. Pure: each function takes the text and
// returns the value, or an Error that says what was expected ("not a duration; write 5, 5s, 250ms
// or 2m"). The caller adds which setting it was and where the text came from.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/result.h"
#include "lifecycle/options.h"

namespace modal {

// "5", "5.0", "5s", "250ms", "2m", "1h", "7d": seconds if there is no unit. At most 365 days. What
// is not 0 is at least 1 ms.
Result<Milliseconds> ParseDuration(std::string_view text);
// The same, and not 0.
Result<Milliseconds> ParseDurationAboveZero(std::string_view text);
// The same, or "off".
Result<std::optional<Milliseconds>> ParseDurationOrOff(std::string_view text);

// 1 to 65535.
Result<uint16_t> ParsePort(std::string_view text);
// "[ADDR:]PORT" with a numeric address: "8001", "127.0.0.1:8001", "[::1]:8001". Without ADDR it is
// `any_address`.
Result<lifecycle::ListenAddress> ParseListenAddress(std::string_view text,
                                                    std::string_view any_address);

// 1 to 1,000,000.
Result<uint32_t> ParseCount(std::string_view text);
// The same, or "off" or 0, which is 0.
Result<uint32_t> ParseCountOrOff(std::string_view text);
// "65536", "64k", "2MiB", "4GiB": bytes, in powers of 1024. At least `least`.
Result<uint64_t> ParseSize(std::string_view text, uint64_t least);
// The same, or "off" or 0, which is 0.
Result<uint64_t> ParseSizeOrOff(std::string_view text);
// A duration in milliseconds as the gateway takes them; "off" is 0.
Result<uint32_t> ParseGatewayTime(std::string_view text);
Result<uint32_t> ParseGatewayTimeAboveZero(std::string_view text);
// "127.0.0.1:8000", "[::1]:8000", "app.internal:8000", "unix:/run/app.sock". A name is taken for
// another host's; nothing is looked up here.
Result<lifecycle::Upstream> ParseUpstream(std::string_view text);
// Names of protocols (RFC 9110, 7.8), in lower case and separated by commas: "websocket"; none for
// "off".
Result<std::string> ParseUpgrades(std::string_view text);
// true, yes, on, 1; false, no, off, 0.
Result<bool> ParseSwitch(std::string_view text);
// The index of `text` in `choices`; an error names the nearest, or all.
Result<size_t> ParseChoice(std::string_view text, std::span<const std::string_view> choices);

// "TERM", "SIGTERM", "15", "SIGRTMIN+3"; not a signal that only stops or continues, and not one of
// the two that libc keeps for itself.
Result<int> ParseSignal(std::string_view text);
// "143" or "143,130": 1 to 255.
Result<std::vector<int>> ParseExitCodes(std::string_view text);

// The path of an HTTP request: starts with '/', printable ASCII without spaces, at most 1023 bytes.
Result<std::string> ParseHttpPath(std::string_view text);

// Whether `name` can be the name of an environment variable: not empty, no '=', no white space.
bool IsVariableName(std::string_view name);

}  // namespace modal

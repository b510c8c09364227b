#include "agent/settings_values.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <limits>

#include "agent/base/exit_status.h"
#include "agent/base/strings.h"
#include "agent/event/name_files.h"
#include "healthcheck/gateway_channel.h"

namespace modal {
namespace {

constexpr uint64_t kLongestMs = 365ull * 24 * 3600 * 1000;
constexpr uint64_t kLargestSize = uint64_t{1} << 50;

Error NotADuration() { return Error("not a duration; write 5, 5s, 250ms or 2m"); }
Error NotAnAddress() { return Error("not an address; write 8001, 127.0.0.1:8001 or [::1]:8001"); }

// The milliseconds of one `unit`; 0 if there is no such unit.
uint64_t UnitMs(std::string_view unit) {
  struct Unit {
    std::string_view name;
    uint64_t ms;
  };
  constexpr std::array kUnits{Unit{"", 1000},    Unit{"s", 1000},      Unit{"ms", 1},
                              Unit{"m", 60'000}, Unit{"h", 3'600'000}, Unit{"d", 86'400'000}};
  for (const Unit& one : kUnits) {
    if (one.name == unit) return one.ms;
  }
  return 0;
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Takes the digits at the front of `text`.
std::string_view TakeDigits(std::string_view& text) {
  size_t size = 0;
  while (size < text.size() && IsDigit(text[size])) ++size;
  const std::string_view digits = text.substr(0, size);
  text.remove_prefix(size);
  return digits;
}

bool IsNumeric(int family, const std::string& address) {
  std::array<unsigned char, sizeof(in6_addr)> bytes;
  return ::inet_pton(family, address.c_str(), bytes.data()) == 1;
}

// 0.0.0.0, [::] and their other spellings.
bool IsUnspecified(const std::string& address) {
  in6_addr v6{};
  in_addr v4{};
  if (::inet_pton(AF_INET, address.c_str(), &v4) == 1) return v4.s_addr == 0;
  return ::inet_pton(AF_INET6, address.c_str(), &v6) == 1 && IN6_IS_ADDR_UNSPECIFIED(&v6);
}

}  // namespace

Result<Milliseconds> ParseDuration(std::string_view text) {
  const std::string_view whole_digits = TakeDigits(text);
  std::string_view fraction_digits;
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    fraction_digits = TakeDigits(text);
    if (fraction_digits.empty()) return NotADuration();
  }
  const uint64_t unit = UnitMs(text);
  if (whole_digits.empty() || unit == 0) return NotADuration();

  const Error too_long("too long; the longest duration is 8760h");
  const std::optional<uint64_t> whole = ParseUnsigned(whole_digits);
  if (!whole || *whole > kLongestMs) return too_long;
  // In millionths of the unit; digits beyond the sixth change nothing that we could measure.
  uint64_t fraction = 0;
  for (size_t i = 0; i < 6; ++i) {
    const char digit = i < fraction_digits.size() ? fraction_digits[i] : '0';
    fraction = fraction * 10 + static_cast<uint64_t>(digit - '0');
  }
  const uint64_t ms = *whole * unit + fraction * unit / 1'000'000;
  if (ms > kLongestMs) return too_long;
  if (ms == 0 && fraction != 0) return Milliseconds(1);
  return Milliseconds(static_cast<int64_t>(ms));
}

Result<Milliseconds> ParseDurationAboveZero(std::string_view text) {
  Result<Milliseconds> duration = ParseDuration(text);
  if (duration && duration->count() == 0) return Error("must be more than 0");
  return duration;
}

Result<std::optional<Milliseconds>> ParseDurationOrOff(std::string_view text) {
  if (text == "off") return std::optional<Milliseconds>();
  Result<Milliseconds> duration = ParseDuration(text);
  if (!duration) return Error(duration.error().message() + ", or off");
  return std::optional<Milliseconds>(*duration);
}

Result<uint16_t> ParsePort(std::string_view text) {
  const std::optional<uint64_t> number = ParseUnsigned(text);
  if (!number || *number == 0 || *number > std::numeric_limits<uint16_t>::max()) {
    return Error("not a port; a number from 1 to 65535 is expected");
  }
  return static_cast<uint16_t>(*number);
}

Result<lifecycle::ListenAddress> ParseListenAddress(std::string_view text,
                                                    std::string_view any_address) {
  std::string address(any_address);
  std::string_view port = text;
  if (text.starts_with('[')) {
    const size_t end = text.find("]:");
    if (end == std::string_view::npos) return NotAnAddress();
    address = text.substr(1, end - 1);
    port = text.substr(end + 2);
    if (!IsNumeric(AF_INET6, address)) return NotAnAddress();
  } else if (const size_t colon = text.find(':'); colon != std::string_view::npos) {
    if (text.find(':', colon + 1) != std::string_view::npos) {
      return Error("an IPv6 address stands in brackets here: [::1]:8001");
    }
    address = text.substr(0, colon);
    port = text.substr(colon + 1);
    if (address == "localhost") address = "127.0.0.1";
    if (address == "*") address = "0.0.0.0";
    if (!IsNumeric(AF_INET, address)) return NotAnAddress();
  }
  const Result<uint16_t> number = ParsePort(port);
  if (!number && (port.empty() || !std::all_of(port.begin(), port.end(), IsDigit))) {
    return NotAnAddress();
  }
  if (!number) return number.error();
  return lifecycle::ListenAddress{address, *number};
}

Result<uint32_t> ParseCount(std::string_view text) {
  const std::optional<uint64_t> number = ParseUnsigned(text);
  if (!number || *number == 0 || *number > 1'000'000) {
    return Error("not a count; a number from 1 to 1000000 is expected");
  }
  return static_cast<uint32_t>(*number);
}

Result<uint32_t> ParseCountOrOff(std::string_view text) {
  if (text == "off" || text == "0") return 0u;
  Result<uint32_t> count = ParseCount(text);
  if (!count) return Error(count.error().message() + ", or off");
  return count;
}

Result<uint64_t> ParseSize(std::string_view text, uint64_t least) {
  struct Unit {
    std::string_view name;
    int shift;
  };
  constexpr std::array kUnits{Unit{"", 0},     Unit{"k", 10},   Unit{"kib", 10},
                              Unit{"m", 20},   Unit{"mib", 20}, Unit{"g", 30},
                              Unit{"gib", 30}, Unit{"t", 40},   Unit{"tib", 40}};
  const std::optional<uint64_t> number = ParseUnsigned(TakeDigits(text));
  const std::string name = LowerCase(text);
  const auto* const unit =
      std::find_if(kUnits.begin(), kUnits.end(), [&](const Unit& one) { return one.name == name; });
  if (!number || unit == kUnits.end()) {
    return Error("not a size; write 65536, 64k, 2MiB or 4GiB");
  }
  if (*number > kLargestSize >> unit->shift) return Error("too large; the largest size is 1024TiB");
  const uint64_t size = *number << unit->shift;
  if (size < least) return Error(Concat("too small; the smallest size here is ", least, " bytes"));
  return size;
}

Result<uint64_t> ParseSizeOrOff(std::string_view text) {
  if (text == "off") return uint64_t{0};
  Result<uint64_t> size = ParseSize(text, 0);
  if (!size) return Error(size.error().message() + ", or off");
  return size;
}

Result<uint32_t> ParseGatewayTime(std::string_view text) {
  const Result<std::optional<Milliseconds>> time = ParseDurationOrOff(text);
  if (!time) return time.error();
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();  // three weeks
  return static_cast<uint32_t>(std::min(time->value_or(Milliseconds(0)).count(), kMost));
}

Result<uint32_t> ParseGatewayTimeAboveZero(std::string_view text) {
  const Result<Milliseconds> time = ParseDurationAboveZero(text);
  if (!time) return time.error();
  return ParseGatewayTime(text);
}

Result<lifecycle::Upstream> ParseUpstream(std::string_view text) {
  lifecycle::Upstream upstream;
  upstream.is_default = false;
  constexpr std::string_view kUnix = "unix:";
  if (text.starts_with(kUnix)) {
    constexpr size_t kLongest = sizeof(policy::GatewayConfig::upstream_path) - 1;
    upstream.kind = lifecycle::Upstream::Kind::kUnixSocket;
    upstream.path = text.substr(kUnix.size());
    if (!upstream.path.starts_with('/')) return Error("write the whole path: unix:/run/app.sock");
    if (upstream.path.size() > kLongest) {
      return Error(Concat("the path of a socket has at most ", kLongest, " bytes"));
    }
    return upstream;
  }
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) {
    return Error("not HOST:PORT; write 127.0.0.1:8000, [::1]:8000 or unix:/run/app.sock");
  }
  const std::string host(text.substr(0, colon));
  const bool is_address =
      host == "*" || host.find_first_of(":[]") != std::string::npos || IsNumeric(AF_INET, host);
  if (!is_address) {
    const Result<uint16_t> port = ParsePort(text.substr(colon + 1));
    if (!port) return port.error();
    if (!event::IsHostName(host)) {
      return Error(Concat("'", host,
                          "' is neither an address nor a name; write 10.0.0.5:8000 or "
                          "app.internal:8000"));
    }
    upstream.kind = lifecycle::Upstream::Kind::kElsewhere;
    upstream.name = LowerCase(host);
    upstream.address.clear();
    upstream.port = *port;
    return upstream;
  }
  Result<lifecycle::ListenAddress> address = ParseListenAddress(text, "");
  if (!address) return address.error();
  upstream.address = std::move(address->address);
  upstream.port = address->port;
  if (IsUnspecified(upstream.address)) {
    return Error(
        "a server cannot be reached at this address, only listen there; write "
        "127.0.0.1 or [::1]");
  }
  return upstream;
}

Result<std::string> ParseUpgrades(std::string_view text) {
  if (text == "off") return std::string();
  const auto is_token = [](char c) {
    constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~/";
    return (c >= 'a' && c <= 'z') || IsDigit(c) || kMarks.find(c) != std::string_view::npos;
  };
  std::string all;
  for (const std::string& piece : Split(text, ',')) {
    const std::string name = LowerCase(Trim(piece));
    if (name.empty() || !std::all_of(name.begin(), name.end(), is_token)) {
      return Error("not a list of protocols; write websocket, or off");
    }
    all += all.empty() ? name : "," + name;
  }
  if (all.size() >= sizeof(policy::GatewayConfig::upgrades)) {
    return Error("more protocols than there is room for");
  }
  return all;
}

Result<bool> ParseSwitch(std::string_view text) {
  for (const std::string_view yes : {"true", "yes", "on", "1"}) {
    if (text == yes) return true;
  }
  for (const std::string_view no : {"false", "no", "off", "0"}) {
    if (text == no) return false;
  }
  return Error("neither true nor false");
}

Result<size_t> ParseChoice(std::string_view text, std::span<const std::string_view> choices) {
  const auto found = std::find(choices.begin(), choices.end(), text);
  if (found != choices.end()) return static_cast<size_t>(found - choices.begin());
  const std::vector<std::string> names(choices.begin(), choices.end());
  std::string message = "not one of " + Join(names, ", ");
  if (const auto nearest = Nearest(text, names)) message += "; did you mean " + *nearest + "?";
  return Error(message);
}

Result<int> ParseSignal(std::string_view text) {
  const int number = SignalNumber(std::string(text));
  const bool stops_only = number == SIGSTOP || number == SIGTSTP || number == SIGTTIN ||
                          number == SIGTTOU || number == SIGCONT;
  if (stops_only) return Error("this signal ends nothing; TERM, INT, QUIT or HUP would");
  // glibc and musl use the real-time signals below SIGRTMIN between their threads.
  const bool is_libcs = number > SIGSYS && number < SIGRTMIN;
  if (number > 0 && !is_libcs) return number;

  std::vector<std::string> names;
  for (int known = 1; known <= SIGSYS; ++known) names.push_back(SignalName(known).substr(3));
  std::string upper(text.starts_with("SIG") ? text.substr(3) : text);
  std::transform(upper.begin(), upper.end(), upper.begin(), [](unsigned char c) {
    return static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  });
  std::string message = "not a signal; write TERM, SIGTERM or 15";
  if (const auto nearest = Nearest(upper, names)) message += " (did you mean " + *nearest + "?)";
  return Error(message);
}

Result<std::vector<int>> ParseExitCodes(std::string_view text) {
  std::vector<int> codes;
  for (const std::string& piece : Split(text, ',')) {
    const std::optional<uint64_t> code = ParseUnsigned(Trim(piece));
    if (!code || *code == 0 || *code > 255) {
      return Error("not a list of exit codes; write 143 or 143,130 (each from 1 to 255)");
    }
    codes.push_back(static_cast<int>(*code));
  }
  return codes;
}

Result<std::string> ParseHttpPath(std::string_view text) {
  constexpr size_t kLongest = sizeof(health::GatewayRequest::path) - 1;
  if (!text.starts_with('/')) return Error("not a path; it starts with /, as in /healthz");
  if (text.size() > kLongest) return Error(Concat("longer than ", kLongest, " bytes"));
  const auto is_plain = [](char c) { return c > ' ' && c < 0x7f && c != '#'; };
  if (!std::all_of(text.begin(), text.end(), is_plain)) {
    return Error("a path holds no spaces, no # and only ASCII; escape them as in /a%20b");
  }
  return std::string(text);
}

bool IsVariableName(std::string_view name) {
  return !name.empty() && name.find_first_of("= \t\r\n\v\f") == std::string_view::npos;
}

}  // namespace modal

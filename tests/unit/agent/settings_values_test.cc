#include "agent/settings_values.h"

#include <doctest/doctest.h>
#include <signal.h>

#include <array>
#include <string>

namespace modal {
namespace {

int64_t Ms(std::string_view text) {
  const Result<Milliseconds> duration = ParseDuration(text);
  return duration ? duration->count() : -1;
}

TEST_CASE("a duration is a number with a unit, in seconds without one") {
  CHECK(Ms("5") == 5000);
  CHECK(Ms("5.0") == 5000);
  CHECK(Ms("5s") == 5000);
  CHECK(Ms("250ms") == 250);
  CHECK(Ms("2m") == 120'000);
  CHECK(Ms("1h") == 3'600'000);
  CHECK(Ms("0") == 0);
  CHECK(Ms("0.25") == 250);
  CHECK(Ms("1.5m") == 90'000);
  CHECK(Ms("8760h") == 365ll * 24 * 3'600'000);
}

TEST_CASE("a duration that is not nothing is at least a millisecond") {
  CHECK(Ms("0.0001") == 1);
  CHECK(Ms("0.4ms") == 1);
  CHECK(Ms("0.0ms") == 0);
}

TEST_CASE("what is no duration is refused with examples of what is one") {
  for (const std::string_view text : {"", "x", "5x", "-5", "+5", "5 s", "s", ".5", "5.", "5.s",
                                      "1e3", "5S", "1m30s", "0x5", "5,0", "off", "\xef\xbc\x95"}) {
    CAPTURE(text);
    const Result<Milliseconds> duration = ParseDuration(text);
    REQUIRE_FALSE(duration.ok());
    CHECK(duration.error().message() == "not a duration; write 5, 5s, 250ms or 2m");
  }
}

TEST_CASE("a duration of more than a year is refused, however many digits it has") {
  for (const std::string_view text :
       {"8761h", "8760.1h", "99999999999999999999999999", "18446744073709551615h"}) {
    CAPTURE(text);
    const Result<Milliseconds> duration = ParseDuration(text);
    REQUIRE_FALSE(duration.ok());
    CHECK(duration.error().message() == "too long; the longest duration is 8760h");
  }
  CHECK(Ms("1." + std::string(100, '9')) == 1999);
}

TEST_CASE("off is a duration only where that makes sense, and 0 only where that does") {
  CHECK(ParseDurationOrOff("off").ok());
  CHECK_FALSE(*ParseDurationOrOff("off"));
  CHECK(**ParseDurationOrOff("3") == Milliseconds(3000));
  CHECK(ParseDurationOrOff("of").error().message() ==
        "not a duration; write 5, 5s, 250ms or 2m, or off");
  CHECK(ParseDurationAboveZero("0").error().message() == "must be more than 0");
  CHECK(ParseDurationAboveZero("1ms").ok());
}

TEST_CASE("a port is a number from 1 to 65535") {
  CHECK(*ParsePort("1") == 1);
  CHECK(*ParsePort("65535") == 65535);
  for (const std::string_view text : {"0", "65536", "-1", "abc", "", " 80", "80 ", "8e3", "+80"}) {
    CAPTURE(text);
    CHECK_FALSE(ParsePort(text).ok());
  }
}

TEST_CASE("an address to listen on is [ADDR:]PORT with a numeric address") {
  struct Case {
    std::string_view text;
    std::string_view address;
    uint16_t port;
  };
  for (const Case& one : {Case{"8001", "0.0.0.0", 8001}, Case{"127.0.0.1:8001", "127.0.0.1", 8001},
                          Case{"[::1]:8001", "::1", 8001}, Case{"[::]:1", "::", 1},
                          Case{"localhost:8001", "127.0.0.1", 8001}, Case{"*:80", "0.0.0.0", 80}}) {
    CAPTURE(one.text);
    const Result<lifecycle::ListenAddress> parsed = ParseListenAddress(one.text, "0.0.0.0");
    REQUIRE(parsed.ok());
    CHECK(parsed->address == one.address);
    CHECK(parsed->port == one.port);
  }
}

TEST_CASE("what is no address to listen on is refused") {
  for (const std::string_view text :
       {"", "host:80", "1.2.3:80", "[::1]", "[::1]80", "[1.2.3.4]:80", "::1:80", ":80",
        "1.2.3.4:", "1.2.3.4:0", "0", "70000", "[]:80", "[::1:80", "256.0.0.1:80"}) {
    CAPTURE(text);
    CHECK_FALSE(ParseListenAddress(text, "0.0.0.0").ok());
  }
  CHECK(ParseListenAddress("::1:8001", "").error().message() ==
        "an IPv6 address stands in brackets here: [::1]:8001");
}

TEST_CASE("a choice is one of the words, and the nearest is offered for another") {
  constexpr std::array<std::string_view, 3> kChoices{"text", "json", "automatic"};
  CHECK(*ParseChoice("json", kChoices) == 1);
  CHECK(ParseChoice("jsn", kChoices).error().message() ==
        "not one of text, json, automatic; did you mean json?");
  CHECK(ParseChoice("xml", kChoices).error().message() == "not one of text, json, automatic");
  CHECK_FALSE(ParseChoice("", kChoices).ok());
  CHECK_FALSE(ParseChoice("JSON", kChoices).ok());
}

TEST_CASE("a switch is on or off in the words that people use for it") {
  for (const std::string_view text : {"true", "yes", "on", "1"}) CHECK(*ParseSwitch(text));
  for (const std::string_view text : {"false", "no", "off", "0"}) CHECK_FALSE(*ParseSwitch(text));
  CHECK(ParseSwitch("maybe").error().message() == "neither true nor false");
}

TEST_CASE("a count is at least 1") {
  CHECK(*ParseCount("1") == 1);
  CHECK(*ParseCount("1000000") == 1'000'000);
  for (const std::string_view text : {"0", "-1", "1000001", "many", "", "3.5"}) {
    CAPTURE(text);
    CHECK_FALSE(ParseCount(text).ok());
  }
}

TEST_CASE("a stop signal is given by name or number and must be one that can stop something") {
  CHECK(*ParseSignal("TERM") == SIGTERM);
  CHECK(*ParseSignal("SIGINT") == SIGINT);
  CHECK(*ParseSignal("quit") == SIGQUIT);
  CHECK(*ParseSignal("15") == SIGTERM);
  CHECK(*ParseSignal("RTMIN+3") == SIGRTMIN + 3);
  for (const std::string_view text :
       {"STOP", "TSTP", "CONT", "0", "32", "33", "65", "", "TERMS "}) {
    CAPTURE(text);
    CHECK_FALSE(ParseSignal(text).ok());
  }
  CHECK(ParseSignal("TERN").error().message() ==
        "not a signal; write TERM, SIGTERM or 15 (did you mean TERM?)");
}

TEST_CASE("exit codes are a list of numbers from 1 to 255") {
  CHECK(*ParseExitCodes("143") == std::vector<int>{143});
  CHECK(*ParseExitCodes("143, 130,1") == std::vector<int>{143, 130, 1});
  for (const std::string_view text : {"", "0", "256", "143,", ",", "a", "143 130"}) {
    CAPTURE(text);
    CHECK_FALSE(ParseExitCodes(text).ok());
  }
}

TEST_CASE("the path of a health check is what can stand on a request line") {
  CHECK(*ParseHttpPath("/") == "/");
  CHECK(*ParseHttpPath("/healthz?full=1&x=%20") == "/healthz?full=1&x=%20");
  CHECK(ParseHttpPath("/" + std::string(1022, 'a')).ok());
  for (const std::string& text :
       {std::string(), std::string("healthz"), std::string("http://x/"), std::string("/a b"),
        std::string("/a\r\nHost: x"), std::string("/\xc3\xa4"), std::string("/a#b"),
        "/" + std::string(1023, 'a')}) {
    CAPTURE(text);
    CHECK_FALSE(ParseHttpPath(text).ok());
  }
}

TEST_CASE("the name of a variable holds no blanks and no equals sign") {
  CHECK(IsVariableName("A"));
  CHECK(IsVariableName("a.b-c"));
  for (const std::string_view name : {"", "A B", "A=B", "A\t", " A"}) {
    CAPTURE(name);
    CHECK_FALSE(IsVariableName(name));
  }
}

TEST_CASE("a size is a number of bytes, in powers of 1024 with a unit") {
  const auto size = [](std::string_view text) { return *ParseSize(text, 0); };
  CHECK(size("0") == 0);
  CHECK(size("65536") == 65'536);
  CHECK(size("64k") == 65'536);
  CHECK(size("64K") == 65'536);
  CHECK(size("64KiB") == 65'536);
  CHECK(size("2MiB") == 2 << 20);
  CHECK(size("4GiB") == uint64_t{4} << 30);
  CHECK(size("1024tib") == uint64_t{1} << 50);
}

TEST_CASE("what is no size, or is none here, is refused") {
  for (const std::string_view text : {"", "x", "k", "-1", "1.5M", "4GB", "4 GiB", "1e3", "0x10"}) {
    CAPTURE(text);
    CHECK(ParseSize(text, 0).error().message() == "not a size; write 65536, 64k, 2MiB or 4GiB");
  }
  for (const std::string_view text : {"1025TiB", "18446744073709551615", "18014398509481985k"}) {
    CAPTURE(text);
    CHECK(ParseSize(text, 0).error().message() == "too large; the largest size is 1024TiB");
  }
  CHECK(ParseSize("1023", 1024).error().message() ==
        "too small; the smallest size here is 1024 bytes");
  CHECK(*ParseSizeOrOff("off") == 0);
  CHECK(ParseSizeOrOff("4GB").error().message() ==
        "not a size; write 65536, 64k, 2MiB or 4GiB, or off");
}

TEST_CASE("a count may be off where that makes sense") {
  CHECK(*ParseCountOrOff("off") == 0);
  CHECK(*ParseCountOrOff("0") == 0);
  CHECK(*ParseCountOrOff("200") == 200);
  CHECK(ParseCountOrOff("many").error().message() ==
        "not a count; a number from 1 to 1000000 is expected, or off");
}

TEST_CASE("the gateway's times are milliseconds, and no more than it can hold") {
  CHECK(*ParseGatewayTime("off") == 0);
  CHECK(*ParseGatewayTime("0") == 0);
  CHECK(*ParseGatewayTime("1.5") == 1500);
  CHECK(*ParseGatewayTime("8760h") == 2'147'483'647);
  CHECK_FALSE(ParseGatewayTime("x").ok());
  CHECK(*ParseGatewayTimeAboveZero("250ms") == 250);
  CHECK_FALSE(ParseGatewayTimeAboveZero("0").ok());
  CHECK_FALSE(ParseGatewayTimeAboveZero("off").ok());
}

TEST_CASE("an upstream is an address or a name with a port, or a socket's path") {
  CHECK(ParseUpstream("10.0.0.5:80")->ToString() == "10.0.0.5:80");
  CHECK(ParseUpstream("[fd00::5]:80")->ToString() == "[fd00::5]:80");
  for (const std::string_view text : {"localhost:80", "example.com:80", "my_app:80", "a.b.:80"}) {
    CAPTURE(text);
    CHECK(ParseUpstream(text)->ToString() == text);
    CHECK(ParseUpstream(text)->kind == lifecycle::Upstream::Kind::kElsewhere);
    CHECK(ParseUpstream(text)->address.empty());
  }
  CHECK(ParseUpstream("App.Internal:80")->name == "app.internal");
  CHECK(ParseUpstream("unix:/run/app.sock")->ToString() == "unix:/run/app.sock");
  CHECK(ParseUpstream("unix:/" + std::string(106, 'x')).ok());
  CHECK_FALSE(ParseUpstream("unix:/" + std::string(107, 'x')).ok());
  for (const std::string_view host :
       {"10.0.0", "a..b", "-a", "a-", "a b", "http//a", "b\xc3\xa4r"}) {
    CAPTURE(host);
    CHECK(ParseUpstream(std::string(host) + ":80").error().message() ==
          "'" + std::string(host) +
              "' is neither an address nor a name; write 10.0.0.5:8000 or app.internal:8000");
  }
  CHECK(ParseUpstream("app.internal:http").error().message() ==
        "not a port; a number from 1 to 65535 is expected");
  for (const std::string_view text :
       {"", "80", ":80", "10.0.0.5", "10.0.0.5:", "10.0.0.5:0", "10.0.0.5:x", "::1:80", "[::1]",
        "[::1:80", "[x]:80", "unix:", "unix:app.sock", "0.0.0.0:80", "[::]:80", "*:80"}) {
    CAPTURE(text);
    CHECK_FALSE(ParseUpstream(text).ok());
  }
}

TEST_CASE("protocols to change to are names, in lower case") {
  CHECK(*ParseUpgrades("websocket") == "websocket");
  CHECK(*ParseUpgrades("WebSocket, TLS/1.0") == "websocket,tls/1.0");
  CHECK(ParseUpgrades("off")->empty());
  for (const std::string_view text : {"", ",", "a,,b", "a b", "a;b", "\"a\""}) {
    CAPTURE(text);
    CHECK_FALSE(ParseUpgrades(text).ok());
  }
  CHECK_FALSE(ParseUpgrades(std::string(128, 'x')).ok());
}

}  // namespace
}  // namespace modal

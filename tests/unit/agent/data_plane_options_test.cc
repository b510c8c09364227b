#include "agent/data_plane_options.h"

#include <doctest/doctest.h>

#include "agent/base/status_board.h"
#include "agent/policy/sha256.h"
#include "tests/unit/agent/command_line.h"

namespace modal {
namespace {

using lifecycle::Upstream;
using test::CommandLine;
using Words = std::vector<std::string>;

const std::string kHash = policy::ToHex(policy::Sha256("secret"));

// A command line with --listen 9080 and these words.
CommandLine Listening(Words words = {}) {
  words.insert(words.begin(), {"--listen", "9080"});
  return CommandLine(std::move(words));
}
lifecycle::DataPlane DataPlaneOf(const Words& words) {
  return Listening(words).Parsed().options.data_plane;
}
Upstream UpstreamOf(const Words& words) { return Listening(words).Parsed().options.upstream; }

TEST_CASE("there is no data plane unless it is asked for") {
  CHECK_FALSE(CommandLine().Parsed().options.listen);
  CHECK_FALSE(CommandLine({"--listen", "off"}).Parsed().options.listen);
  const lifecycle::Options options = Listening().Parsed().options;
  REQUIRE(options.listen);
  CHECK(options.listen->address == "0.0.0.0");
  CHECK(options.listen->port == 9080);
  CHECK(CommandLine({"--listen", "[::1]:80"}).Parsed().options.listen->address == "::1");
}

TEST_CASE("the data plane's defaults are those of the manual") {
  const policy::GatewayConfig config = DataPlaneOf({}).config;
  CHECK(std::string(config.upstream_address) == "127.0.0.1");
  CHECK(config.upstream_port == 8000);
  CHECK(config.rate_limit == 0);
  CHECK(config.rate_burst == 0);
  CHECK(config.max_concurrency == 0);
  CHECK(config.target_concurrency == 0);
  CHECK(config.queue == 128);
  CHECK(config.queue_timeout_ms == 10'000);
  CHECK(config.hold_ms == 0);
  CHECK(config.hold_most == 0);
  CHECK(config.max_header == 65'536);
  CHECK(config.max_body == uint64_t{4} << 30);
  CHECK(config.max_message == 2 << 20);
  CHECK(config.header_timeout_ms == 10'000);
  CHECK(config.connect_timeout_ms == 5'000);
  CHECK(config.first_byte_timeout_ms == 0);
  CHECK(config.idle_timeout_ms == 75'000);
  CHECK(config.request_timeout_ms == 0);
  CHECK(config.auth_required == 0);
  CHECK(config.trusted_count == 0);
  CHECK(std::string(config.upgrades) == "websocket");
  CHECK(config.access_log == policy::AccessLogFormat::kOff);
  CHECK(config.slow_request_ms == 0);
  CHECK(config.server_timing == 0);
  CHECK(config.threads >= 1);
  CHECK(config.threads <= 4);
}

TEST_CASE("what is set for the data plane is what the gateway gets") {
  const lifecycle::DataPlane data_plane = DataPlaneOf({"--rate-limit",
                                                       "200",
                                                       "--max-concurrency",
                                                       "50",
                                                       "--target-concurrency",
                                                       "40",
                                                       "--queue",
                                                       "off",
                                                       "--queue-timeout",
                                                       "250ms",
                                                       "--hold-requests",
                                                       "2s",
                                                       "--max-header",
                                                       "8k",
                                                       "--max-body",
                                                       "off",
                                                       "--max-message",
                                                       "64KiB",
                                                       "--header-timeout",
                                                       "3s",
                                                       "--connect-timeout",
                                                       "1s",
                                                       "--first-byte-timeout",
                                                       "4s",
                                                       "--idle-timeout",
                                                       "off",
                                                       "--request-timeout",
                                                       "2m",
                                                       "--trusted-proxies",
                                                       "10.0.0.0/8, ::1",
                                                       "--trusted-proxies",
                                                       "192.0.2.1",
                                                       "--allow-upgrade",
                                                       "WebSocket, foo/1",
                                                       "--environment",
                                                       "prod",
                                                       "--access-log",
                                                       "-",
                                                       "--access-log-format",
                                                       "common",
                                                       "--slow-request",
                                                       "1s",
                                                       "--server-timing",
                                                       "--gateway-threads",
                                                       "3"});
  const policy::GatewayConfig& config = data_plane.config;
  CHECK(config.rate_limit == 200);
  CHECK(config.rate_burst == 1000);
  CHECK(config.max_concurrency == 50);
  CHECK(config.target_concurrency == 40);
  CHECK(config.queue == 0);
  CHECK(config.queue_timeout_ms == 250);
  CHECK(config.hold_ms == 2'000);
  CHECK(config.hold_most == 1024);
  CHECK(config.max_header == 8'192);
  CHECK(config.max_body == 0);
  CHECK(config.max_message == 65'536);
  CHECK(config.header_timeout_ms == 3'000);
  CHECK(config.connect_timeout_ms == 1'000);
  CHECK(config.first_byte_timeout_ms == 4'000);
  CHECK(config.idle_timeout_ms == 0);
  CHECK(config.request_timeout_ms == 120'000);
  CHECK(config.trusted_count == 3);
  CHECK(config.trusted[0].prefix == 96 + 8);
  CHECK(config.trusted[2].prefix == 128);
  CHECK(std::string(config.upgrades) == "websocket,foo/1");
  CHECK(std::string(config.environment) == "prod");
  CHECK(config.access_log == policy::AccessLogFormat::kCommon);
  CHECK(data_plane.access_log == "-");
  CHECK(config.slow_request_ms == 1'000);
  CHECK(config.server_timing == 1);
  CHECK(config.threads == 3);
}

TEST_CASE("a burst is five times the rate, unless it is set") {
  CHECK(DataPlaneOf({"--rate-limit", "3", "--rate-burst", "7"}).config.rate_burst == 7);
  CHECK(DataPlaneOf({"--rate-limit", "1000000"}).config.rate_burst == 1'000'000);
  CHECK(DataPlaneOf({"--rate-burst", "7"}).config.rate_burst == 0);  // of no rate
}

TEST_CASE("an access log's path is made whole: the gateway's successor may start elsewhere") {
  CHECK(DataPlaneOf({"--access-log", "/x/log"}).access_log == "/x/log");
  CHECK(DataPlaneOf({"--access-log", "log"}).access_log.starts_with("/"));
  CHECK(DataPlaneOf({"--access-log", "log"}).access_log.ends_with("/log"));
  CHECK(DataPlaneOf({"--access-log", "log"}).config.access_log == policy::AccessLogFormat::kJson);
}

TEST_CASE("the server is at --port of this host, or where --upstream says") {
  CHECK(UpstreamOf({}).is_default);
  CHECK(UpstreamOf({"--port", "3000"}).ToString() == "127.0.0.1:3000");
  const Upstream local = UpstreamOf({"--upstream", "[::1]:3000"});
  CHECK_FALSE(local.is_default);
  CHECK(local.kind == Upstream::Kind::kPort);
  CHECK(local.ToString() == "[::1]:3000");
  const Upstream named = UpstreamOf({"--upstream", "LOCALHOST:3000"});
  CHECK(named.kind == Upstream::Kind::kPort);
  CHECK(named.name == "localhost");
  CHECK(named.ToString() == "localhost:3000");
  const lifecycle::DataPlane data_plane = DataPlaneOf({"--upstream", "app.invalid:3000"});
  CHECK(std::string(data_plane.config.upstream_name) == "app.invalid");
  CHECK(std::string(data_plane.config.upstream_address).empty());
  CHECK(data_plane.config.upstream_port == 3000);
  CHECK(UpstreamOf({"--upstream", "app.invalid:3000"}).kind == Upstream::Kind::kElsewhere);
  // Of a network for documentation (RFC 5737), so nobody's here.
  CHECK(UpstreamOf({"--upstream", "192.0.2.1:80"}).kind == Upstream::Kind::kElsewhere);
  const Upstream unix_socket = UpstreamOf({"--upstream", "unix:/run/app.sock"});
  CHECK(unix_socket.kind == Upstream::Kind::kUnixSocket);
  CHECK(unix_socket.path == "/run/app.sock");
}

TEST_CASE("the gateway logs as the agent does") {
  CHECK(Listening().Parsed().options.data_plane.config.log_json == 1);
  CHECK(Listening({"--log-format", "text"}).Parsed().options.data_plane.config.log_json == 0);
  CHECK(Listening().OnTerminal().Parsed().options.data_plane.config.log_json == 0);
}

TEST_CASE("two that would listen at the same place are refused") {
  CHECK(CommandLine({"--listen", "8000"}).Error() ==
        "--listen 8000: the server is to be at 127.0.0.1:8000 (--port); choose another port for "
        "one of them");
  CHECK(CommandLine({"--listen", "[::]:8000"}).Error().find("the server is to be at") !=
        std::string::npos);
  CHECK(CommandLine({"--listen", "9000", "--upstream", "127.0.0.2:9000"}).Error() ==
        "--listen 9000: the server is to be at 127.0.0.2:9000 (--upstream); choose another port "
        "for one of them");
  CHECK(CommandLine({"--listen", "9000", "--upstream", "localhost:9000"}).Error() ==
        "--listen 9000: the server is to be at localhost:9000 (--upstream); choose another port "
        "for one of them");
  CHECK(CommandLine({"--listen", "9000", "--admin", "127.0.0.1:9000"}).Error() ==
        "--listen 9000: the admin endpoints are to be there (--admin); choose another port for "
        "one of them");
}

TEST_CASE("the same port of another address, or of another host, is another place") {
  CHECK(CommandLine({"--listen", "127.0.0.2:8000"}).Error().empty());
  CHECK(CommandLine({"--listen", "8000", "--upstream", "[::1]:8000"}).Error().empty());
  CHECK(CommandLine({"--listen", "8000", "--upstream", "192.0.2.1:8000"}).Error().empty());
  CHECK(CommandLine({"--listen", "8000", "--upstream", "127.0.0.1:3000"}).Error().empty());
  CHECK(CommandLine({"--listen", "127.0.0.2:8001", "--admin", "127.0.0.1:8001"}).Error().empty());
  // The default one gives way when it cannot be had.
  CHECK(CommandLine({"--listen", "8001"}).Error().empty());
}

TEST_CASE("an HTTP path cannot be asked for at a unix socket") {
  CHECK(Listening({"--upstream", "unix:/x", "--health-path", "/up"}).Error() ==
        "--health-path /up: cannot be asked for at a unix socket (--upstream)");
}

TEST_CASE("settings of the gateway that were given in vain are named, defaults are not") {
  const auto warnings = [](CommandLine&& line) { return line.Parsed().warnings; };
  CHECK(warnings(CommandLine()).empty());
  CHECK(warnings(CommandLine({"--rate-limit", "5"})) ==
        Words{"--rate-limit has no effect without --listen"});
  CHECK((CommandLine({"--rate-limit", "5"}).With("MODAL_AGENT_QUEUE=3").Parsed().warnings) ==
        Words{"--rate-limit, MODAL_AGENT_QUEUE have no effect without --listen"});
  CHECK(CommandLine().With("MODAL_AGENT_TOKENS=x").Parsed().warnings ==
        Words{"MODAL_AGENT_TOKENS has no effect without --listen"});
  CHECK(warnings(Listening({"--rate-limit", "5"})).empty());
}

TEST_CASE("tokens come from a file and from a variable, and only hashes of them are kept") {
  test::TempFolder folder;
  const std::string file = folder.Write("tokens", "# ours\none:" + kHash + "\n");
  const std::string variable = "MODAL_AGENT_TOKENS=two:" + kHash + ":prod three:" + kHash;

  const lifecycle::DataPlane neither = Listening().Parsed().options.data_plane;
  CHECK(neither.config.auth_required == 0);
  CHECK(neither.tokens.empty());

  CommandLine line = Listening({"--proxy-tokens", file});
  line.With(variable);
  const Invocation both = line.Parsed();
  CHECK(both.warnings.empty());
  CHECK(both.options.data_plane.config.auth_required == 1);
  const std::vector<policy::TokenRecord>& tokens = both.options.data_plane.tokens;
  REQUIRE(tokens.size() == 3);
  const policy::Sha256Digest secret = policy::Sha256("secret");
  CHECK(std::equal(secret.begin(), secret.end(), tokens[0].secret_sha256));
  CHECK(std::string(BoardText(tokens[1].environment)) == "prod");

  CommandLine alone = Listening();
  CHECK(alone.With("MODAL_AGENT_TOKENS=one:" + kHash + "\ntwo:" + kHash)
            .Parsed()
            .options.data_plane.tokens.size() == 2);
}

TEST_CASE("tokens never reach the server's environment") {
  CommandLine line = Listening();
  line.With("MODAL_AGENT_TOKENS=one:" + kHash).With("OTHER=1");
  for (const std::string& variable : line.Parsed().options.environment) {
    CHECK(variable.find("TOKENS") == std::string::npos);
    CHECK(variable.find(kHash) == std::string::npos);
  }
}

TEST_CASE("a damaged tokens file is an error with its line, and does not show what stands there") {
  test::TempFolder folder;
  const std::string file = folder.Write("tokens", "one:" + kHash + "\ntwo:my-secret\n");
  const std::string error = Listening({"--proxy-tokens", file}).Error();
  CHECK(error.starts_with("--proxy-tokens: " + file + ":2: "));
  CHECK(error.find("my-secret") == std::string::npos);

  CHECK(Listening({"--proxy-tokens", folder.path() + "/none"}).Error() ==
        "--proxy-tokens: " + folder.path() + "/none: No such file or directory");
  const std::string binary = folder.Write("binary", std::string("a\0b", 3));
  CHECK(Listening({"--proxy-tokens", binary}).Error().starts_with("--proxy-tokens: " + binary));
  CommandLine variable = Listening();
  CHECK(variable.With("MODAL_AGENT_TOKENS=one:" + kHash + " two:my-secret")
            .Error()
            .starts_with("MODAL_AGENT_TOKENS:2: "));
}

}  // namespace
}  // namespace modal

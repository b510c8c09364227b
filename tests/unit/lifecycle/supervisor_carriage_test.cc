// The data plane: what the gateway is told in each phase, and a stop with requests in flight.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "tests/unit/agent/temp_folder.h"
#include "tests/unit/lifecycle/supervisor_world.h"

namespace modal::lifecycle {
namespace {

using health::Carriage;
using Carriages = std::vector<Carriage>;

struct Front : World {
  Front() {
    has_gateway = true;
    options.listen = ListenAddress{"0.0.0.0", 80};
    options.upstream.port = 8000;
    options.data_plane.config.threads = 2;
    options.data_plane.config.rate_limit = 1;
    SetUpstream(options.upstream, options.data_plane.config);
  }
  bool HasTerm() { return tree.SentTo(last().pid) == Signals{SIGTERM}; }
};

UniqueFd ListenAt(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  path.copy(name.sun_path, sizeof name.sun_path - 1);
  REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0);
  REQUIRE(::listen(fd.get(), 4) == 0);
  return fd;
}

TEST_CASE_FIXTURE(Front,
                  "requests are carried from the moment the server listens, be it on loopback") {
  Start();
  CHECK(gateway.carriages.empty());  // kNotYet is what a gateway begins with
  Listen("127.0.0.1");
  CHECK(phase() == Phase::kServing);
  CHECK(gateway.carriages == Carriages{Carriage::kServing});
  CHECK(gateway.configurations.empty());
  CHECK(std::string(published.listen) == "0.0.0.0:80");
  CHECK(std::string(published.upstream) == "127.0.0.1:8000");
}

TEST_CASE_FIXTURE(Front, "without --listen the gateway is told nothing") {
  options.listen.reset();
  Serve();
  Signal(SIGTERM);
  ExitLast(ExitStatus::Code(0));
  CHECK(exit_code == 0);
  CHECK(gateway.carriages.empty());
}

TEST_CASE_FIXTURE(Front, "a server that nobody has placed is followed to where it listens") {
  Start();
  Listen("::1");
  REQUIRE(gateway.configurations.size() == 1);
  CHECK(std::string(gateway.configurations[0].config.upstream_address) == "::1");
  CHECK(gateway.configurations[0].config.rate_limit == 1);
  CHECK(gateway.carriage() == Carriage::kServing);
  CHECK(std::string(published.upstream) == "[::1]:8000");
}

TEST_CASE_FIXTURE(Front, "with an upstream of its own the port wait is about that port") {
  options.upstream = {.is_default = false, .address = "127.0.0.1", .port = 3000};
  Start();
  CHECK(published.port == 3000);
  Listen("0.0.0.0", 8000);
  CHECK(phase() == Phase::kWaitingForPort);
  Listen("127.0.0.1", 3000);
  CHECK(phase() == Phase::kServing);
  CHECK(gateway.configurations.empty());

  Unlisten();
  clock.Advance(30s);
  CHECK(stop_reason().find("nothing listens on port 3000 any more") != std::string::npos);
}

TEST_CASE_FIXTURE(Front, "a server at a unix socket is ready when something listens there") {
  test::TempFolder folder;
  const std::string path = folder.path() + "/app.sock";
  options.upstream = {.kind = Upstream::Kind::kUnixSocket, .is_default = false, .path = path};

  SUBCASE("and unhealthy when nothing does any more") {
    Start();
    clock.Advance(1s);
    CHECK(phase() == Phase::kWaitingForPort);
    CHECK(std::string(published.waiting_note) == "nothing listens on unix:" + path);
    UniqueFd server = ListenAt(path);
    clock.Advance(20ms);
    CHECK(phase() == Phase::kServing);
    CHECK(published.port == 0);
    CHECK(std::string(published.listening) == "unix:" + path);
    clock.Advance(10s);
    CHECK(published.check_failures == 0);

    server.Reset();
    clock.Advance(30s);
    CHECK(stop_by() == "health checks");
  }
  SUBCASE("and if it never is, the startup timeout says so") {
    Start();
    clock.Advance(5s);
    CHECK(stop_reason() == "not ready within 5000 ms: nothing listens on unix:" + path);
  }
  SUBCASE("but not one that was there before") {
    const UniqueFd other = ListenAt(path);
    Start();
    CHECK(stop_reason().find("unix:" + path + " is already taken") == 0);
    CHECK(launcher.started.empty());
  }
}

TEST_CASE_FIXTURE(Front, "a server on another host is not waited for") {
  options.upstream = {
      .kind = Upstream::Kind::kElsewhere, .is_default = false, .address = "192.0.2.7", .port = 80};
  SUBCASE("whoever listens at that port here") {
    table.listeners.push_back(test::ListenerOn("0.0.0.0", 80, 1));
    Start();
    CHECK_FALSE(launcher.started.empty());
  }
  SUBCASE("unless a path is to answer") {
    options.health_path = "/up";
    Start();
    CHECK(phase() == Phase::kWaitingForPort);
    REQUIRE(gateway.probes.size() == 1);
    CHECK(gateway.probes[0].address == "192.0.2.7");
    CHECK(gateway.probes[0].port == 80);
    gateway.AnswerLast(200);
  }
  SUBCASE("nor is one that is known by its name, which the gateway looks up") {
    options.upstream.name = "app.internal";
    options.health_path = "/up";
    Start();
    REQUIRE(gateway.probes.size() == 1);
    CHECK(gateway.probes[0].address == "app.internal");
    gateway.AnswerLast(200);
    CHECK(std::string(published.upstream) == "app.internal:80");
  }
  SUBCASE("without one") { Start(); }
  CHECK(phase() == Phase::kServing);
  CHECK(gateway.carriage() == Carriage::kServing);
}

TEST_CASE_FIXTURE(
    Front, "our own listener on the application port of another address is in nobody's way") {
  options.listen = ListenAddress{"10.0.0.5", 8000};
  own_listeners = {99};
  table.listeners.push_back(test::ListenerOn("10.0.0.5", 8000, 99));
  Start();
  CHECK(phase() == Phase::kWaitingForPort);
  Listen("127.0.0.1");
  CHECK(phase() == Phase::kServing);
}

TEST_CASE_FIXTURE(Front, "a stop drains through the gateway before the server is told") {
  Serve();
  gateway.HaveInFlight(2);
  Signal(SIGTERM);
  CHECK(phase() == Phase::kDraining);
  CHECK(gateway.carriages == Carriages{Carriage::kServing, Carriage::kDraining});
  CHECK(published.connections_draining == 2);
  CHECK(published.stop_longest_ms == 35'500);
  clock.Advance(4s);
  CHECK(tree.sent.empty());
  CHECK(table.connections_asked == 0);

  gateway.Drained();
  CHECK(phase() == Phase::kStopping);
  CHECK(HasTerm());
  CHECK(gateway.stops == 0);  // it goes on refusing
  ExitLast(ExitStatus::Code(0));
  CHECK(exit_code == 0);
  CHECK(gateway.stops == 1);
}

TEST_CASE_FIXTURE(Front, "after the grace what is left is cut, and then the server is told") {
  Serve();
  gateway.HaveInFlight(1);
  Signal(SIGTERM);
  clock.Advance(5s);
  CHECK(gateway.carriage() == Carriage::kCutting);
  CHECK(tree.sent.empty());
  SUBCASE("when the gateway is done") { gateway.Drained(); }
  SUBCASE("or does not answer") { clock.Advance(500ms); }
  CHECK(phase() == Phase::kStopping);
  CHECK(HasTerm());
}

TEST_CASE_FIXTURE(Front, "during the drain delay requests are carried") {
  options.drain_delay = 3s;
  Serve();
  Signal(SIGTERM);
  CHECK_FALSE(published.ready);
  clock.Advance(2999ms);
  CHECK(gateway.carriage() == Carriage::kServing);
  clock.Advance(1ms);
  CHECK(gateway.carriage() == Carriage::kDraining);
}

TEST_CASE_FIXTURE(Front, "a second signal does not wait for requests") {
  Serve();
  gateway.HaveInFlight(1);
  Signal(SIGTERM);
  Signal(SIGTERM);
  CHECK(phase() == Phase::kStopping);
  CHECK(HasTerm());
  CHECK(gateway.carriage() == Carriage::kDraining);
}

TEST_CASE_FIXTURE(Front, "a drain that is asked for refuses requests and stays up") {
  options.drain_delay = 3s;
  Serve();
  supervisor->RequestDrain();
  CHECK_FALSE(published.ready);
  CHECK(gateway.carriage() == Carriage::kServing);
  clock.Advance(3s);
  CHECK(gateway.carriage() == Carriage::kDraining);
  clock.Advance(1h);
  CHECK(phase() == Phase::kServing);

  // The delay is over already.
  Signal(SIGTERM);
  gateway.Drained();
  CHECK(phase() == Phase::kStopping);
}

TEST_CASE_FIXTURE(Front, "a drain that is asked for during the start lets no request in") {
  Start();
  supervisor->RequestDrain();
  Listen();
  CHECK(phase() == Phase::kServing);
  CHECK(gateway.carriages == Carriages{Carriage::kDraining});
}

TEST_CASE_FIXTURE(Front, "while a server is started again its requests are not carried") {
  options.restart = Restart::kOnFailure;
  Serve();
  Unlisten();
  ExitLast(ExitStatus::Code(1));
  CHECK(phase() == Phase::kLaunching);
  CHECK(gateway.carriages == Carriages{Carriage::kServing, Carriage::kNotYet});
  clock.Advance(500ms);
  Listen();
  CHECK(phase() == Phase::kServing);
  CHECK(gateway.carriage() == Carriage::kServing);
}

TEST_CASE_FIXTURE(Front,
                  "when a server ends by itself, the answers that it has given go out first") {
  Serve();
  ExitLast(ExitStatus::Code(0));
  CHECK(phase() == Phase::kStopping);
  CHECK(gateway.carriage() == Carriage::kDraining);
  CHECK(gateway.stops == 0);
  CHECK_FALSE(exit_code);
  SUBCASE("when they have") { gateway.Drained(); }
  SUBCASE("or nobody takes them") { clock.Advance(500ms); }
  CHECK(exit_code == 0);
  CHECK(gateway.stops == 1);
}

TEST_CASE_FIXTURE(
    Front, "where helpers cannot be spared the gateway ends first, and nobody waits for it") {
  tree.can_tell_apart = false;
  Serve();
  ExitLast(ExitStatus::Code(0));
  CHECK(gateway.stops >= 1);
  CHECK(exit_code == 0);
}

TEST_CASE_FIXTURE(Front, "a reload hands the gateway its new settings") {
  Serve();
  Options fresh = options;
  fresh.data_plane.config.rate_limit = 9;
  fresh.data_plane.config.target_concurrency = 12;
  fresh.data_plane.tokens.resize(3);
  reload = fresh;
  const Result<ReloadOutcome> outcome = supervisor->Reload();
  REQUIRE(outcome.ok());
  CHECK(outcome->changed ==
        std::vector<std::string>{"proxy-tokens", "rate-limit", "target-concurrency"});
  CHECK(outcome->waiting.empty());
  REQUIRE(gateway.configurations.size() == 1);
  CHECK(gateway.configurations[0].config.rate_limit == 9);
  CHECK(gateway.configurations[0].tokens.size() == 3);
  CHECK(published.target_concurrency == 12);
  CHECK_FALSE(log.Has("config.waiting"));
}

TEST_CASE_FIXTURE(Front, "what a running gateway cannot change waits for the next start, by name") {
  Serve();
  Options fresh = options;
  fresh.listen = ListenAddress{"0.0.0.0", 81};
  fresh.upstream = {.is_default = false, .address = "127.0.0.1", .port = 3000};
  SetUpstream(fresh.upstream, fresh.data_plane.config);
  fresh.data_plane.config.threads = 4;
  reload = fresh;
  const Result<ReloadOutcome> outcome = supervisor->Reload();
  REQUIRE(outcome.ok());
  CHECK(outcome->waiting == std::vector<std::string>{"listen", "upstream", "gateway-threads"});
  CHECK(outcome->changed.empty());
  CHECK(log.Has("warn  config.waiting"));
  REQUIRE(gateway.configurations.size() == 1);
  CHECK(gateway.configurations[0].config.threads == 2);
  CHECK(gateway.configurations[0].config.upstream_port == 8000);
}

TEST_CASE_FIXTURE(Front, "a reload opens the access log again, even if nothing has changed") {
  options.data_plane.access_log = "/var/log/access";
  options.data_plane.config.access_log = policy::AccessLogFormat::kJson;
  Serve();
  reload = options;
  const Result<ReloadOutcome> outcome = supervisor->Reload();
  REQUIRE(outcome.ok());
  CHECK(outcome->changed.empty());
  REQUIRE(gateway.configurations.size() == 1);
  CHECK(gateway.configurations[0].access_log == "/var/log/access");
}

TEST_CASE_FIXTURE(Front, "each setting of the gateway that has changed is named and handed over") {
  Serve();
  Options fresh = options;
  policy::GatewayConfig& config = fresh.data_plane.config;
  SetBoardText(config.environment, "prod");
  config.hold_most = 7;
  config.trusted_count = 1;
  config.trusted[0].prefix = 96;
  config.max_body = 5;
  config.access_log = policy::AccessLogFormat::kCommon;
  fresh.data_plane.access_log = "-";
  reload = fresh;
  const Result<ReloadOutcome> outcome = supervisor->Reload();
  REQUIRE(outcome.ok());
  CHECK(outcome->changed == std::vector<std::string>{"environment", "hold-requests", "max-body",
                                                     "trusted-proxies", "access-log"});
  REQUIRE(gateway.configurations.size() == 1);
  const policy::GatewayConfig& handed = gateway.configurations[0].config;
  CHECK(std::memcmp(&handed, &config, sizeof config) == 0);
  CHECK(gateway.configurations[0].access_log == "-");
}

TEST_CASE_FIXTURE(Front, "a reload that fails changes nothing at all") {
  Serve();
  Options fresh = options;
  fresh.data_plane.config.rate_limit = 9;
  fresh.health_threshold = 77;
  SUBCASE("the settings are bad") {
    reload = Error("--proxy-tokens: tokens:3: no hash");
    CHECK(supervisor->Reload().error().message() == "--proxy-tokens: tokens:3: no hash");
    CHECK(
        log.Has("error config.reload_failed  --proxy-tokens: tokens:3: no hash; the old settings "
                "stay in force"));
  }
  SUBCASE("the gateway cannot have them") {
    reload = fresh;
    gateway.refuse_configuration = Error("--access-log /x: Is a directory");
    CHECK(supervisor->Reload().error().message() == "--access-log /x: Is a directory");
    CHECK(log.Has("config.reload_failed"));
  }
  CHECK(gateway.configurations.empty());
  CHECK(published.failure_threshold == 3);
}

}  // namespace
}  // namespace modal::lifecycle

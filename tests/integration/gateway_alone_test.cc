// The gateway as a process: its admin endpoints, its probes, its seal, and how it ends.
#include "tests/support/gateway_alone.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "agent/base/exit_status.h"
#include "agent/base/status_board.h"
#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"
#include "tests/support/agent_process.h"

namespace modal::test {
namespace {

using health::GatewayReply;

struct CurlAnswer {
  int exit_code = -1;
  std::string output;

  bool Has(const std::string& text) const { return output.find(text) != std::string::npos; }
  // Headers are the same whatever their case.
  bool HasLine(const std::string& line) const { return Has("\r\n" + line + "\r\n"); }
  int status() const { return std::atoi(output.substr(0, 12).c_str() + sizeof "HTTP/1."); }
  std::string body() const {
    const size_t end = output.find("\r\n\r\n");
    return end == std::string::npos ? "" : output.substr(end + 4);
  }
};

CurlAnswer Curl(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(),
                   {"curl", "-s", "-i", "--max-time", std::to_string(Settings().deadline.count())});
  FILE* curl = ::popen(ShellJoin(arguments).c_str(), "r");
  REQUIRE(curl != nullptr);
  CurlAnswer answer;
  char buffer[4096];
  for (size_t size; (size = std::fread(buffer, 1, sizeof buffer, curl)) > 0;) {
    answer.output.append(buffer, size);
  }
  const int status = ::pclose(curl);
  answer.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return answer;
}

TEST_CASE("curl gets every endpoint") {
  GatewayAlone gateway;
  struct Expected {
    std::string path;
    int status;
    const char* type;
    const char* content;
  };
  for (const auto& row : {
           Expected{"/", 200, "text/plain; charset=utf-8", "/readyz"},
           Expected{"/livez", 200, "text/plain; charset=utf-8", "ok\n"},
           Expected{"/startupz", 200, "text/plain; charset=utf-8", "ok\n"},
           Expected{"/readyz", 200, "text/plain; charset=utf-8", "ok\n"},
           Expected{"/readyz?verbose=1", 200, "text/plain; charset=utf-8", "ok\n"},
           Expected{"/status", 200, "application/json", "\"phase\":\"Serving\""},
           Expected{"/metrics", 200, "text/plain; version=0.0.4; charset=utf-8",
                    "modal_agent_phase{phase=\"Serving\"} 1\n"},
           Expected{"/nothing", 404, "application/json", "{\"error\":\"not_found\""},
       }) {
    const auto& [path, status, type, content] = row;
    INFO(row.path);
    const CurlAnswer answer = Curl({gateway.url() + path});
    CHECK(answer.exit_code == 0);
    CHECK(answer.status() == status);
    CHECK(answer.HasLine(Concat("Content-Type: ", type)));
    CHECK(answer.HasLine("Cache-Control: no-store"));
    CHECK(answer.body().find(content) != std::string::npos);
  }
}

TEST_CASE("curl sees readiness go at once when the supervisor says so") {
  GatewayAlone gateway;
  CHECK(Curl({gateway.url() + "/readyz"}).status() == 200);
  gateway.status.ready = false;
  health::EnterPhase(gateway.status, health::Phase::kDraining, 9);
  gateway.Publish();
  const CurlAnswer answer = Curl({gateway.url() + "/readyz"});
  CHECK(answer.status() == 503);
  CHECK(answer.body() == "{\"error\":\"not_ready\",\"message\":\"Draining\"}\n");
  CHECK(Curl({gateway.url() + "/livez"}).status() == 200);
}

TEST_CASE("curl's other ways to ask") {
  GatewayAlone gateway;
  const std::string livez = gateway.url() + "/livez";
  SUBCASE("HEAD") {
    const CurlAnswer answer = Curl({"--head", livez});
    CHECK(answer.status() == 200);
    CHECK(answer.HasLine("Content-Length: 3"));
    CHECK(answer.body().empty());
  }
  SUBCASE("methods that are refused") {
    for (const std::string method : {"POST", "PUT", "DELETE", "OPTIONS", "PATCH"}) {
      INFO(method);
      const CurlAnswer answer = Curl({"-X", method, livez});
      CHECK(answer.status() == 405);
      CHECK(answer.HasLine("Allow: GET, HEAD"));
    }
  }
  SUBCASE("HTTP/1.0") { CHECK(Curl({"--http1.0", livez}).status() == 200); }
  SUBCASE("two requests in one connection") {
    const CurlAnswer answer = Curl({"-w", "connects: %{num_connects}\n", livez, livez});
    CHECK(answer.Has("connects: 1\n"));
    CHECK(answer.Has("connects: 0\n"));
  }
  SUBCASE("a body that is too large") {
    const CurlAnswer answer =
        Curl({"-H", "Expect: 100-continue", "--data", std::string(50'000, 'x'), livez});
    CHECK(answer.status() == 413);
  }
  SUBCASE("headers that are too large") {
    CHECK(Curl({"-H", "X-Large: " + std::string(20'000, 'x'), livez}).status() == 431);
  }
  SUBCASE("a target that is too long") {
    CHECK(Curl({gateway.url() + "/" + std::string(20'000, 'x')}).status() == 414);
  }
}

TEST_CASE("every listener is served, IPv6 too") {
  UniqueFd ipv6 = ListenAnywhere("::1");
  if (!ipv6) {
    MESSAGE("skipped: there is no IPv6 here");
    return;
  }
  const uint16_t port = PortOf(ipv6);
  GatewayAlone::Options options;
  options.second_admin_listener = std::move(ipv6);
  GatewayAlone gateway(std::move(options));
  CHECK(Curl({"-g", Concat("http://[::1]:", port, "/livez")}).status() == 200);
  CHECK(Curl({gateway.url() + "/livez"}).status() == 200);
}

TEST_CASE("it makes the supervisor's probes") {
  GatewayAlone gateway;
  gateway.AskProbe(1, gateway.port(), "/readyz");
  gateway.AskProbe(2, gateway.port(), "/nothing");
  for (int i = 0; i < 2; ++i) {
    const GatewayReply reply = gateway.Reply();
    CHECK(reply.status == (reply.id == 1 ? 200 : 404));
  }
  const UniqueFd silent = ListenAnywhere();
  gateway.AskProbe(3, PortOf(silent), "/", 1);
  const GatewayReply reply = gateway.Reply();
  CHECK(reply.id == 3);
  CHECK(reply.status == 0);
  CHECK(BoardText(reply.error).ends_with("within 1 ms"));
}

TEST_CASE("it is sealed before it serves, and says so") {
  GatewayAlone gateway;
  REQUIRE(gateway.Get("/livez") == 200);
  CHECK(ProcLine(gateway.pid(), "status", "Seccomp") == "2");
  CHECK(ProcLine(gateway.pid(), "status", "NoNewPrivs") == "1");
  CHECK(ProcLine(gateway.pid(), "status", "Threads") == "1");
  CHECK(Curl({gateway.url() + "/status"}).Has("\"sealed\":true"));
  CHECK(gateway.Seen().sealed == 1);
  CHECK(gateway.Seen().pid == gateway.pid());
}

TEST_CASE("no signal that asks or tells it to end does, except SIGKILL") {
  GatewayAlone gateway;
  REQUIRE(gateway.Get("/livez") == 200);
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGALRM, SIGTSTP}) {
    REQUIRE(::kill(gateway.pid(), number) == 0);
    CHECK(gateway.Get("/livez") == 200);
  }
  ::kill(gateway.pid(), SIGSTOP);
  ::kill(gateway.pid(), SIGCONT);
  CHECK(gateway.Get("/livez") == 200);
}

TEST_CASE("it ends when its channel closes, whatever it is doing") {
  GatewayAlone gateway;
  const UniqueFd silent = ListenAnywhere();
  std::vector<Client> clients;
  SUBCASE("nothing") {}
  SUBCASE("having served") { REQUIRE(gateway.Get("/livez") == 200); }
  SUBCASE("connections and a probe") {
    for (int i = 0; i < 10; ++i) clients.emplace_back(gateway.Connect());
    clients[0].Send("GET /li");
    gateway.AskProbe(1, PortOf(silent), "/");
    REQUIRE(gateway.Get("/livez") == 200);
  }
  gateway.CloseChannel();
  CHECK(gateway.WaitForEnd() == ExitStatus::Code(0));
}

TEST_CASE("started by anybody else it says so and ends with 125") {
  struct Case {
    std::vector<std::string> arguments;
    bool has_descriptors;
  };
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const auto& row :
       {Case{{health::kGatewayArgv0}, true}, Case{{health::kGatewayArgv0, "1"}, true},
        Case{{health::kGatewayArgv0, "1", "0", "0"}, true},
        Case{{health::kGatewayArgv0, "x", "0"}, true},
        Case{{health::kGatewayArgv0, "1", "x"}, true},
        Case{{health::kGatewayArgv0, "-1", "0"}, true},
        Case{{health::kGatewayArgv0, "99999999999", "0"}, true},
        Case{{health::kGatewayArgv0, "1", "65"}, true},
        Case{{health::kGatewayArgv0, "1", "0"}, true},
        Case{{health::kGatewayArgv0, "1", "1"}, false}}) {
    const auto& [arguments, has_descriptors] = row;
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const UniqueFd reader(ends[0]);
    UniqueFd writer(ends[1]);
    const std::vector<int> fds =
        has_descriptors ? std::vector<int>(7, null.get()) : std::vector<int>();
    const pid_t pid = StartGateway(arguments, fds, writer.get(), 1'024);
    writer.Reset();
    INFO(Join(row.arguments, " "));
    CHECK(AwaitEnd(pid) == ExitStatus::Code(125));
    char said[1024] = {};
    CHECK(::read(reader.get(), said, sizeof said - 1) > 0);
    CHECK(std::string(said).starts_with("modal-agent-gateway: "));
  }
}

TEST_CASE("it takes little memory at idle") {
  GatewayAlone gateway;
  REQUIRE(Curl({gateway.url() + "/metrics"}).status() == 200);
  if (Settings().sanitized) return;
  const long pss = PssKiB(gateway.pid());
  CHECK(pss > 0);
  CHECK(pss <= 5 * 1024);
}

// One connection of each kind that an admin port sees when something is wrong.
void Misbehave(Client& client, size_t kind) {
  switch (kind % 4) {
    case 0:
      break;  // idle
    case 1:
      client.Send("GET /livez HTTP/1.1\r\nX-Slow: " + std::string(6'000, 'x'));
      break;
    case 2:
      client.Send("\x16\x03\x01 garbage \0\xff\r\n\r\n");
      break;
    default:
      client.Send("GET /status HTTP/1.1\r\nHost: x\r\n\r\n");  // and never reads the answer
  }
}

TEST_CASE("ten thousand connections: it serves on, probes on, and its memory is bounded") {
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlimit most{before.rlim_max, before.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &most);
  const size_t count = std::min<size_t>(10'000, before.rlim_max - 100);
  {
    GatewayAlone::Options options;
    options.descriptors = std::min<rlim_t>(65'536, before.rlim_max);
    GatewayAlone gateway(std::move(options));
    std::vector<Client> clients;
    for (size_t i = 0; i < count; ++i) {
      clients.emplace_back(gateway.Connect());
      if (clients.back()) Misbehave(clients.back(), i);
      if (i % 1'000 == 999) CHECK(gateway.Get("/livez") == 200);
    }
    CHECK(gateway.Get("/readyz") == 200);
    gateway.AskProbe(1, gateway.port(), "/readyz");
    CHECK(gateway.Reply().status == 200);
    CHECK(gateway.Seen().connections_open <= 1'024);
    if (!Settings().sanitized) CHECK(PssKiB(gateway.pid()) <= 32 * 1024);
  }
  ::setrlimit(RLIMIT_NOFILE, &before);
}

TEST_CASE("out of descriptors it serves on, and probes on") {
  // At 20 there are fewer than the connections alone would take.
  for (const rlim_t descriptors : {20, 24, 64}) {
    INFO(descriptors);
    GatewayAlone::Options options;
    options.descriptors = descriptors;
    GatewayAlone gateway(std::move(options));
    std::vector<Client> clients;
    for (size_t i = 0; i < 300; ++i) {
      clients.emplace_back(gateway.Connect());
      if (clients.back()) Misbehave(clients.back(), i);
    }
    CHECK(gateway.Get("/livez") == 200);
    gateway.AskProbe(1, gateway.port(), "/readyz");
    CHECK(gateway.Reply().status == 200);
    clients.clear();
    CHECK(gateway.Get("/livez") == 200);
  }
}

}  // namespace
}  // namespace modal::test

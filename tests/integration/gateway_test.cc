// The admin endpoints, as curl sees them, and the process that serves them.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>

#include "tests/support/agent_process.h"

namespace modal::test {
namespace {

constexpr const char* kGateway = "modal-agent-gateway";

// The HTTP status that curl gets, or "000".
std::string Curl(AgentProcess& agent, const std::string& path) {
  return agent
      .RunUnseen({"curl", "-s", "-o", "/dev/null", "--max-time", "10", "-w", "%{http_code}",
                  "http://127.0.0.1:8001" + path})
      .output;
}

std::string CurlBody(AgentProcess& agent, const std::string& path) {
  return agent.RunUnseen({"curl", "-s", "--max-time", "10", "http://127.0.0.1:8001" + path}).output;
}

struct Expected {
  std::string phase, livez, startupz, readyz;
};

// The phase is awaited; from then on everything must agree with it.
void CheckEndpoints(AgentProcess& agent, const Expected& expected) {
  INFO("phase ", expected.phase);
  agent.WaitUntil("/status to say " + expected.phase, [&] {
    return Contains(CurlBody(agent, "/status"), "\"phase\":\"" + expected.phase + "\"");
  });
  CHECK(Curl(agent, "/livez") == expected.livez);
  CHECK(Curl(agent, "/startupz") == expected.startupz);
  CHECK(Curl(agent, "/readyz") == expected.readyz);
  CHECK(Contains(CurlBody(agent, "/metrics"),
                 "modal_agent_phase{phase=\"" + expected.phase + "\"} 1"));
}

TEST_CASE("the admin endpoints tell the truth in every phase") {
  AgentProcess agent(
      With({"--on-enter", "/mnt/bin/listener --name hook --wait --on USR1=exit:0",
            "--startup-timeout", "1000", "--exit-grace-period", "1000", "--", kListener, "--wait",
            "--on", "USR1=listen", "--on", "TERM=none", "--on", "USR2=exit:0"}));
  agent.WaitForReportStartingWith("hook start");
  CheckEndpoints(agent, {"StartupHooks", "200", "503", "503"});
  agent.SignalProgram("hook", SIGUSR1);
  CheckEndpoints(agent, {"WaitingForPort", "200", "503", "503"});
  agent.SignalProgram("listener", SIGUSR1);
  agent.WaitFor("lifecycle.ready");
  CheckEndpoints(agent, {"Serving", "200", "200", "200"});

  Client held = agent.Connect(8000);
  REQUIRE(held.Request("/hold"));
  agent.WaitForReport("listener request /hold");
  agent.Signal(SIGTERM);
  CheckEndpoints(agent, {"Draining", "200", "200", "503"});
  held.Close();
  CheckEndpoints(agent, {"Stopping", "200", "200", "503"});
  agent.SignalProgram("listener", SIGUSR2);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("an error is a small JSON body") {
  AgentProcess agent(With({"--startup-timeout", "1000", "--", kListener, "--wait"}));
  agent.WaitForReportStartingWith("listener start");
  agent.WaitUntil("the gateway", [&] { return agent.Get(8001, "/livez").status == 200; });
  const HttpAnswer answer = agent.Get(8001, "/readyz");
  CHECK(answer.status == 503);
  CHECK(Contains(answer.body, "\"error\":\"not_ready\""));
  CHECK(Contains(answer.body, "WaitingForPort"));
  CHECK(agent.Get(8001, "/nothing-here").status == 404);
}

TEST_CASE("a gateway that is killed is replaced, and answers on the same port") {
  AgentProcess agent(With({kListener}));
  agent.WaitFor("lifecycle.ready");
  agent.WaitFor("gateway.start");
  for (size_t round = 2; round <= 3; ++round) {
    agent.SignalInside(agent.Processes(kGateway).at(0), SIGKILL);
    agent.WaitFor("gateway.exit", {{"status", "signal SIGKILL"}}, round - 1);
    // The port stays open: who connects now is served by the successor.
    CHECK(agent.Get(8001, "/readyz").status == 200);
    agent.WaitFor("gateway.start", {}, round);
  }
  CHECK(agent.Processes(kGateway).size() == 1);
  CHECK(Contains(agent.Run({"modal-agent", "status", "--json"}).output, "\"gateway_restarts\":2"));
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE(
    "a gateway that is killed again and again is replaced ever more slowly, and harms nobody") {
  AgentProcess agent(With({kListener}));
  agent.WaitFor("lifecycle.ready");
  agent.WaitFor("gateway.start");
  for (size_t round = 1; round <= 4; ++round) {
    agent.WaitFor("gateway.start", {}, round);
    agent.SignalInside(agent.Processes(kGateway).at(0), SIGKILL);
    agent.WaitFor("gateway.exit", {}, round);
    CHECK(agent.Get(8000, "/").status == 200);
  }
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("the gateway is nobody, and can gain no privilege") {
  AgentProcess agent(With({kListener}));
  agent.WaitFor("gateway.start");
  agent.WaitUntil("the gateway", [&] { return agent.Get(8001, "/livez").status == 200; });
  const ProcessSeen gateway = agent.Processes(kGateway).at(0);
  const std::string status =
      agent.Run({"cat", "/proc/" + std::to_string(gateway.pid) + "/status"}).output;
  CHECK(Contains(status, "Uid:\t65534\t65534\t65534\t65534"));
  CHECK(Contains(status, "Gid:\t65534\t65534\t65534\t65534"));
  CHECK(Contains(status, "CapEff:\t0000000000000000"));
  CHECK(Contains(status, "CapBnd:\t0000000000000000"));
  CHECK(Contains(status, "NoNewPrivs:\t1"));
  if (!Settings().sanitized) CHECK(Contains(status, "Seccomp:\t2"));
}

TEST_CASE("nobody else who is nobody can look into the gateway") {
  AgentProcess agent(With({kListener}));
  agent.WaitUntil("the gateway", [&] { return agent.Get(8001, "/livez").status == 200; });
  const std::string folder = "/proc/" + std::to_string(agent.Processes(kGateway).at(0).pid);
  // Its files are root's, as those of a process that cannot be dumped are (proc(5)).
  CHECK(agent.Run({"stat", "-c", "%u", folder + "/environ"}).output == "0\n");
  const auto read_as_nobody = [&](const std::string& path) {
    return agent.Run(
        {"setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "cat", path});
  };
  CHECK(read_as_nobody("/proc/self/environ").code == 0);
  for (const char* file : {"/environ", "/mem", "/maps"}) {
    const RunResult result = read_as_nobody(folder + file);
    INFO(file, ": ", result.output);
    CHECK(result.code == 1);
    CHECK(Contains(result.output, "Permission denied"));
  }
}

TEST_CASE("with --admin off there is no gateway process, and nothing listens") {
  AgentProcess agent(With({"--admin", "off", "--", kListener}));
  agent.WaitFor("lifecycle.ready");
  CHECK(agent.Get(8000, "/").status == 200);
  CHECK(agent.Processes(kGateway).empty());
  CHECK_FALSE(static_cast<bool>(agent.Connect(8001)));
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.Count("gateway.start") == 0);
}

TEST_CASE("an admin port that was asked for and is taken: 125") {
  AgentOptions options = With({"--admin", "8001", "--", kListener});
  options.taken_ports = {8001};
  AgentProcess agent(std::move(options));
  CHECK(agent.WaitForExit() == 125);
  CHECK(Contains(agent.Find("agent.error")["message"], "8001"));
  CHECK(agent.Count("workload.start") == 0);
}

TEST_CASE("the default admin port being taken is a warning, and everything goes on") {
  AgentOptions options = With({kListener});
  options.taken_ports = {8001};
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
  CHECK(Contains(agent.WaitFor("admin.off")["message"], "8001"));
  CHECK(agent.Get(8000, "/").status == 200);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("under `run` the admin port is on loopback only") {
  AgentOptions options = With({"run", kListener});
  options.process_1 = false;
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
  const std::string sockets = agent.Run({"ss", "-Hltn"}).output;
  CHECK(Contains(sockets, "127.0.0.1:8001"));
  CHECK_FALSE(Contains(sockets, "0.0.0.0:8001"));
}

TEST_CASE("garbage on the admin port is refused, and the gateway goes on") {
  AgentProcess agent(With({kListener}));
  agent.WaitFor("lifecycle.ready");
  const std::vector<std::string> garbage = {
      std::string(100'000, '\0'),
      "GET / HTTP/9.9\r\n\r\n",
      "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
      "GET /" + std::string(200'000, 'a') + " HTTP/1.1\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
      "POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
  };
  for (const std::string& bytes : garbage) {
    Client client = agent.Connect(8001);
    REQUIRE(static_cast<bool>(client));
    client.Send(bytes);
    ::shutdown(client.fd(), SHUT_WR);
    CHECK(client.WaitForClose());
  }
  CHECK(agent.Get(8001, "/livez").status == 200);
  CHECK(agent.Count("gateway.exit") == 0);
}

TEST_CASE("the metrics are valid Prometheus text") {
  AgentProcess agent(With({kListener}));
  agent.WaitFor("lifecycle.ready");
  const RunResult checked =
      agent.Run({"sh", "-c",
                 "command -v promtool >/dev/null || exit 200; "
                 "curl -s http://127.0.0.1:8001/metrics | promtool check metrics 2>&1"});
  if (checked.code == 200) {
    MESSAGE("promtool is not installed");
    return;
  }
  INFO(checked.output);
  CHECK(checked.code == 0);
}

TEST_CASE("ten thousand connections to the admin port, and /livez still answers") {
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  const rlimit most{limit.rlim_max, limit.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &most);
  const size_t count = std::min<size_t>(10'000, limit.rlim_max - 200);
  AgentProcess agent(With({kListener}));
  agent.WaitFor("lifecycle.ready");
  std::vector<Client> clients;
  for (size_t i = 0; i < count; ++i) {
    Client client = agent.Connect(8001);
    // Half of them say something, and never finish it.
    if (client && i % 2 == 0) client.Send("GET /livez HTTP/1.1\r\nX-Slow: ");
    clients.push_back(std::move(client));
    if (i % 2500 == 2499) CHECK(agent.Get(8001, "/livez").status == 200);
  }
  CHECK(agent.Get(8001, "/livez").status == 200);
  CHECK(agent.Get(8000, "/").status == 200);
  clients.clear();
  agent.WaitUntil("the gateway to be rid of them", [&] {
    const std::string metrics = agent.Get(8001, "/metrics").body;
    const size_t at = metrics.find("\nmodal_agent_gateway_connections_open ");
    return at != std::string::npos && std::atoi(metrics.c_str() + at + 38) <= 1;
  });
  CHECK(agent.Count("gateway.exit") == 0);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

TEST_CASE("the agent's own limit of descriptors bounds the gateway, and does not end it") {
  AgentOptions options = With({kListener});
  options.limits = {{RLIMIT_NOFILE, 64}};
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
  std::vector<Client> clients;
  for (int i = 0; i < 300; ++i) {
    clients.push_back(agent.Connect(8001));
    clients.back().Send("GET /livez HTTP/1.1\r\n");
  }
  CHECK(agent.Get(8001, "/livez").status == 200);
  clients.clear();
  CHECK(agent.Get(8001, "/livez").status == 200);
  CHECK(agent.Count("gateway.exit") == 0);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

}  // namespace
}  // namespace modal::test

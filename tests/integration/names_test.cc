// `--upstream` by name: the real agent, its gateway sealed, with the hosts file and the name server
// of the test.
#include <doctest/doctest.h>
#include <signal.h>

#include <string>
#include <vector>

#include "agent/base/strings.h"
#include "tests/support/agent_process.h"
#include "tests/support/origin_agent.h"

namespace modal::test {
namespace {

constexpr const char* kNameServer = "/mnt/bin/nameserver";
// A whole answer, after which the server closes: the next request needs another connection.
constexpr const char* kClosing = "/abort?size=9&seed=1&after=9";

// An agent in front of origin (127.0.0.1:8000), which a name server has started.
AgentOptions Named(const std::string& upstream, const std::vector<std::string>& records,
                   const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {"--listen", std::to_string(kDataPort), "--upstream",
                                        upstream};
  arguments.insert(arguments.end(), more.begin(), more.end());
  arguments.insert(arguments.end(), {"--", kNameServer});
  arguments.insert(arguments.end(), records.begin(), records.end());
  arguments.insert(arguments.end(), {"--", kOrigin});
  AgentOptions options = With(std::move(arguments));
  options.replace = {{"/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"},
                     {"/etc/resolv.conf", "search example.test\nnameserver 127.0.0.1\n"}};
  return options;
}

void WaitUntilUp(AgentProcess& agent) {
  agent.WaitFor("lifecycle.ready");
  agent.WaitFor("gateway.start");
  agent.WaitForReportStartingWith("nameserver start ");
  agent.WaitForReportStartingWith("origin start ");
  agent.WaitUntil("the gateway to be sealed", [&] {
    return Contains(agent.Get(kAdminPort, "/metrics").body, "modal_agent_gateway_sealed 1");
  });
}

void CheckServes(AgentProcess& agent) {
  const HttpAnswer answer = agent.Get(kDataPort, "/small?by-name");
  CHECK(answer.status == 200);
  CHECK(answer.body == "small by-name\n");
}

// A 502 that says so, and one line of the log, and the same gateway as before.
void CheckUnresolved(AgentProcess& agent, const std::string& name, const std::string& trouble,
                     const std::string& reason) {
  const HttpAnswer answer = agent.Get(kDataPort, "/small?x");
  CHECK(answer.status == 502);
  CHECK(Contains(answer.body, "\"error\":\"upstream_connect\""));
  CHECK(Contains(answer.body, Concat("the name '", name, "' has no address")));
  CHECK(Contains(answer.body, trouble));
  const LogEvent line = agent.WaitFor("upstream.name", {{"name", name}});
  CHECK(line["reason"] == reason);
  CHECK(Contains(line["message"], trouble));
  CHECK(agent.Count("upstream.name") == 1);
  CHECK(agent.Count("gateway.exit") == 0);
}

TEST_CASE("localhost needs no name server, and is waited for as a port of this host") {
  AgentOptions options = With({"--listen", "8080", "--upstream", "localhost:8000", "--", kOrigin});
  SUBCASE("as the hosts file has it") {}
  SUBCASE("without any file") { options.replace = {{"/etc/hosts", ""}, {"/etc/resolv.conf", ""}}; }
  AgentProcess agent(options);
  agent.WaitFor("port.open", {{"address", "127.0.0.1:8000"}});
  WaitUntilServed(agent);
  CheckServes(agent);
  CHECK(Contains(agent.Run({"modal-agent", "status"}).output, "localhost:8000"));
  CHECK(agent.Count("gateway.exit") == 0);
}

TEST_CASE("localhost is a server on [::1], too") {
  AgentProcess agent(With(
      {"--listen", "8080", "--upstream", "localhost:8000", "--", kListener, "--address", "::1"}));
  agent.WaitFor("port.open", {{"address", "[::1]:8000"}});
  agent.WaitUntil("an answer through the gateway",
                  [&] { return agent.Get(kDataPort, "/").status == 200; });
}

TEST_CASE("a name of the hosts file needs no name server") {
  AgentOptions options = Named("box:8000", {"box=192.0.2.1"});
  options.replace["/etc/hosts"] = "127.0.0.1 localhost\n127.0.0.1 box\n";
  AgentProcess agent(options);
  agent.WaitFor("port.open", {{"address", "127.0.0.1:8000"}});
  WaitUntilUp(agent);
  CheckServes(agent);
  CHECK(agent.CountReports("nameserver question box") == 0);
}

TEST_CASE("a name that only a name server knows is asked for, sealed, over UDP or TCP") {
  std::string record;
  SUBCASE("UDP") { record = "app.test=127.0.0.1"; }
  SUBCASE("TCP, where the answer does not fit") { record = "app.test=tcp:127.0.0.1"; }
  SUBCASE("with several threads") { record = "app.test=127.0.0.1"; }
  AgentProcess agent(Named("app.test:8000", {record}, {"--gateway-threads", "3"}));
  WaitUntilUp(agent);
  for (int i = 0; i < 12; ++i) CheckServes(agent);
  CHECK(agent.Get(kDataPort, "/down?size=3000000&seed=1").body.size() == 3'000'000);
  agent.WaitForReport("nameserver question app.test");
  CHECK(Contains(agent.Run({"modal-agent", "status"}).output, "app.test:8000"));
  CHECK(agent.Count("gateway.exit") == 0);
  CHECK(agent.Count("upstream.name") == 0);
}

TEST_CASE("a name without dots is searched for, and a server that is reached by it is healthy") {
  AgentProcess agent(
      Named("app:8000", {"app.example.test=127.0.0.1"}, {"--health-path", "/small?well"}));
  WaitUntilUp(agent);
  CheckServes(agent);
  agent.WaitForReport("nameserver question app.example.test");
}

TEST_CASE("of several addresses the first that takes the connection serves") {
  AgentProcess agent(Named("app.test:8000", {"app.test=127.0.0.2,::1,127.0.0.1"}));
  WaitUntilUp(agent);
  CheckServes(agent);
}

TEST_CASE("where no address takes the connection it is a 502, and not the name's fault") {
  AgentProcess agent(Named("app.test:8000", {"app.test=127.0.0.2,127.0.0.3"}));
  WaitUntilUp(agent);
  const HttpAnswer answer = agent.Get(kDataPort, "/small?x");
  CHECK(answer.status == 502);
  CHECK(Contains(answer.body, "Connection refused"));
  CHECK(agent.Count("upstream.name") == 0);
}

TEST_CASE("an unknown name is a 502 that says so") {
  AgentProcess agent(Named("nobody.test:8000", {}));
  WaitUntilUp(agent);
  CheckUnresolved(agent, "nobody.test", "no such name is known", "unknown");
  agent.WaitForReport("nameserver question nobody.test.example.test");
}

TEST_CASE("a name server that cannot tell is a 502 that says so") {
  AgentProcess agent(
      Named("app.test:8000", {"app.test=servfail", "app.test.example.test=servfail"}));
  WaitUntilUp(agent);
  CheckUnresolved(agent, "app.test", "the name servers cannot tell", "failed");
}

TEST_CASE("a silent name server is a 502 when the time to connect is over") {
  AgentProcess agent(Named("app.test:8000", {"app.test=silent"}, {"--connect-timeout", "300ms"}));
  WaitUntilUp(agent);
  CheckUnresolved(agent, "app.test", "no name server has answered", "timed_out");
}

TEST_CASE("where there is no name server it is a 502 that says so") {
  AgentOptions options = Named("app.test:8000", {});
  options.replace["/etc/resolv.conf"] = "nameserver 127.0.0.5\n";
  AgentProcess agent(options);
  WaitUntilUp(agent);
  CheckUnresolved(agent, "app.test", "there is no name server where /etc/resolv.conf says",
                  "no_server");
}

TEST_CASE("while the name server is silent the last addresses are used") {
  AgentProcess agent(Named("app.test:8000", {"app.test=127.0.0.1"},
                           {"--connect-timeout", "2s", "--gateway-threads", "1"}));
  WaitUntilUp(agent);
  CheckServes(agent);
  agent.SignalProgram("nameserver", SIGUSR1);
  // New connections, until the answer is too old and its servers have been waited for in vain.
  agent.WaitUntil("a name server that is missed", [&] {
    CHECK(agent.Get(kDataPort, kClosing).status == 200);
    return agent.Count("upstream.name", {{"reason", "timed_out"}}) == 1;
  });
  CheckServes(agent);
  agent.SignalProgram("nameserver", SIGUSR2);
  agent.WaitUntil("the name server to be found again", [&] {
    CHECK(agent.Get(kDataPort, kClosing).status == 200);
    return agent.Count("upstream.name", {{"reason", "found"}}) == 1;
  });
  CheckServes(agent);
}

TEST_CASE("a reload reads the hosts file and the name servers again") {
  AgentOptions options = Named("app.test:8000", {});
  options.replace["/etc/hosts"] = "127.0.0.2 app.test\n";
  AgentProcess agent(options);
  // An address of this host: so its port is waited for.
  WaitUntilUp(agent);
  CHECK(agent.Get(kDataPort, "/small?x").status == 502);
  REQUIRE(agent.Run({"/bin/sh", "-c", "echo 127.0.0.1 app.test > /etc/hosts"}).code == 0);
  CHECK(agent.Get(kDataPort, "/small?x").status == 502);
  CHECK(agent.Run({"modal-agent", "reload"}).code == 0);
  agent.WaitUntil("the new address to be used",
                  [&] { return agent.Get(kDataPort, "/small?x").status == 200; });
  CHECK(agent.Count("gateway.exit") == 0);
}

TEST_CASE("a gateway that ends and is replaced finds the server again") {
  AgentProcess agent(Named("app.test:8000", {"app.test=127.0.0.1"}));
  WaitUntilUp(agent);
  CheckServes(agent);
  agent.SignalInside(RunningGateway(agent).value(), SIGKILL);
  agent.WaitFor("gateway.start", {}, 2);
  agent.WaitUntil("an answer through the gateway",
                  [&] { return agent.Get(kDataPort, "/small?x").status == 200; });
}

TEST_CASE("an upstream that is neither address nor name is refused at the start") {
  AgentProcess agent(With({"--listen", "8080", "--upstream", "10.0.0:80", "--", kOrigin}));
  CHECK(agent.WaitForExit() == 125);
  CHECK(Contains(agent.error_output(),
                 "'10.0.0' is neither an address nor a name; write 10.0.0.5:8000 or "
                 "app.internal:8000"));
}

}  // namespace
}  // namespace modal::test

// From the exec of the agent to "ready": every kind of COMMAND, and what a COMMAND's end means.
#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include "tests/support/agent_process.h"

namespace modal::test {
namespace {

std::vector<std::string> PhasesOf(const AgentProcess& agent) {
  std::vector<std::string> phases;
  for (const LogEvent& event : agent.log()) {
    // With snapshots they come after a restore, without they are where it begins.
    const bool begins = event["to"] == "StartupHooks";
    if (event.name == "lifecycle.phase" && !begins) phases.push_back(event["to"]);
  }
  return phases;
}

bool IsInstalled(const char* name) {
  for (const char* folder : {"/usr/local/bin/", "/usr/bin/", "/bin/"}) {
    if (::access((std::string(folder) + name).c_str(), X_OK) == 0) return true;
  }
  return false;
}

TEST_CASE("a server is carried from its start to its stop, phase by phase") {
  AgentProcess agent(With({kListener}));
  agent.WaitFor("lifecycle.ready");
  CHECK(agent.Find("agent.start")["process_1"] == "true");
  CHECK(agent.Find("port.open")["address"] == "0.0.0.0:8000");
  CHECK(agent.Get(8000, "/").body == "hello\n");

  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  CHECK(PhasesOf(agent) == std::vector<std::string>{"Launching", "WaitingForPort", "Serving",
                                                    "Draining", "Stopping", "Stopped"});
  CHECK(Contains(agent.Find("lifecycle.stop")["by"], "SIGTERM"));
  CHECK(agent.Find("agent.exit")["code"] == "0");
  CHECK(agent.CountReports("listener exit 0") == 1);
  CHECK_FALSE(agent.ProgramsLeft());
}

TEST_CASE("the same beside process 1, with `run`") {
  AgentOptions options = With({"run", "--", kListener});
  options.process_1 = false;
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
  CHECK(agent.Find("agent.start")["process_1"] == "false");
  CHECK(agent.Get(8000, "/").body == "hello\n");
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.CountReports("listener exit 0") == 1);
  agent.WaitUntilNobodyIsLeft();
}

TEST_CASE("another port than 8000 is told to the workload as PORT") {
  AgentProcess agent(With({"--port", "9123", "--", kListener}));
  CHECK(agent.WaitFor("port.open")["address"] == "0.0.0.0:9123");
  CHECK(agent.Get(9123, "/").status == 200);
}

TEST_CASE("PORT in the environment is the port") {
  AgentOptions options = With({kListener});
  options.environment = {"PORT=9124"};
  AgentProcess agent(std::move(options));
  CHECK(agent.WaitFor("port.open")["address"] == "0.0.0.0:9124");
}

TEST_CASE("what the workload writes passes untouched, on either stream") {
  AgentProcess agent(With({"--", "sh", "-c", "printf 'one\\ntwo'; printf 'three\\n' >&2"}));
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.output() == "one\ntwo");
  CHECK(Contains(agent.error_output(), "three\n"));
}

TEST_CASE("everything after the first word that is no option is COMMAND, untouched") {
  AgentProcess agent(With(
      {"--port", "8000", "sh", "-c", "echo \"$0 $*\"", "a  b", "--port", "-x", "--", "health"}));
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.output() == "a  b --port -x -- health\n");
}

TEST_CASE("every exit code of the workload is the agent's") {
  for (int code = 0; code <= 255; ++code) {
    AgentProcess agent(With({"--admin", "off", "--", kEnding, "code", std::to_string(code)}));
    REQUIRE(agent.WaitForExit() == code);
  }
}

TEST_CASE("a workload killed by signal n gives 128 + n") {
  std::vector<int> signals = {SIGHUP,  SIGINT,  SIGQUIT, SIGILL,  SIGTRAP, SIGABRT,  SIGBUS,
                              SIGFPE,  SIGKILL, SIGUSR1, SIGSEGV, SIGUSR2, SIGPIPE,  SIGALRM,
                              SIGTERM, SIGIO,   SIGXCPU, SIGXFSZ, SIGSYS,  SIGRTMIN, SIGRTMAX};
  for (const int number : signals) {
    AgentProcess agent(With({"--admin", "off", "--", kEnding, "signal", std::to_string(number)}));
    REQUIRE(agent.WaitForExit() == 128 + number);
  }
}

TEST_CASE("a COMMAND that does not exist gives 127, and says so") {
  for (const char* command : {"no-such-program", "/mnt/no-such-program", "./no-such-program"}) {
    AgentProcess agent(With({"--", command}));
    REQUIRE(agent.WaitForExit() == 127);
    CHECK(Contains(agent.Find("agent.error")["message"], "no-such-program"));
  }
}

TEST_CASE("a COMMAND that cannot be executed gives 126, and says so") {
  std::string command;
  SUBCASE("no permission") { command = "/mnt/plain-file"; }
  SUBCASE("a directory") { command = "/mnt"; }
  SUBCASE("a program of no known format") { command = "/mnt/garbage"; }
  SUBCASE("a script whose interpreter is not executable") { command = "/mnt/bad-script"; }
  AgentOptions options = With({"--", command});
  options.files = {{"plain-file", "#!/bin/sh\n", 0644},
                   {"garbage", std::string("\0\1\2\3garbage", 11), 0755},
                   {"bad-script", "#!/mnt/plain-file\n", 0755}};
  AgentProcess agent(std::move(options));
  CHECK(agent.WaitForExit() == 126);
  CHECK(Contains(agent.Find("agent.error")["message"], command));
}

TEST_CASE("a workload that ends before it is ready ends the container with its code") {
  AgentProcess agent(With({"--on-exit", "touch /mnt/handler-ran", "--", kEnding, "code", "9"}));
  CHECK(agent.WaitForExit() == 9);
  CHECK(agent.FileExists("handler-ran"));
  CHECK(Contains(agent.Find("lifecycle.stop")["by"], "workload"));
}

TEST_CASE("a workload that ends after it was ready ends the container with its code") {
  AgentProcess agent(
      With({"--on-exit", "touch /mnt/handler-ran", "--", kListener, "--on", "USR1=exit:5"}));
  agent.WaitFor("lifecycle.ready");
  agent.Signal(SIGUSR1);
  CHECK(agent.WaitForExit() == 5);
  CHECK(agent.FileExists("handler-ran"));
  CHECK(Contains(agent.Find("lifecycle.stop")["by"], "workload"));
}

TEST_CASE("without COMMAND the server may be started by a startup hook") {
  AgentProcess agent(
      With({"--on-enter", std::string(kDaemonise) + " " + kListener, "--exit-grace-period", "0"}));
  agent.WaitFor("lifecycle.ready");
  CHECK(agent.Count("workload.start") == 0);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.CountReports("listener signal TERM") == 1);
  CHECK(agent.CountReports("listener exit 0") == 1);
}

TEST_CASE("without COMMAND and hooks the agent attaches to whatever listens on the port") {
  AgentOptions options = With({});
  options.taken_ports = {8000};
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("a server that makes itself a daemon is waited for, followed, and stopped") {
  AgentProcess agent(With({"--", kDaemonise, kListener, "--on", "USR1=exit:7"}));
  agent.WaitFor("lifecycle.ready");
  agent.WaitFor("workload.exit", {{"status", "exit code 0"}});
  agent.WaitFor("workload.daemonised");
  CHECK(agent.Get(8000, "/").status == 200);

  SUBCASE("it is told to end") {
    agent.Signal(SIGTERM);
    CHECK(agent.WaitForExit() == 0);
    CHECK(agent.CountReports("listener signal TERM") == 1);
  }
  SUBCASE("it ends by itself, and its exit code is the container's") {
    agent.SignalProgram("listener", SIGUSR1);
    CHECK(agent.WaitForExit() == 7);
  }
}

TEST_CASE("with --restart on-failure a workload that fails is started again") {
  AgentProcess agent(With(
      {"--restart", "on-failure", "--", kListener, "--on", "USR1=exit:3", "--on", "USR2=exit:0"}));
  agent.WaitForPhase("Serving");
  agent.Signal(SIGUSR1);
  agent.WaitFor("workload.exit", {{"status", "exit code 3"}});
  agent.WaitForPhase("Serving", 2);
  CHECK(agent.Count("workload.start") == 2);
  agent.WaitUntil("one restart in the status", [&] {
    return Contains(agent.Run({"modal-agent", "status", "--json"}).output, "\"restarts\":1");
  });

  SUBCASE("and a second time") {
    agent.SignalProgram("listener", SIGUSR1);
    agent.WaitForPhase("Serving", 3);
    agent.Signal(SIGTERM);
    CHECK(agent.WaitForExit() == 0);
  }
  SUBCASE("but not one that ends well") {
    agent.SignalProgram("listener", SIGUSR2);
    CHECK(agent.WaitForExit() == 0);
    CHECK(agent.Count("workload.start") == 2);
  }
}

TEST_CASE("a stop while a restart is awaited ends the container at once") {
  AgentProcess agent(With({"--restart", "on-failure", "--", kEnding, "code", "3"}));
  // The pause has doubled twice by then.
  agent.WaitFor("workload.restart", {}, 3);
  agent.Signal(SIGTERM);
  agent.WaitForExit();
  CHECK(agent.Count("lifecycle.stop") == 1);
  CHECK(Contains(agent.Find("lifecycle.stop")["by"], "SIGTERM"));
}

TEST_CASE("COMMAND may be python") {
  AgentProcess agent(With({"--startup-timeout", "40", "--", "/usr/bin/python3", "-m", "http.server",
                           "--directory", "/mnt", "8000"}));
  agent.WaitFor("lifecycle.ready");
  CHECK(agent.Get(8000, "/").status == 200);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 128 + SIGTERM);
  CHECK(agent.Count("stop.kill") == 0);
}

TEST_CASE("COMMAND may be a shell that runs the server in the background") {
  AgentProcess agent(With({"--", "sh", "-c", "/mnt/bin/listener & wait"}));
  agent.WaitFor("lifecycle.ready");
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 128 + SIGTERM);
  CHECK(agent.CountReports("listener signal TERM") == 1);
  CHECK(agent.CountReports("listener exit 0") == 1);
  CHECK(agent.Count("stop.kill") == 0);
}

TEST_CASE("COMMAND may be a shell wrapper that swallows SIGTERM") {
  std::string script;
  SUBCASE("in its own group") { script = "trap : TERM; /mnt/bin/listener & wait; wait"; }
  SUBCASE("the server in a session of its own") {
    script = "trap : TERM; setsid /mnt/bin/listener & wait; wait";
  }
  AgentProcess agent(With({"--", "sh", "-c", script}));
  agent.WaitFor("lifecycle.ready");
  agent.Signal(SIGTERM);
  agent.WaitForExit();
  CHECK(agent.CountReports("listener signal TERM") == 1);
  CHECK(agent.CountReports("listener exit 0") == 1);
  CHECK(agent.Count("stop.kill") == 0);
}

TEST_CASE("COMMAND may be npm" * doctest::skip(!IsInstalled("npm"))) {
  AgentOptions options =
      With({"--startup-timeout", "40", "--workdir", "/mnt/app", "--", "npm", "start"});
  options.environment = {"HOME=/tmp", "NO_UPDATE_NOTIFIER=1"};
  options.files = {
      {"app/package.json",
       R"({"name":"app","version":"1.0.0","scripts":{"start":"node server.js"}})", 0644},
      {"app/server.js",
       "const server = require('http').createServer((request, response) => response.end('hi'));\n"
       "server.listen(Number(process.env.PORT));\n"
       "process.on('SIGTERM', () => {\n"
       "  require('fs').writeFileSync('/mnt/ended-in-order', '');\n"
       "  process.exit(0);\n"
       "});\n",
       0644}};
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
  CHECK(agent.Get(8000, "/").body == "hi");
  agent.Signal(SIGTERM);
  agent.WaitForExit();
  CHECK(agent.FileExists("ended-in-order"));
  CHECK(agent.Count("stop.kill") == 0);
}

}  // namespace
}  // namespace modal::test

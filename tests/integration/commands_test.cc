// The subcommands that talk to a running agent, or say what the agent would do.
#include <doctest/doctest.h>
#include <signal.h>

#include "tests/support/agent_process.h"

namespace modal::test {
namespace {

TEST_CASE("`health` is 0 for a healthy server and 1 for any other") {
  AgentProcess agent(
      With({"--startup-timeout", "1000", "--", kListener, "--wait", "--on", "USR1=listen"}));
  agent.WaitForReportStartingWith("listener start");
  RunResult health;
  agent.WaitUntil("the control socket", [&] {
    health = agent.Run({"modal-agent", "health"});
    return Contains(health.output, "WaitingForPort");
  });
  CHECK(health.code == 1);
  agent.Signal(SIGUSR1);
  agent.WaitFor("lifecycle.ready");
  health = agent.Run({"modal-agent", "health"});
  INFO(health.output);
  CHECK(health.code == 0);
}

TEST_CASE("`status` tells people and programs where the agent is") {
  AgentProcess agent(With({kListener}));
  agent.WaitFor("lifecycle.ready");
  RunResult text;
  agent.WaitUntil("the control socket", [&] {
    text = agent.Run({"modal-agent", "status"});
    return text.code == 0;
  });
  CHECK(Contains(text.output, "Serving"));
  CHECK(Contains(text.output, "8000"));
  const RunResult json = agent.Run({"modal-agent", "status", "--json"});
  CHECK(json.code == 0);
  CHECK(Contains(json.output, "\"phase\":\"Serving\""));
  CHECK(Contains(json.output, "\"listening\":\"0.0.0.0:8000\""));
}

// The asking program stays outside of the PID namespace, where a stop would end it, too. There
// /proc is not its own, without which the sanitizers do not start.
TEST_CASE("`status` says after the stop was asked for by whom and why" *
          doctest::skip(Settings().sanitized)) {
  AgentProcess agent(With({kListener, "--on", "TERM=none"}));
  agent.WaitFor("lifecycle.ready");
  agent.Signal(SIGTERM);
  agent.WaitForReport("listener signal TERM");
  RunResult json;
  agent.WaitUntil("the control socket", [&] {
    json = agent.RunUnseen({"modal-agent", "status", "--json"});
    return json.code == 0;
  });
  CHECK(Contains(json.output, "\"phase\":\"Stopping\""));
  CHECK(Contains(json.output, "\"stop_by\":\"SIGTERM"));
}

TEST_CASE("`drain` makes the container not ready, and leaves it up until it is stopped") {
  AgentProcess agent(With({kListener}));
  agent.WaitFor("lifecycle.ready");
  agent.WaitUntil("readiness", [&] { return agent.Get(8001, "/readyz").status == 200; });
  RunResult drain;
  agent.WaitUntil("the control socket", [&] {
    drain = agent.Run({"modal-agent", "drain"});
    return drain.code == 0;
  });
  CHECK(Contains(drain.output, "until it is stopped"));
  CHECK(agent.Get(8001, "/readyz").status == 503);
  CHECK(agent.Get(8001, "/livez").status == 200);
  CHECK(agent.Get(8000, "/").status == 200);
  CHECK(
      Contains(agent.Run({"modal-agent", "status", "--json"}).output, "\"drain_requested\":true"));
  CHECK(agent.Count("lifecycle.stop") == 0);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("`drain` before the server is ready keeps it from becoming ready") {
  AgentProcess agent(
      With({"--startup-timeout", "1000", "--", kListener, "--wait", "--on", "USR1=listen"}));
  agent.WaitForReportStartingWith("listener start");
  agent.WaitUntil("the control socket", [&] {
    return agent.Run({"modal-agent", "drain"}).code == 0;
  });
  agent.Signal(SIGUSR1);
  agent.WaitForPhase("Serving");
  CHECK(agent.Get(8001, "/startupz").status == 200);
  CHECK(agent.Get(8001, "/readyz").status == 503);
}

TEST_CASE("`reload` reads the configuration again and sends no signal") {
  AgentOptions options = With({"--config", "/mnt/agent.conf", "--", kListener});
  options.files = {{"agent.conf", "stop-timeout = 7\n", 0644}};
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
  agent.WriteFile("agent.conf", "stop-timeout = 1\nexit-grace-period = 1\nport = 9000\n");
  RunResult changed;
  agent.WaitUntil("the control socket", [&] {
    changed = agent.Run({"modal-agent", "reload"});
    return changed.code == 0;
  });
  CHECK(Contains(changed.output, "changed: exit-grace-period, stop-timeout\n"));
  CHECK(Contains(changed.output, "waiting for the next start: port\n"));
  CHECK(agent.WaitFor("config.waiting")["settings"] == "port");

  agent.WriteFile("agent.conf", "stop-timeout = 1\nnonsense\n");
  const RunResult damaged = agent.Run({"modal-agent", "reload"});
  CHECK(damaged.code == 1);
  CHECK(Contains(damaged.output, "/mnt/agent.conf:2"));

  CHECK(agent.CountReports("listener signal HUP") == 0);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.Find("lifecycle.stop")["longest_ms"] == "2000");
}

TEST_CASE("without an agent the subcommands say so") {
  AgentProcess agent(With({"--control", "/mnt/elsewhere.sock", "--", kListener}));
  agent.WaitFor("lifecycle.ready");
  for (const char* command : {"health", "status", "drain", "reload"}) {
    const RunResult result = agent.Run({"modal-agent", command});
    INFO(command, ": ", result.output);
    CHECK(result.code == 1);
    CHECK_FALSE(result.output.empty());
  }
  agent.WaitUntil("the control socket", [&] {
    return agent.Run({"modal-agent", "status", "--control", "/mnt/elsewhere.sock"}).code == 0;
  });
}

TEST_CASE("`health` and `status` give up after --health-timeout on an agent that is stopped") {
  AgentOptions options = With({"--control", "/mnt/control.sock", "--", kListener});
  options.process_1 = false;
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
  agent.WaitUntil("the control socket", [&] { return agent.FileExists("control.sock"); });
  agent.Signal(SIGSTOP);
  agent.WaitUntil("the agent to be stopped",
                  [&] { return agent.Processes("/mnt/modal-agent").at(0).state == 'T'; });
  for (const char* command : {"health", "status"}) {
    const RunResult result = agent.Run(
        {"modal-agent", command, "--control", "/mnt/control.sock", "--health-timeout", "20ms"});
    INFO(command, ": ", result.output);
    CHECK(result.code == 1);
    CHECK(Contains(result.output, "gave no answer within 20 ms: is the agent stopped?"));
  }
  agent.Signal(SIGCONT);
  CHECK(agent.Run({"modal-agent", "health", "--control", "/mnt/control.sock"}).code == 0);
}

TEST_CASE("the control socket is its owner's alone") {
  AgentProcess agent(With({"--control", "/mnt/control.sock", "--", kListener}));
  agent.WaitUntil("the control socket", [&] { return agent.FileExists("control.sock"); });
  CHECK(agent.Run({"stat", "-c", "%a", "/mnt/control.sock"}).output == "600\n");
  const RunResult other =
      agent.Run({"setpriv", "--reuid", "12345", "--clear-groups", "/mnt/modal-agent", "drain",
                 "--control", "/mnt/control.sock"});
  CHECK(other.code == 1);
  CHECK(agent.Count("lifecycle.drain_requested") == 0);
}

TEST_CASE("garbage on the control socket harms nobody") {
  AgentProcess agent(With({"--control", "/mnt/control.sock", "--", kListener}));
  agent.WaitFor("lifecycle.ready");
  agent.WaitUntil("the control socket", [&] { return agent.FileExists("control.sock"); });
  const std::string script =
      "import socket, sys\n"
      "for text in (b'', b'\\0' * 100000, b'no such command\\n', b'status', b'status\\n' * 1000):\n"
      "    s = socket.socket(socket.AF_UNIX)\n"
      "    s.connect('/mnt/control.sock')\n"
      "    try:\n"
      "        s.sendall(text)\n"
      "        s.shutdown(socket.SHUT_WR)\n"
      "        while s.recv(65536): pass\n"
      "    except OSError: pass\n"
      "held = [socket.socket(socket.AF_UNIX) for _ in range(200)]\n"
      "for s in held:\n"
      "    s.settimeout(1)\n"
      "    try: s.connect('/mnt/control.sock')\n"
      "    except OSError: break\n";
  const RunResult result = agent.Run({"/usr/bin/python3", "-c", script});
  INFO(result.output);
  CHECK(result.code == 0);
  agent.WaitUntil("an answer", [&] {
    return agent.Run({"modal-agent", "status", "--control", "/mnt/control.sock"}).code == 0;
  });
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("`version`, `config` and `check` need no agent") {
  SUBCASE("version") {
    AgentProcess agent(With({"version"}));
    CHECK(agent.WaitForExit() == 0);
    CHECK(Contains(agent.output(), "modal-agent"));
  }
  SUBCASE("config") {
    AgentOptions options = With({"config", "--port", "9000", "--config", "/mnt/agent.conf"});
    options.environment = {"MODAL_AGENT_STOP_TIMEOUT=7"};
    options.files = {{"agent.conf", "drain-delay = 3\n", 0644}};
    AgentProcess agent(std::move(options));
    CHECK(agent.WaitForExit() == 0);
    const auto line_has = [&](const std::string& name, const std::string& value,
                              const std::string& origin) {
      size_t at = 0;
      const std::string text = "\n" + agent.output();
      while ((at = text.find("\n" + name + " ", at)) != std::string::npos) {
        const std::string line = text.substr(at + 1, text.find('\n', at + 1) - at - 1);
        if (Contains(line, value) && Contains(line, origin)) return true;
        ++at;
      }
      return false;
    };
    INFO(agent.output());
    CHECK(line_has("port", "9000", "flag"));
    CHECK(line_has("stop-timeout", "7", "MODAL_AGENT_STOP_TIMEOUT"));
    CHECK(line_has("drain-delay", "3", "/mnt/agent.conf:1"));
    CHECK(line_has("health-threshold", "3", "default"));
  }
  SUBCASE("check") {
    AgentProcess agent(With({"check"}));
    CHECK(agent.WaitForExit() == 0);
    CHECK(Contains(agent.output(), "process 1"));
    CHECK(Contains(agent.output(), "seccomp"));
  }
  SUBCASE("--help") {
    AgentProcess agent(With({"--help"}));
    CHECK(agent.WaitForExit() == 0);
    CHECK(Contains(agent.output(), "--startup-timeout"));
    CHECK(Contains(agent.output(), "health"));
  }
}

TEST_CASE("a word equal to a subcommand is COMMAND when it stands elsewhere") {
  AgentProcess agent(With({"--control", "/mnt/x.sock", "--env", "PASSWORD=secret", "status"}));
  CHECK(agent.WaitForExit() == 127);
  const std::string message = agent.Find("agent.error")["message"];
  CHECK(Contains(message,
                 "; to run the subcommand put it first: modal-agent status --control /mnt/x.sock"));
  CHECK_FALSE(Contains(message, "secret"));
}

}  // namespace
}  // namespace modal::test

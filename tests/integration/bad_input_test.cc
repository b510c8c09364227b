// Wrong flags, values and files: a clear error, exit code 125, and nothing is started.
#include <doctest/doctest.h>
#include <signal.h>

#include "tests/support/agent_process.h"

namespace modal::test {
namespace {

// Starts it, expects 125 and a message with these words.
void CheckRefused(AgentOptions options, const std::vector<std::string>& words) {
  AgentProcess agent(std::move(options));
  CHECK(agent.WaitForExit() == 125);
  for (const std::string& word : words) {
    INFO("expected in the message: ", word);
    CHECK(Contains(agent.error_output(), word));
  }
  CHECK(agent.reports().empty());
}

TEST_CASE("an unknown flag is refused, and the nearest one is named") {
  CheckRefused(With({"--startup-timeuot", "5", "--", kListener}),
               {"--startup-timeuot", "--startup-timeout"});
}

TEST_CASE("an unknown flag that resembles none is refused") {
  CheckRefused(With({"--xyzzy", "--", kListener}), {"--xyzzy"});
}

TEST_CASE("bad values are refused, with the flag's name and the value") {
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"--startup-timeout", "soon"},
      {"--startup-timeout", "5 parsecs"},
      {"--startup-timeout", "-1"},
      {"--startup-timeout", "99999999999999999999"},
      {"--stop-timeout", ""},
      {"--port", "0"},
      {"--port", "65536"},
      {"--port", "http"},
      {"--port", "-8000"},
      {"--port", "8000x"},
      {"--admin", "somewhere:8001"},
      {"--admin", "8001:8002"},
      {"--admin", "1.2.3.4.5:80"},
      {"--health-threshold", "0"},
      {"--health-threshold", "many"},
      {"--health-path", "no-slash"},
      {"--restart", "always"},
      {"--stop-signal", "SIGNOTHING"},
      {"--log-format", "xml"},
      {"--rlimit", "nofile"},
      {"--rlimit", "nonsense=5"},
      {"--cap-keep", "CAP_NOTHING"},
      {"--workdir", "/mnt/missing"},
      {"--success-exit-codes", "256"}};
  for (const auto& row : bad) {
    const auto& [flag, value] = row;
    INFO(row.first, " ", row.second);
    AgentProcess agent(With({flag, value, "--", kListener}));
    CHECK(agent.WaitForExit() == 125);
    CHECK(Contains(agent.error_output(), flag));
    if (!value.empty()) CHECK(Contains(agent.error_output(), value));
    CHECK(agent.reports().empty());
  }
}

TEST_CASE("a flag without its value is refused") { CheckRefused(With({"--port"}), {"--port"}); }

TEST_CASE("a bad value in the environment is refused, with the variable's name") {
  AgentOptions options = With({kListener});
  options.environment = {"MODAL_AGENT_STARTUP_TIMEOUT=soon"};
  CheckRefused(std::move(options), {"MODAL_AGENT_STARTUP_TIMEOUT", "soon"});
}

TEST_CASE("what Kubernetes injects for a service of our name is ignored, with a warning") {
  AgentOptions options = With({kListener});
  options.environment = {"MODAL_AGENT_PORT=tcp://10.0.0.1:80",
                         "MODAL_AGENT_PORT_80_TCP=tcp://10.0.0.1:80",
                         "MODAL_AGENT_PORT_80_TCP_ADDR=10.0.0.1",
                         "MODAL_AGENT_SERVICE_HOST=10.0.0.1", "MODAL_AGENT_SERVICE_PORT=80"};
  AgentProcess agent(std::move(options));
  CHECK(agent.WaitFor("port.open")["address"] == "0.0.0.0:8000");
  CHECK(Contains(agent.Find("config.warning")["message"], "MODAL_AGENT_PORT"));
}

TEST_CASE("a config file that is missing, unreadable or damaged is refused, with file and line") {
  AgentOptions options = With({"--config", "/mnt/agent.conf", "--", kListener});
  SUBCASE("missing") { CheckRefused(options, {"/mnt/agent.conf"}); }
  SUBCASE("a directory") {
    options.files = {{"agent.conf/file", ""}};
    CheckRefused(options, {"/mnt/agent.conf"});
  }
  SUBCASE("unreadable") {
    options.files = {{"agent.conf", "port = 9000\n", 0}};
    options.uid = 54323;
    CheckRefused(options, {"/mnt/agent.conf", "ermission"});
  }
  SUBCASE("no setting") {
    options.files = {{"agent.conf", "# a comment\n\nport 9000\n", 0644}};
    CheckRefused(options, {"/mnt/agent.conf:3"});
  }
  SUBCASE("an unknown key") {
    options.files = {{"agent.conf", "port = 9000\nstartup-timeuot = 5\n", 0644}};
    CheckRefused(options, {"/mnt/agent.conf:2", "startup-timeout"});
  }
  SUBCASE("a bad value") {
    options.files = {{"agent.conf", "\nport = 70000\n", 0644}};
    CheckRefused(options, {"/mnt/agent.conf:2", "70000"});
  }
  SUBCASE("binary") {
    options.files = {{"agent.conf", std::string("\0\1\2\n\xff\xfe", 6), 0644}};
    CheckRefused(options, {"/mnt/agent.conf"});
  }
}

TEST_CASE("an env file that is missing or damaged is refused, with file and line") {
  AgentOptions options = With({"--env-file", "/mnt/server.env", "--", kListener});
  SUBCASE("missing") { CheckRefused(options, {"/mnt/server.env"}); }
  SUBCASE("a line without a name") {
    options.files = {{"server.env", "GOOD=1\n=bad\n", 0644}};
    CheckRefused(options, {"/mnt/server.env:2"});
  }
}

TEST_CASE("an unknown user or group is refused, and the nearest one is named") {
  SUBCASE("user") { CheckRefused(With({"--user", "nobdy", "--", kListener}), {"nobdy", "nobody"}); }
  SUBCASE("group") {
    CheckRefused(With({"--group", "no-such-group", "--", kListener}), {"no-such-group"});
  }
}

TEST_CASE("a bad seccomp profile is refused, with the file's name") {
  AgentOptions options = With({"--seccomp-profile", "/mnt/profile.json", "--", kListener});
  SUBCASE("missing") { CheckRefused(options, {"/mnt/profile.json"}); }
  SUBCASE("no JSON") {
    options.files = {{"profile.json", "{ nonsense", 0644}};
    CheckRefused(options, {"/mnt/profile.json"});
  }
  SUBCASE("an unknown action") {
    options.files = {{"profile.json", R"({"defaultAction":"SCMP_ACT_MAYBE"})", 0644}};
    CheckRefused(options, {"/mnt/profile.json", "SCMP_ACT_MAYBE"});
  }
}

TEST_CASE("a good seccomp profile holds for the workload") {
  AgentOptions options =
      With({"--seccomp-profile", "/mnt/profile.json", "--", "sh", "-c", "mkdir /tmp/x; echo $?"});
  options.files = {{"profile.json",
                    R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],)"
                    R"("action":"SCMP_ACT_ERRNO","errnoRet":13}]})",
                    0644}};
  AgentProcess agent(std::move(options));
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.output() == "1\n");
  CHECK(Contains(agent.error_output(), "Permission denied"));
}

TEST_CASE("the default seccomp profile lets an ordinary server run") {
  AgentProcess agent(With({"--seccomp-profile", "default", "--", kListener}));
  agent.WaitFor("lifecycle.ready");
  CHECK(agent.Get(8000, "/").status == 200);
}

TEST_CASE("`run` without a COMMAND is refused") { CheckRefused(With({"run"}), {"COMMAND"}); }

}  // namespace
}  // namespace modal::test

#include "agent/config.h"

#include <doctest/doctest.h>

#include "tests/unit/agent/command_line.h"

namespace modal {
namespace {

using test::CommandLine;
using Words = std::vector<std::string>;

constexpr const char* kDefaultFile = "etc/modal-agent/config";

bool Contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

// The line of `modal-agent config` about `name`, without the blanks between value and origin.
std::string LineOf(const std::string& report, const std::string& name) {
  for (const char* prefix : {"\n", "\n# "}) {
    const size_t at = report.find(prefix + name + " =");
    if (at == std::string::npos) continue;
    std::string line = report.substr(at + 1, report.find('\n', at + 1) - at - 1);
    for (size_t gap; (gap = line.find("  ")) != std::string::npos;) line.erase(gap, 1);
    return line;
  }
  return "";
}

TEST_CASE("a flag counts over the environment, that over the file, that over the default") {
  const auto port = [](Words words, const char* variable, const char* file) {
    CommandLine line(std::move(words));
    if (variable) line.With(variable);
    if (file) line.WithFile(kDefaultFile, file);
    return line.Parsed().options.port;
  };
  CHECK(port({"--port", "1"}, "MODAL_AGENT_PORT=2", "port = 3") == 1);
  CHECK(port({}, "MODAL_AGENT_PORT=2", "port = 3") == 2);
  CHECK(port({}, nullptr, "port = 3") == 3);
  CHECK(port({}, nullptr, nullptr) == 8000);
}

TEST_CASE("$PORT is the default of --port, and no more") {
  CHECK(CommandLine().With("PORT=9000").Parsed().options.port == 9000);
  CHECK(CommandLine({"--port", "1"}).With("PORT=9000").Parsed().options.port == 1);
  CHECK(CommandLine().With("PORT=9000").With("MODAL_AGENT_PORT=2").Parsed().options.port == 2);
  CHECK(CommandLine().With("PORT=").Parsed().options.port == 8000);
  CHECK(CommandLine().With("PORT=web").Error() ==
        "PORT=web: not a port; a number from 1 to 65535 is expected");
  CHECK(CommandLine({"--port", "1"}).With("PORT=web").Error().empty());
}

TEST_CASE("a repeatable setting is taken from one place as a whole") {
  CommandLine both({"--on-enter", "flag"});
  both.With("MODAL_AGENT_ON_ENTER=variable").WithFile(kDefaultFile, "on-enter = file");
  CHECK(both.Parsed().options.on_enter == Words{"flag"});
  CommandLine file;
  file.WithFile(kDefaultFile, "on-enter = one\nport = 1\non-enter = two");
  CHECK(file.Parsed().options.on_enter == Words{"one", "two"});
}

TEST_CASE("in a variable, several values stand on lines of their own") {
  CHECK(CommandLine().With("MODAL_AGENT_ON_ENTER=one, two\n\n three\n").Parsed().options.on_enter ==
        Words{"one, two", "three"});
}

TEST_CASE("an empty flag takes back what is set below it, an empty variable is not there") {
  CommandLine line({"--health-path=", "--on-enter="});
  line.With("MODAL_AGENT_HEALTH_PATH=/up").With("MODAL_AGENT_ON_ENTER=x");
  CHECK(line.Parsed().options.health_path.empty());
  CHECK(line.Parsed().options.on_enter.empty());
  CHECK(CommandLine().With("MODAL_AGENT_PORT=").Parsed().options.port == 8000);
}

TEST_CASE("the default config file may be missing, one that was asked for may not") {
  test::TempFolder folder;
  const std::string file = folder.Write("my.conf", "port = 7\n");
  CHECK(CommandLine({"--config", file}).Parsed().options.port == 7);
  CHECK(CommandLine().With("MODAL_AGENT_CONFIG=" + file).Parsed().options.port == 7);
  CHECK(CommandLine({"--config", "/no/such"}).Error() ==
        "config file: /no/such: No such file or directory");
  CHECK(CommandLine().With("MODAL_AGENT_CONFIG=/no/such").Error() ==
        "config file: /no/such: No such file or directory");
  CHECK(CommandLine({"--config", folder.path()}).Error() ==
        "config file: " + folder.path() + ": Is a directory");
}

TEST_CASE("no config file is read when it is off") {
  CommandLine line({"--config", "off"});
  line.WithFile(kDefaultFile, "this is damaged");
  CHECK(line.Parsed().options.port == 8000);
}

TEST_CASE("a default config file that is there but damaged is an error, not nothing") {
  CommandLine line;
  line.WithFile(kDefaultFile, "port = 1\nstop-timout = 2\n");
  CHECK(line.Error() ==
        "ROOT/etc/modal-agent/config:2: unknown setting 'stop-timout'; did you mean stop-timeout?");
}

TEST_CASE("errors of the config file name file, line and key") {
  const auto error = [](std::string_view content) {
    CommandLine line;
    line.WithFile(kDefaultFile, content);
    return line.Error();
  };
  const std::string file = "ROOT/etc/modal-agent/config";
  CHECK(error("\nstartup-timeout = 5x") ==
        file + ":2: startup-timeout = 5x: not a duration; write 5, 5s, 250ms or 2m");
  CHECK(error("on-enter = a\non-enter = b\nrlimit = x").starts_with(file + ":3: rlimit = x: "));
  CHECK(error("port = 1\nport = 2") == file + ":2: port is set already in line 1");
  CHECK(error("config = /other") == file + ":1: a config file cannot name another one");
  CHECK(error("env = A B=secret").starts_with(file + ":1: env: the name holds a blank"));
  CHECK(error("port 1") == file + ":1: not of the form `key = value`");
  CHECK(error("health-interval =") ==
        file + ":1: health-interval: not a duration; write 5, 5s, 250ms or 2m");
}

TEST_CASE("errors of the environment name the variable") {
  CHECK(CommandLine().With("MODAL_AGENT_STARTUP_TIMEOUT=5x").Error() ==
        "MODAL_AGENT_STARTUP_TIMEOUT=5x: not a duration; write 5, 5s, 250ms or 2m");
  const std::string error = CommandLine().With("MODAL_AGENT_ENV=A B=secret").Error();
  CHECK(error.starts_with("MODAL_AGENT_ENV: the name holds a blank"));
}

TEST_CASE("a switch can be set from every place") {
  CHECK(CommandLine({"--no-new-privs"}).Parsed().options.no_new_privileges);
  CHECK(CommandLine().With("MODAL_AGENT_NO_NEW_PRIVS=1").Parsed().options.no_new_privileges);
  CommandLine file({"--no-new-privs=false"});
  file.WithFile(kDefaultFile, "no-new-privs = yes");
  CHECK_FALSE(file.Parsed().options.no_new_privileges);
}

TEST_CASE("the link of a Kubernetes service of our name is no port, and is said") {
  CommandLine line;
  line.With("MODAL_AGENT_PORT=tcp://10.0.0.1:80")
      .With("MODAL_AGENT_SERVICE_HOST=10.0.0.1")
      .With("MODAL_AGENT_PORT_80_TCP=tcp://10.0.0.1:80")
      .With("MODAL_AGENT_WEB_PORT=tcp://10.0.0.2:80");
  const Invocation invocation = line.Parsed();
  CHECK(invocation.options.port == 8000);
  REQUIRE(invocation.warnings.size() == 1);
  CHECK(Contains(invocation.warnings[0], "MODAL_AGENT_PORT=tcp://10.0.0.1:80 is ignored"));
}

TEST_CASE("an unknown variable of ours is a warning with the nearest, and its value stays unsaid") {
  const Invocation invocation =
      CommandLine().With("MODAL_AGENT_STARTUP_TIMOUT=secret").With("OTHER_PORT=1").Parsed();
  REQUIRE(invocation.warnings.size() == 1);
  CHECK(invocation.warnings[0] ==
        "MODAL_AGENT_STARTUP_TIMOUT is no setting and is ignored; did you mean "
        "MODAL_AGENT_STARTUP_TIMEOUT?");
  CHECK(CommandLine().With("MODAL_AGENT_XYZ=1").Parsed().warnings[0] ==
        "MODAL_AGENT_XYZ is no setting and is ignored");
}

TEST_CASE("`config` shows each value with its origin, and is a config file itself") {
  CommandLine line({"config", "--port", "9000", "--on-enter", "a # b"});
  line.With("MODAL_AGENT_STOP_TIMEOUT=9").WithFile(kDefaultFile, "\nlog-level = debug");
  const Invocation invocation = line.Parsed();
  CHECK(invocation.mode == Mode::kConfig);
  const std::string& report = invocation.text;
  CHECK(LineOf(report, "port") == "port = 9000 # flag");
  CHECK(LineOf(report, "on-enter") == "on-enter = \"a # b\" # flag");
  CHECK(LineOf(report, "stop-timeout") ==
        "stop-timeout = 9 # environment MODAL_AGENT_STOP_TIMEOUT");
  CHECK(LineOf(report, "log-level") ==
        "log-level = debug # " + line.root() + "/etc/modal-agent/config:2");
  CHECK(LineOf(report, "admin") == "admin = 0.0.0.0:8001 # default");
  CHECK(LineOf(report, "user") == "# user = # not set");
  CHECK(LineOf(CommandLine({"config"}).With("PORT=1").Parsed().text, "port") == "port = 1 # $PORT");

  CommandLine again({"config", "--config", line.root() + "/report"});
  test::TempFolder folder;
  const std::string saved = folder.Write("report", report);
  CHECK(CommandLine({"--config", saved}).Parsed().options.on_enter == Words{"a # b"});
  CHECK(CommandLine({"--config", saved}).Parsed().options.port == 9000);
}

TEST_CASE("`config` never shows the value of a variable for the workload") {
  for (const char* form : {"text", "json"}) {
    Words words{"config", "--env", "KEY=hunter2", "--env", "TAKEN"};
    if (form == std::string_view("json")) words.emplace_back("--json");
    const Invocation invocation = CommandLine(words).With("TAKEN=hunter2").Parsed();
    CHECK(Contains(invocation.text, "KEY=(not shown)"));
    CHECK(Contains(invocation.text, "TAKEN"));
    CHECK_FALSE(Contains(invocation.text, "hunter2"));
  }
}

TEST_CASE("`config --json` has the same for programs") {
  const std::string json = CommandLine({"config", "--json", "--port", "9"}).Parsed().text;
  CHECK(Contains(json, R"("port":{"values":["9"],"origin":"flag"})"));
  CHECK(Contains(json, R"("user":{"values":[],"origin":"not set"})"));
  CHECK(Contains(json, R"("file":null)"));
}

TEST_CASE("`config` refuses what the agent would refuse") {
  CHECK(CommandLine({"config", "--port", "0"}).Error() ==
        "--port 0: not a port; a number from 1 to 65535 is expected");
}

}  // namespace
}  // namespace modal

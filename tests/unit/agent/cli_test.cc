#include "agent/cli.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>

#include "agent/base/exit_status.h"
#include "tests/unit/agent/command_line.h"

namespace modal {
namespace {

using test::CommandLine;
using Words = std::vector<std::string>;

lifecycle::Options OptionsOf(Words words) { return CommandLine(std::move(words)).Parsed().options; }
std::string ErrorOf(Words words) { return CommandLine(std::move(words)).Error(); }

TEST_CASE("nothing but the name serves, with every default") {
  const Invocation invocation = CommandLine().Parsed();
  CHECK(invocation.mode == Mode::kServe);
  const lifecycle::Options& options = invocation.options;
  CHECK(options.command.empty());
  CHECK(options.port == 8000);
  REQUIRE(options.admin);
  CHECK(options.admin->address == "0.0.0.0");
  CHECK(options.admin->port == 8001);
  CHECK(options.admin_is_default);
  CHECK(options.control.empty());
  CHECK(options.on_enter.empty());
  CHECK(options.hooks_dir == "/etc/modal-agent/hooks.d");
  CHECK(options.hook_timeout == std::chrono::minutes(10));
  CHECK(options.startup_timeout == std::chrono::seconds(5));
  CHECK(options.health_path.empty());
  CHECK(options.health_interval == std::chrono::seconds(10));
  CHECK(options.health_timeout == std::chrono::seconds(2));
  CHECK(options.health_threshold == 3);
  CHECK(options.restart == lifecycle::Restart::kNo);
  CHECK(options.drain_delay == Milliseconds(0));
  CHECK(options.exit_grace_period == std::chrono::seconds(5));
  CHECK(options.stop_timeout == std::chrono::seconds(30));
  CHECK_FALSE(options.stop_budget);
  CHECK(options.stop_signal == SIGTERM);
  CHECK(options.success_exit_codes.empty());
  CHECK_FALSE(options.credentials);
  CHECK(options.environment == Words{"PORT=8000"});
  CHECK(options.limits.empty());
  CHECK_FALSE(options.no_new_privileges);
  CHECK_FALSE(options.capabilities);
  CHECK_FALSE(options.seccomp);
  CHECK_FALSE(options.is_local_run);
  CHECK(invocation.warnings.empty());
  CHECK(invocation.log_level == LogLevel::kInfo);
}

TEST_CASE("not even a name is needed") {
  Surroundings around;
  const char* const none[] = {nullptr};
  around.environment = none;
  around.root = "/nowhere";
  CHECK(ParseCommandLine(std::span<char* const>(), around).ok());
}

TEST_CASE("every option lands where it belongs") {
  test::TempFolder folder;
  const lifecycle::Options options = OptionsOf({"--port",
                                                "9000",
                                                "--admin",
                                                "[::1]:9001",
                                                "--control",
                                                "/c.sock",
                                                "--on-enter",
                                                "a b",
                                                "--on-enter",
                                                "c",
                                                "--on-exit",
                                                "d",
                                                "--hooks-dir",
                                                folder.path(),
                                                "--hook-timeout",
                                                "1m",
                                                "--startup-timeout",
                                                "5.5",
                                                "--health-path",
                                                "/up",
                                                "--health-interval",
                                                "250ms",
                                                "--health-timeout",
                                                "1",
                                                "--health-threshold",
                                                "5",
                                                "--restart",
                                                "on-failure",
                                                "--drain-delay",
                                                "2",
                                                "--exit-grace-period",
                                                "0",
                                                "--stop-timeout",
                                                "9",
                                                "--stop-budget",
                                                "10",
                                                "--stop-signal",
                                                "INT",
                                                "--success-exit-codes",
                                                "143,130",
                                                "--workdir",
                                                folder.path(),
                                                "--env",
                                                "A=1",
                                                "--rlimit",
                                                "nofile=100:200",
                                                "--no-new-privs",
                                                "--cap-keep",
                                                "KILL,CHOWN",
                                                "--",
                                                "./server",
                                                "-x"});
  CHECK(options.command == Words{"./server", "-x"});
  CHECK(options.port == 9000);
  CHECK(options.admin->address == "::1");
  CHECK(options.admin->port == 9001);
  CHECK_FALSE(options.admin_is_default);
  CHECK(options.control == "/c.sock");
  CHECK(options.on_enter == Words{"a b", "c"});
  CHECK(options.on_exit == Words{"d"});
  CHECK(options.hooks_dir == folder.path());
  CHECK(options.hook_timeout == std::chrono::minutes(1));
  CHECK(options.startup_timeout == Milliseconds(5500));
  CHECK(options.health_path == "/up");
  CHECK(options.health_interval == Milliseconds(250));
  CHECK(options.health_timeout == std::chrono::seconds(1));
  CHECK(options.health_threshold == 5);
  CHECK(options.restart == lifecycle::Restart::kOnFailure);
  CHECK(options.drain_delay == std::chrono::seconds(2));
  CHECK(options.exit_grace_period == Milliseconds(0));
  CHECK(options.stop_timeout == std::chrono::seconds(9));
  CHECK(*options.stop_budget == std::chrono::seconds(10));
  CHECK(options.stop_signal == SIGINT);
  CHECK(options.success_exit_codes == std::vector<int>{143, 130});
  CHECK(options.workdir == folder.path());
  CHECK(options.environment == Words{"A=1", "PORT=9000", "MODAL_AGENT_CONTROL=/c.sock"});
  REQUIRE(options.limits.size() == 1);
  CHECK(options.limits[0].limit.rlim_max == 200);
  CHECK(options.no_new_privileges);
  CHECK(*options.capabilities == ((1u << 5) | 1u));
}

TEST_CASE("a value stands after = or in the next word, and the last one counts") {
  CHECK(OptionsOf({"--port=1"}).port == 1);
  CHECK(OptionsOf({"--port=1", "--port", "2"}).port == 2);
  CHECK(OptionsOf({"--env=A=b=c"}).environment.front() == "A=b=c");
  CHECK(OptionsOf({"--on-enter=", "x"}).command == Words{"x"});
}

TEST_CASE("a repeatable option keeps its values in order, brackets and commas included") {
  CHECK(OptionsOf({"--on-enter", "[a,b]", "--port", "1", "--on-enter", "c,d", "--on-enter", "{}"})
            .on_enter == Words{"[a,b]", "c,d", "{}"});
  CHECK(
      OptionsOf({"--success-exit-codes", "1", "--success-exit-codes", "2,3"}).success_exit_codes ==
      std::vector<int>{1, 2, 3});
}

TEST_CASE("off switches off what can be") {
  CHECK_FALSE(OptionsOf({"--admin", "off"}).admin);
  CHECK(OptionsOf({"--hooks-dir", "off"}).hooks_dir.empty());
  CHECK_FALSE(OptionsOf({"--stop-budget", "off"}).stop_budget);
  CHECK_FALSE(OptionsOf({"--no-new-privs=off"}).no_new_privileges);
  CHECK_FALSE(OptionsOf({"--seccomp-profile", "unconfined"}).seccomp);
}

TEST_CASE("under run the admin endpoints are for this machine alone") {
  const lifecycle::Options options = OptionsOf({"run", "./server"});
  CHECK(options.is_local_run);
  CHECK(options.command == Words{"./server"});
  CHECK(options.admin->address == "127.0.0.1");
  CHECK(options.admin_is_default);
  CHECK(OptionsOf({"run", "--admin", "9001", "./server"}).admin->address == "127.0.0.1");
  CHECK(OptionsOf({"run", "--admin", "0.0.0.0:9001", "./server"}).admin->address == "0.0.0.0");
}

TEST_CASE("process 1 is no laptop, even with run") {
  const Invocation invocation = CommandLine({"run", "./server"}).AsProcess1().Parsed();
  CHECK_FALSE(invocation.options.is_local_run);
  CHECK(invocation.options.admin->address == "0.0.0.0");
}

TEST_CASE("run needs something to run") {
  CHECK(ErrorOf({"run"}) == "`modal-agent run` needs a COMMAND, as in modal-agent run ./server");
  CHECK(OptionsOf({"run", "--on-enter", "start"}).command.empty());
}

TEST_CASE("the log is text on a terminal and JSON elsewhere, unless one is asked for") {
  CHECK(CommandLine().OnTerminal().Parsed().log_format == LogFormat::kText);
  CHECK(CommandLine().Parsed().log_format == LogFormat::kJson);
  CHECK(CommandLine({"--log-format", "text"}).Parsed().log_format == LogFormat::kText);
  CHECK(CommandLine({"--log-format=json"}).OnTerminal().Parsed().log_format == LogFormat::kJson);
  CHECK(CommandLine({"--log-level", "debug"}).Parsed().log_level == LogLevel::kDebug);
}

TEST_CASE("an unknown option is refused with the nearest one") {
  CHECK(ErrorOf({"--prot", "8000"}) == "unknown option --prot; did you mean --port?");
  CHECK(ErrorOf({"--startup-timout=5", "x"}) ==
        "unknown option --startup-timout; did you mean --startup-timeout?");
  CHECK(ErrorOf({"--bind", "x"}) == "unknown option --bind; see modal-agent --help");
  CHECK(ErrorOf({"-p", "80"}) == "unknown option -p; see modal-agent --help");
  CHECK(ErrorOf({"-port", "80"}) == "unknown option -port; did you mean --port?");
  CHECK(ErrorOf({"status", "--jsn"}) == "unknown option --jsn; did you mean --json?");
}

TEST_CASE("an option without its value is refused") {
  CHECK(ErrorOf({"--port"}) == "--port needs a value");
  CHECK(ErrorOf({"--user", "--port", "80", "x"}) == "--user needs a value");
  CHECK(ErrorOf({"--port", "80", "--user", "--", "x"}) == "--user needs a value");
}

TEST_CASE("a bad value is refused with the option, the value and what was expected") {
  CHECK(ErrorOf({"--startup-timeout", "5x"}) ==
        "--startup-timeout 5x: not a duration; write 5, 5s, 250ms or 2m");
  CHECK(ErrorOf({"--startup-timeout=0"}) == "--startup-timeout 0: must be more than 0");
  for (const char* port : {"0", "65536", "abc"}) {
    CHECK(ErrorOf({"--port", port}) ==
          std::string("--port ") + port + ": not a port; a number from 1 to 65535 is expected");
  }
  CHECK(ErrorOf({"--restart", "always"}) == "--restart always: not one of no, on-failure");
  CHECK(ErrorOf({"--log-level", "warm"}) ==
        "--log-level warm: not one of debug, info, warn, error; did you mean warn?");
  CHECK(ErrorOf({"--admin", "localhost"}) ==
        "--admin localhost: not an address; write 8001, 127.0.0.1:8001 or [::1]:8001, or off");
  CHECK(ErrorOf({"--no-new-privs=perhaps"}) == "--no-new-privs perhaps: neither true nor false");
  CHECK(ErrorOf({"--workdir", "/no/such"}) == "--workdir /no/such: No such file or directory");
  CHECK(ErrorOf({"--workdir", "/dev/null"}) == "--workdir /dev/null: not a folder");
  CHECK(ErrorOf({"--hooks-dir", "/no/such"}) == "--hooks-dir /no/such: No such file or directory");
  CHECK(ErrorOf({"--rlimit", "nofil=3"}).starts_with("--rlimit nofil=3: unknown resource"));
  CHECK(ErrorOf({"--cap-keep", "CHWN"}).starts_with("--cap-keep CHWN: unknown capability"));
}

TEST_CASE("errors never hold the value of a variable for the workload") {
  const std::string error = ErrorOf({"--env", "A B=secret"});
  CHECK(error.starts_with("--env: the name holds a blank"));
  CHECK(error.find("secret") == std::string::npos);
}

TEST_CASE("bad settings end the agent with the exit code for that") {
  const Result<Invocation> parsed = CommandLine({"--port", "0"}).Parse();
  REQUIRE_FALSE(parsed.ok());
  CHECK(parsed.error().exit_code() == kExitAgentError);
}

TEST_CASE("a subcommand takes its own options and no COMMAND") {
  const Invocation status = CommandLine({"status", "--json", "--control", "/x.sock"}).Parsed();
  CHECK(status.mode == Mode::kStatus);
  CHECK(status.json);
  CHECK_FALSE(status.timeline);
  CHECK(CommandLine({"status", "--timeline"}).Parsed().timeline);
  CHECK(ErrorOf({"status", "--timline"}) == "unknown option --timline; did you mean --timeline?");
  CHECK(status.options.control == "/x.sock");
  CHECK(CommandLine({"health"}).Parsed().mode == Mode::kHealth);
  CHECK(CommandLine({"drain"}).Parsed().mode == Mode::kDrain);
  CHECK(CommandLine({"reload"}).Parsed().mode == Mode::kReload);
  CHECK(CommandLine({"check"}).Parsed().mode == Mode::kCheck);

  CHECK(ErrorOf({"status", "--port", "1"}) ==
        "`modal-agent status` takes no --port; see modal-agent status --help");
  CHECK(ErrorOf({"health", "./server"}) ==
        "`modal-agent health` takes no COMMAND, and got ./server");
  CHECK(ErrorOf({"--json"}) == "`modal-agent` takes no --json; see modal-agent --help");
}

TEST_CASE("token new takes an environment, and needs neither settings nor an agent") {
  const Invocation token =
      CommandLine({"token", "new", "--environment", "main", "--json"}).Parsed();
  CHECK(token.mode == Mode::kToken);
  CHECK(token.environment == "main");
  CHECK(token.json);
  CommandLine plain({"token", "new"});
  plain.With("MODAL_AGENT_ENVIRONMENT=other").WithFile("etc/modal-agent/config", "=damaged");
  CHECK(plain.Parsed().environment.empty());
  CHECK(CommandLine({"token", "new", "--environment="}).Parsed().environment.empty());
  CHECK(CommandLine({"token", "--help"}).Parsed().mode == Mode::kHelp);
  CHECK(CommandLine({"token", "new", "-h"}).Parsed().text.starts_with("modal-agent token new"));

  CHECK(ErrorOf({"token"}) ==
        "`modal-agent token` needs to be told what to do: modal-agent token new");
  CHECK(ErrorOf({"token", "nwe"}) ==
        "`modal-agent token nwe` is nothing it can do; there is modal-agent token new");
  CHECK(ErrorOf({"token", "new", "again"}) ==
        "`modal-agent token` takes no COMMAND, and got again");
  CHECK(ErrorOf({"token", "new", "--environment"}) == "--environment needs a value");
  CHECK(ErrorOf({"token", "new", "--environment", "a:b"}) ==
        "--environment a:b: write 1 to 63 printable ASCII characters without blanks, ':' and '#'");
  CHECK(ErrorOf({"token", "new", "--enviroment", "a"}) ==
        "unknown option --enviroment; did you mean --environment?");
  CHECK(ErrorOf({"token", "new", "--control", "/x"}) ==
        "`modal-agent token` takes no --control; see modal-agent token --help");
}

TEST_CASE("a subcommand finds the control socket where the agent's settings put it") {
  CHECK(CommandLine({"health"}).With("MODAL_AGENT_CONTROL=/v.sock").Parsed().options.control ==
        "/v.sock");
  CHECK(CommandLine({"health"})
            .WithFile("etc/modal-agent/config", "control = /f.sock")
            .Parsed()
            .options.control == "/f.sock");
}

TEST_CASE("what asks for an answer waits for it as long as a health check would") {
  for (const char* command : {"health", "status"}) {
    CAPTURE(command);
    CHECK(CommandLine({command}).Parsed().options.health_timeout == std::chrono::seconds(2));
    CHECK(CommandLine({command, "--health-timeout", "250ms"}).Parsed().options.health_timeout ==
          Milliseconds(250));
    CHECK(CommandLine({command})
              .With("MODAL_AGENT_HEALTH_TIMEOUT=1")
              .Parsed()
              .options.health_timeout == std::chrono::seconds(1));
  }
  CHECK(ErrorOf({"drain", "--health-timeout", "1"}) ==
        "`modal-agent drain` takes no --health-timeout; see modal-agent drain --help");
}

TEST_CASE("a COMMAND that could be a subcommand in the wrong place comes with a hint") {
  const auto hint = [](std::vector<std::string> words) {
    return CommandLine(std::move(words)).Parsed().options.not_found_hint;
  };
  const std::string put_first = "to run the subcommand put it first: modal-agent ";
  CHECK(hint({"--control", "/x y.sock", "status", "--json"}) ==
        put_first + "status --control '/x y.sock' --json");
  CHECK(hint({"--port", "80", "run", "./server", "-v"}) == put_first + "run --port 80 ./server -v");
  // No option that the subcommand would refuse, and none that may hold a secret.
  CHECK(hint({"--port", "80", "--", "drain"}) == put_first + "drain");
  CHECK(hint({"--env", "PASSWORD=x", "run", "./server"}) == put_first + "run ./server");
  CHECK(hint({"run", "health"}) == put_first + "health");
  CHECK(hint({"./status"}).empty());
  CHECK(hint({"--port", "80", "./server", "status"}).empty());
}

TEST_CASE("a subcommand is not held up by settings that it does not need") {
  CHECK(CommandLine({"drain"}).With("MODAL_AGENT_HEALTH_TIMEOUT=abc").Parse().ok());
  CHECK(CommandLine({"health"}).With("MODAL_AGENT_PORT=abc").Parse().ok());
  CHECK(CommandLine({"status"}).With("PORT=abc").Parse().ok());
}

TEST_CASE("a relative control socket is the same one for a workload in another folder") {
  char here[4096];
  REQUIRE(::getcwd(here, sizeof here));
  CHECK(OptionsOf({"--control", "c.sock"}).control == std::string(here) + "/c.sock");
}

TEST_CASE("help and version are asked for before COMMAND, not in it") {
  for (const char* flag : {"-h", "--help"}) {
    const Invocation help = CommandLine({flag}).Parsed();
    CHECK(help.mode == Mode::kHelp);
    CHECK(help.text.find("Usage:") != std::string::npos);
  }
  CHECK(CommandLine({"--port", "bad", "--help"}).Parsed().mode == Mode::kHelp);
  CHECK(CommandLine({"status", "--help"}).Parsed().text.starts_with("modal-agent status"));
  CHECK(CommandLine({"--version"}).Parsed().mode == Mode::kVersion);
  CHECK(CommandLine({"version"}).Parsed().text.starts_with("modal-agent " MODAL_VERSION));
  CHECK(CommandLine({"./server", "--help"}).Parsed().mode == Mode::kServe);
}

TEST_CASE("the workload's user is looked up, and decides about HOME and USER") {
  CommandLine line({"--user", "app", "./server"});
  line.WithFile("etc/passwd", "app:x:54321:54321::/home/app:/bin/sh\n")
      .WithFile("etc/group", "app:x:54321:\n")
      .With("HOME=/root");
  const lifecycle::Options options = line.Parsed().options;
  REQUIRE(options.credentials);
  CHECK(options.credentials->uid == 54321);
  CHECK(options.environment == Words{"HOME=/home/app", "USER=app", "LOGNAME=app", "PORT=8000"});
}

TEST_CASE("our own user keeps the environment it has") {
  CommandLine line({"--user", std::to_string(::geteuid()), "./server"});
  CHECK(line.With("HOME=/mine").Parsed().options.environment == Words{"HOME=/mine", "PORT=8000"});
}

TEST_CASE("an unknown user or group is refused with the option it came from") {
  CommandLine user({"--user", "ap"});
  user.WithFile("etc/passwd", "app:x:1:1::/:/bin/sh\n");
  CHECK(user.Error().starts_with("--user ap: unknown user 'ap'"));
  CommandLine group({"--group", "nobody-knows"});
  group.WithFile("etc/group", "app:x:1:\n");
  CHECK(group.Error().starts_with("--group nobody-knows: unknown group"));
}

TEST_CASE("env files are read before --env, whatever the order of the options") {
  test::TempFolder folder;
  const std::string one = folder.Write("one.env", "A=file\nB=file\nC\n");
  const std::string two = folder.Write("two.env", "B=second\n");
  CommandLine line({"--env", "A=flag", "--env-file", one, "--env-file", two, "./server"});
  CHECK(line.With("C=ours").Parsed().options.environment ==
        Words{"C=ours", "A=flag", "B=second", "PORT=8000"});
}

TEST_CASE("a bad env file is refused with file and line") {
  test::TempFolder folder;
  const std::string damaged = folder.Write("a.env", "A=1\nexport B=2\n");
  CHECK(ErrorOf({"--env-file", damaged}) ==
        "--env-file: " + damaged + ":2: write NAME=value, without `export`");
  CHECK(ErrorOf({"--env-file", folder.path()}) ==
        "--env-file: " + folder.path() + ": Is a directory");
  CHECK(ErrorOf({"--env-file", "/no/such.env"}) ==
        "--env-file: /no/such.env: No such file or directory");
}

TEST_CASE("a PORT of one's own that --port overrules is a warning") {
  const Invocation invocation = CommandLine({"--env", "PORT=9000", "./server"}).Parsed();
  REQUIRE(invocation.warnings.size() == 1);
  CHECK(invocation.warnings[0].find("PORT is 8000") != std::string::npos);
  CHECK(CommandLine({"--port", "9000", "--env", "PORT=9000"}).Parsed().warnings.empty());
}

TEST_CASE("a seccomp profile is built ahead, and a bad one is refused with the option") {
  CHECK(OptionsOf({"--seccomp-profile", "default"}).seccomp);
  test::TempFolder folder;
  const std::string allow_all = folder.Write("all.json", R"({"defaultAction":"SCMP_ACT_ALLOW"})");
  CHECK(OptionsOf({"--seccomp-profile", allow_all}).seccomp);
  const std::string broken = folder.Write("broken.json", R"({"defaultAction":)");
  CHECK(ErrorOf({"--seccomp-profile", broken}).starts_with("--seccomp-profile: " + broken + ":"));
  const std::string strange = folder.Write("strange.json", R"({"defaultAction":"SCMP_ACT_ALOW"})");
  CHECK(ErrorOf({"--seccomp-profile", strange}).starts_with("--seccomp-profile: " + strange));
  CHECK(ErrorOf({"--seccomp-profile", "/no/such"}) ==
        "--seccomp-profile: /no/such: No such file or directory");
}

TEST_CASE("capabilities to keep may be none") {
  CHECK(*OptionsOf({"--cap-keep", "none"}).capabilities == 0);
  CHECK(*OptionsOf({"--cap-keep", "KILL", "--cap-keep", "CHOWN"}).capabilities == ((1u << 5) | 1u));
}

}  // namespace
}  // namespace modal

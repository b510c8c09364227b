// Odd surroundings: streams, file systems, identities and limits that an image or a platform gives.
#include <doctest/doctest.h>
#include <elf.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>

#include "tests/support/agent_process.h"

namespace modal::test {
namespace {

using Stream = AgentOptions::Stream;

// The agent and the programs need nothing from the root if they are static.
bool AgentIsStatic() {
  std::ifstream file(Settings().agent, std::ios::binary);
  Elf64_Ehdr header{};
  file.read(reinterpret_cast<char*>(&header), sizeof header);
  file.seekg(static_cast<std::streamoff>(header.e_phoff));
  for (int i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment{};
    file.read(reinterpret_cast<char*>(&segment), sizeof segment);
    if (segment.p_type == PT_INTERP) return false;
  }
  return true;
}

// Serves and stops as if nothing were odd. Looks at the server alone: the log may have no reader.
void CheckServesAndStops(AgentProcess& agent) {
  agent.WaitForReport("listener listening");
  agent.WaitUntil("readiness", [&] { return agent.Get(8001, "/readyz").status == 200; });
  CHECK(agent.Get(8000, "/").status == 200);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.CountReports("listener signal TERM") == 1);
  CHECK(agent.CountReports("listener exit 0") == 1);
  CHECK_FALSE(agent.ProgramsLeft());
}

TEST_CASE("closed standard streams harm nobody, and the workload finds them open") {
  for (int closed = 1; closed < 8; ++closed) {
    INFO("closed streams, as bits: ", closed);
    AgentOptions options = With({kListener});
    if (closed & 1) options.standard_input = Stream::kClosed;
    if (closed & 2) options.standard_output = Stream::kClosed;
    if (closed & 4) options.standard_error = Stream::kClosed;
    AgentProcess agent(std::move(options));
    CheckServesAndStops(agent);
    CHECK(agent.CountReports("listener fds 0 1 2") == 1);
  }
}

TEST_CASE("nothing of the agent's is open in the workload or in a hook") {
  AgentProcess agent(With(
      {"--on-enter", "/mnt/bin/listener --name hook --wait --on USR1=exit:0", "--", kListener}));
  agent.SignalProgram("hook", SIGUSR1);
  agent.WaitFor("lifecycle.ready");
  CHECK(agent.CountReports("hook fds 0 1 2") == 1);
  CHECK(agent.CountReports("listener fds 0 1 2") == 1);
}

TEST_CASE("a full pipe as standard error that nobody reads does not stop the agent") {
  AgentOptions options = With({kListener});
  options.standard_error = Stream::kFull;
  AgentProcess agent(std::move(options));
  CheckServesAndStops(agent);
}

TEST_CASE("full pipes as both outputs do not stop the agent") {
  AgentOptions options = With({kListener});
  options.standard_output = options.standard_error = Stream::kFull;
  AgentProcess agent(std::move(options));
  CheckServesAndStops(agent);
}

TEST_CASE("lost log lines are counted, and told when somebody reads again") {
  // More lines than any buffer takes.
  AgentOptions options = With({"--on-enter", "/mnt/bin/flood 10000000", "--", kListener});
  options.standard_error = Stream::kFull;
  AgentProcess agent(std::move(options));
  agent.WaitForReport("listener listening");
  agent.WaitUntil("readiness", [&] { return agent.Get(8001, "/readyz").status == 200; });
  const std::string status = agent.Get(8001, "/status").body;
  CHECK_FALSE(Contains(status, "\"log_lines_lost\":0,"));
  agent.ReadFromError();
  const LogEvent lost = agent.WaitFor("log.lost");
  CHECK(std::stoi(lost["lines"]) > 1000);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.Count("agent.exit") == 1);
}

TEST_CASE("a log whose reader has gone does not stop the agent") {
  AgentProcess agent(With({kListener}));
  agent.WaitFor("lifecycle.ready");
  agent.CloseError();
  agent.Signal(SIGHUP);
  agent.WaitForReport("listener signal HUP");
  CHECK(agent.Get(8000, "/").status == 200);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("a read-only root") {
  AgentOptions options = With({kListener});
  options.read_only = true;
  SUBCASE("as root") { options.uid = 0; }
  SUBCASE("not as root") { options.uid = 54324; }
  SUBCASE("with a writable /run") { options.writable = {"/run"}; }
  AgentProcess agent(std::move(options));
  CheckServesAndStops(agent);
}

TEST_CASE("missing folders" * doctest::skip(Settings().sanitized)) {
  AgentOptions options = With({kListener});
  SUBCASE("no /run") { options.missing = {"/run"}; }
  SUBCASE("no /run and no /tmp") { options.missing = {"/run", "/tmp"}; }
  SUBCASE("no /proc") { options.missing = {"/proc"}; }
  SUBCASE("no /dev") { options.missing = {"/dev"}; }
  SUBCASE("none of them") { options.missing = {"/proc", "/run", "/tmp", "/dev", "/etc", "/sys"}; }
  AgentProcess agent(std::move(options));
  CheckServesAndStops(agent);
}

TEST_CASE("no /proc, and not process 1" * doctest::skip(Settings().sanitized)) {
  AgentOptions options = With({"run", "--", kListener});
  options.missing = {"/proc"};
  options.process_1 = false;
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
  CHECK(agent.Get(8000, "/").status == 200);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  agent.WaitUntilNobodyIsLeft();
}

TEST_CASE("without /proc a workload that ignores SIGTERM is killed, too" *
          doctest::skip(Settings().sanitized)) {
  AgentOptions options = With({"--stop-timeout", "300ms", "--", kListener, "--on", "TERM=none"});
  options.missing = {"/proc"};
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 128 + SIGKILL);
  CHECK_FALSE(agent.ProgramsLeft());
}

TEST_CASE("without /proc the wrong address is named all the same" *
          doctest::skip(Settings().sanitized)) {
  AgentOptions options =
      With({"--startup-timeout", "500ms", "--", kListener, "--address", "127.0.0.1"});
  options.missing = {"/proc"};
  AgentProcess agent(std::move(options));
  CHECK(agent.WaitForExit() == 124);
  CHECK(Contains(agent.Find("startup.timeout")["message"], "127.0.0.1:8000"));
}

TEST_CASE("an empty root that holds the agent and a static server" *
          doctest::skip(!AgentIsStatic())) {
  AgentOptions options = With({kListener});
  options.empty_root = true;
  SUBCASE("writable") { options.read_only = false; }
  SUBCASE("read-only") { options.read_only = true; }
  AgentProcess agent(std::move(options));
  CheckServesAndStops(agent);
}

TEST_CASE("not root") {
  AgentOptions options = With({kListener});
  options.uid = 54325;
  SUBCASE("as process 1") { options.process_1 = true; }
  SUBCASE("beside process 1") { options.process_1 = false; }
  AgentProcess agent(std::move(options));
  CheckServesAndStops(agent);
  CHECK(Contains(agent.WaitForReportStartingWith("listener start"), "uid 54325 gid 54325"));
}

TEST_CASE("--user and --group give the workload and the hooks another identity") {
  std::vector<std::string> identity;
  std::string expected;
  SUBCASE("by name") {
    identity = {"--user", "daemon"};
    expected = "uid 1 gid 1 ";
  }
  SUBCASE("by number") {
    identity = {"--user", "12345"};
    expected = "uid 12345 gid ";
  }
  SUBCASE("user and group") {
    identity = {"--user", "12345:54321"};
    expected = "uid 12345 gid 54321 ";
  }
  SUBCASE("the group alone") {
    identity = {"--user", "12345", "--group", "daemon"};
    expected = "uid 12345 gid 1 ";
  }
  std::vector<std::string> arguments = identity;
  arguments.insert(
      arguments.end(),
      {"--on-enter", "/mnt/bin/listener --name hook --wait --on USR1=exit:0", "--", kListener});
  AgentProcess agent(With(std::move(arguments)));
  CHECK(Contains(agent.WaitForReportStartingWith("hook start"), expected));
  agent.SignalProgram("hook", SIGUSR1);
  agent.WaitFor("lifecycle.ready");
  CHECK(Contains(agent.WaitForReportStartingWith("listener start"), expected));
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.CountReports("listener exit 0") == 1);
}

TEST_CASE("users are found whatever nsswitch.conf says") {
  AgentOptions options = With({"--user", "daemon", "--", kListener});
  options.replace = {
      {"/etc/nsswitch.conf", "passwd: compat\ngroup: compat\nhosts: hesiod dns\nshadow: compat\n"}};
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
  CHECK(Contains(agent.WaitForReportStartingWith("listener start"), "uid 1 gid 1 "));
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("users are found in a passwd file with damaged lines, + lines and no last newline") {
  AgentOptions options = With({"--user", "wanted", "--", kListener});
  options.replace = {{"/etc/passwd",
                      "root:x:0:0:root:/root:/bin/sh\n\n# comment\n+::::::\nbroken\nshort:x:1\n"
                      "wanted:x:4711:4712::/:/bin/sh"}};
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
  CHECK(Contains(agent.WaitForReportStartingWith("listener start"), "uid 4711 gid 4712 "));
}

TEST_CASE("--env, --env-file and --workdir hold for the workload") {
  AgentOptions options = With({"--env", "A=1", "--env-file", "/mnt/server.env", "--workdir", "/usr",
                               "--", "sh", "-c", "echo \"$A $B $PORT $(pwd)\""});
  options.files = {{"server.env", "# comment\nA=overridden\nB=two words\n", 0644}};
  AgentProcess agent(std::move(options));
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.output() == "1 two words 8000 /usr\n");
}

TEST_CASE("--rlimit, --no-new-privs and --cap-keep hold for the workload") {
  AgentProcess agent(With({"--rlimit", "nofile=100:200", "--no-new-privs", "--cap-keep",
                           "NET_BIND_SERVICE", "--", "sh", "-c",
                           "ulimit -Sn; ulimit -Hn; grep -E 'NoNewPrivs|CapEff|CapBnd'"
                           " /proc/self/status"}));
  CHECK(agent.WaitForExit() == 0);
  CHECK(Contains(agent.output(), "100\n200\n"));
  CHECK(Contains(agent.output(), "CapEff:\t0000000000000400"));
  CHECK(Contains(agent.output(), "CapBnd:\t0000000000000400"));
  CHECK(Contains(agent.output(), "NoNewPrivs:\t1"));
}

TEST_CASE("the limit of processes is reached: 125, and the message says so") {
  AgentOptions options = With({"--", kListener});
  SUBCASE("the workload is the first") {
    options.uid = OwnUser(0);
    options.arguments = {"--admin", "off", "--", kListener};
  }
  SUBCASE("a hook is the first") {
    options.uid = OwnUser(1);
    options.arguments = {"--on-enter", "true", "--", kListener};
  }
  options.limits = {{RLIMIT_NPROC, 1}};
  // The search for leaks at the end is a process of its own.
  options.environment.push_back("ASAN_OPTIONS=detect_leaks=0");
  const bool is_hook = options.uid == OwnUser(1);
  AgentProcess agent(std::move(options));
  CHECK(agent.WaitForExit() == (is_hook ? 120 : 125));
  const std::string message =
      is_hook ? agent.Find("hook.failed")["message"] : agent.Find("agent.error")["message"];
  CHECK(Contains(message, "limit of processes"));
  CHECK(agent.reports().empty());
}

TEST_CASE("no process is left for the gateway: the workload is served all the same") {
  AgentOptions options = With({kListener});
  options.uid = OwnUser(2);
  options.limits = {{RLIMIT_NPROC, 2}};
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
  agent.WaitFor("gateway.failed");
  CHECK(agent.Get(8000, "/").status == 200);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("a low limit of descriptors is enough") {
  AgentOptions options = With({"--on-enter", "true", "--on-exit", "true", "--", kListener});
  options.limits = {{RLIMIT_NOFILE, 32}};
  AgentProcess agent(std::move(options));
  CheckServesAndStops(agent);
}

// The sanitizers' own runtime needs descriptors, and takes the lack of one for a fault.
TEST_CASE("too low a limit of descriptors is a clear error, not a crash" *
          doctest::skip(Settings().sanitized)) {
  for (const rlim_t limit : {4, 6, 8, 10, 12, 14, 16}) {
    INFO("limit: ", limit);
    AgentOptions options = With({kListener});
    options.limits = {{RLIMIT_NOFILE, limit}};
    AgentProcess agent(std::move(options));
    // Where it is just enough, it serves; then it is told to end.
    agent.WaitUntil("an end or a server",
                    [&] { return agent.HasEnded() || agent.Count("lifecycle.ready") > 0; });
    if (!agent.HasEnded()) agent.Signal(SIGTERM);
    const int code = agent.WaitForExit();
    CHECK((code == 0 || code == 125));
    if (code == 125) CHECK(Contains(agent.error_output(), "Too many open files"));
  }
}

TEST_CASE("a descriptor that was inherited open is not mistaken for one of ours") {
  AgentProcess agent(
      With({"--", "sh", "-c", "exec 3</dev/null 4</dev/null; exec /mnt/bin/listener"}));
  CheckServesAndStops(agent);
}

}  // namespace
}  // namespace modal::test

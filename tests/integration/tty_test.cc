// A person at a terminal: job control, ^C, ^Z, and a shell as COMMAND.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <sstream>

#include "tests/support/agent_process.h"

namespace modal::test {
namespace {

using Stream = AgentOptions::Stream;

constexpr const char* kControlC = "\x03";
constexpr const char* kControlD = "\x04";
constexpr const char* kControlZ = "\x1a";

// Input and output are the terminal; the log is read through a pipe.
AgentOptions OnTerminal(std::vector<std::string> arguments) {
  AgentOptions options = With(std::move(arguments));
  options.standard_input = options.standard_output = Stream::kTerminal;
  options.environment = {"TERM=dumb", "PS1=ready> "};
  return options;
}

bool IsStopped(const AgentProcess& agent, const std::string& command) {
  const std::vector<ProcessSeen> found = agent.Processes(command);
  return !found.empty() && std::all_of(found.begin(), found.end(),
                                       [](const ProcessSeen& one) { return one.state == 'T'; });
}

TEST_CASE("what is typed reaches the workload, and its end of input ends it") {
  AgentProcess agent(OnTerminal({"--", "cat"}));
  agent.WaitFor("workload.start");
  agent.Type("hello\n");
  agent.WaitForOutput("hello\r\nhello\r\n");
  agent.Type(kControlD);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("^C reaches the workload's group, once, and not the agent") {
  AgentOptions options = OnTerminal({"--", kListener, "--child", "child", "--on", "INT=none"});
  SUBCASE("as process 1") { options.process_1 = true; }
  SUBCASE("beside process 1") { options.process_1 = false; }
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
  agent.WaitForReportStartingWith("child start");
  agent.Type(kControlC);
  agent.WaitForReport("listener signal INT");
  agent.WaitForReport("child signal INT");
  CHECK(agent.Count("lifecycle.stop") == 0);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.CountReports("listener signal INT") == 1);
}

TEST_CASE("^C ends a workload that does not mind it, and the container with 130") {
  AgentProcess agent(OnTerminal({"--", "cat"}));
  agent.WaitFor("workload.start");
  agent.Type("x\n");
  agent.WaitForOutput("x\r\nx\r\n");
  agent.Type(kControlC);
  CHECK(agent.WaitForExit() == 128 + SIGINT);
}

TEST_CASE("^Z stops the workload, and SIGCONT continues it") {
  // As process 1: there is no shell to return to.
  AgentProcess agent(OnTerminal({"--", "cat"}));
  agent.WaitFor("workload.start");
  agent.Type("one\n");
  agent.WaitForOutput("one\r\none\r\n");
  agent.Type(kControlZ);
  agent.WaitUntil("the workload to be stopped", [&] { return IsStopped(agent, "cat"); });
  CHECK_FALSE(IsStopped(agent, "/mnt/modal-agent"));

  SUBCASE("it goes on when the agent gets SIGCONT") {
    agent.Signal(SIGCONT);
    agent.WaitUntil("the workload to go on", [&] { return !IsStopped(agent, "cat"); });
    agent.Type("two\n");
    agent.WaitForOutput("two\r\ntwo\r\n");
    agent.Type(kControlD);
    CHECK(agent.WaitForExit() == 0);
  }
  SUBCASE("it can be stopped for good meanwhile") {
    agent.Signal(SIGTERM);
    CHECK(agent.WaitForExit() == 128 + SIGTERM);
    CHECK(agent.Count("stop.kill") == 0);
  }
}

// A shell on the terminal, in which `modal-agent run` is typed, as on a laptop. (The shell runs
// under an agent, too, but nothing is asked of that one.)
AgentOptions InteractiveShell() {
  AgentOptions options =
      OnTerminal({"--admin", "off", "--log-level", "error", "--", "/bin/sh", "-i"});
  options.standard_error = Stream::kTerminal;  // where the prompt goes
  return options;
}

// ^C throws away what was typed before it: who types on waits for the shell's answer.
void TypeControlC(AgentProcess& agent) {
  const auto prompts = [&agent] {
    size_t count = 0;
    for (size_t at = 0; (at = agent.output().find("ready> ", at)) != std::string::npos; ++at) {
      ++count;
    }
    return count;
  };
  const size_t before = prompts();
  agent.Type(kControlC);
  agent.WaitUntil("a new prompt", [&] { return prompts() > before; });
}

// The shell answers, and then waits for the next line, when it has the terminal.
void AskShell(AgentProcess& agent, const std::string& word) {
  agent.Type("echo " + word + "-$((40 + 2))\n");
  agent.WaitUntil("the shell's answer", [&] {
    const size_t answer = agent.output().find(word + "-42");
    return answer != std::string::npos &&
           agent.output().find("ready> ", answer) != std::string::npos;
  });
}

TEST_CASE("an interactive shell has job control") {
  AgentProcess agent(InteractiveShell());
  agent.WaitForOutput("ready> ");
  CHECK_FALSE(Contains(agent.output(), "job control"));
  CHECK_FALSE(Contains(agent.output(), "can't access tty"));

  // ^C ends the job in the foreground and not the shell.
  agent.Type("/mnt/bin/listener --name job --wait\n");
  agent.WaitForReportStartingWith("job start");
  TypeControlC(agent);
  agent.WaitForReport("job signal INT");
  agent.Type("echo one-$((40 + 1))\n");
  agent.WaitForOutput("one-41");

  // ^Z stops it, fg continues it.
  agent.Type("cat\n");
  agent.WaitUntil("cat", [&] { return !agent.Processes("cat").empty(); });
  agent.Type("before\n");
  agent.WaitForOutput("before\r\nbefore\r\n");
  agent.Type(kControlZ);
  agent.WaitUntil("cat to be stopped", [&] { return IsStopped(agent, "cat"); });
  agent.Type("echo two-$((40 + 2))\n");
  agent.WaitForOutput("two-42");
  agent.Type("fg\n");
  agent.WaitUntil("cat to go on", [&] { return !IsStopped(agent, "cat"); });
  agent.Type("after\n");
  agent.WaitForOutput("after\r\nafter\r\n");
  agent.Type(kControlD);
  agent.Type("exit 7\n");
  CHECK(agent.WaitForExit() == 7);
}

TEST_CASE("`run` in a shell: ^Z gives the terminal to the shell, fg gives it back") {
  AgentProcess agent(InteractiveShell());
  agent.WaitForOutput("ready> ");
  agent.Type("/mnt/modal-agent run --log-level error --admin off -- cat\n");
  agent.WaitUntil("cat", [&] { return !agent.Processes("cat").empty(); });
  agent.Type("before\n");
  agent.WaitForOutput("before\r\nbefore\r\n");

  agent.Type(kControlZ);
  agent.WaitUntil("both to be stopped", [&] {
    return IsStopped(agent, "cat") && IsStopped(agent, "/mnt/modal-agent run");
  });
  AskShell(agent, "shell");

  agent.Type("fg\n");
  agent.WaitUntil("cat to go on", [&] { return !IsStopped(agent, "cat"); });
  agent.Type("after\n");
  agent.WaitForOutput("after\r\nafter\r\n");
  TypeControlC(agent);
  agent.Type("echo status-$?\n");
  agent.WaitForOutput("status-130");
  agent.Type("exit 0\n");
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("`run` in the background of a shell leaves the terminal alone") {
  AgentProcess agent(InteractiveShell());
  agent.WaitForOutput("ready> ");
  agent.Type(
      "/mnt/modal-agent run --log-level error --admin off --port 9000 -- /mnt/bin/listener &\n");
  agent.WaitForReport("listener listening");
  AskShell(agent, "shell");
  TypeControlC(agent);  // for whoever is in the foreground: the shell
  agent.Type("kill $!; wait $!; echo status-$?\n");
  agent.WaitForOutput("status-0");
  agent.WaitForReport("listener exit 0");
  CHECK(agent.CountReports("listener signal INT") == 0);
  agent.Type("exit 0\n");
  CHECK(agent.WaitForExit() == 0);
}

// Whether the terminal's foreground is this process's group (proc(5), /proc/PID/stat).
bool HasForeground(AgentProcess& agent, const std::string& command) {
  const std::vector<ProcessSeen> found = agent.Processes(command);
  if (found.size() != 1) return false;
  const std::string stat =
      agent.Run({"cat", "/proc/" + std::to_string(found[0].pid) + "/stat"}).output;
  std::istringstream fields(stat.substr(std::min(stat.size(), stat.rfind(')') + 1)));
  std::string state;
  long parent = 0, group = 0, session = 0, terminal = 0, foreground = 0;
  fields >> state >> parent >> group >> session >> terminal >> foreground;
  return static_cast<bool>(fields) && group == foreground;
}

TEST_CASE("`run` in the background: fg brings the workload to the terminal, ^Z takes it away") {
  AgentOptions options = InteractiveShell();
  SUBCASE("of a shell that tells every job when it is in the foreground") {}
  SUBCASE("of a shell that tells only jobs that were stopped") {
    options.arguments = {"--admin", "off", "--log-level", "error", "--", "bash", "--norc", "-i"};
  }
  AgentProcess agent(std::move(options));
  agent.WaitForOutput("ready> ");
  agent.Type(
      "/mnt/modal-agent run --log-level error --admin off --startup-timeout 1000 -- sleep 1000 "
      "&\n");
  agent.WaitUntil("sleep", [&] { return !agent.Processes("sleep").empty(); });
  AskShell(agent, "one");
  CHECK_FALSE(HasForeground(agent, "sleep"));

  const auto is_in_front = [&] {
    return HasForeground(agent, "sleep") || HasForeground(agent, "/mnt/modal-agent run");
  };
  const auto both_stopped = [&] {
    return IsStopped(agent, "sleep") && IsStopped(agent, "/mnt/modal-agent run");
  };
  for (const std::string word : {"two", "three"}) {
    agent.Type("fg\n");
    agent.WaitUntil("the job in the foreground",
                    [&] { return is_in_front() && !IsStopped(agent, "sleep"); });
    agent.Type(kControlZ);
    agent.WaitUntil("both to be stopped", both_stopped);
    AskShell(agent, word);
  }

  agent.Type("bg\n");
  agent.WaitUntil("both to go on", [&] {
    return !IsStopped(agent, "sleep") && !IsStopped(agent, "/mnt/modal-agent run");
  });
  CHECK_FALSE(is_in_front());
  agent.Type("kill $!; wait $!; echo status-$?\n");
  agent.WaitForOutput("status-143");
  agent.Type("exit 0\n");
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("`run` in the background: a workload that reads waits for the foreground") {
  AgentProcess agent(InteractiveShell());
  agent.WaitForOutput("ready> ");
  agent.Type("/mnt/modal-agent run --log-level error --admin off -- cat &\n");
  agent.WaitUntil("both to be stopped", [&] {
    return IsStopped(agent, "cat") && IsStopped(agent, "/mnt/modal-agent run");
  });
  AskShell(agent, "shell");
  agent.Type("fg\n");
  agent.WaitUntil("cat in the foreground", [&] { return HasForeground(agent, "cat"); });
  agent.Type("after\n");
  agent.WaitForOutput("after\r\nafter\r\n");
  TypeControlC(agent);
  agent.Type("echo status-$?\n");
  agent.WaitForOutput("status-130");
  agent.Type("exit 0\n");
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("`run` in a shell, with its input from elsewhere: ^Z stops the workload, too") {
  AgentProcess agent(InteractiveShell());
  agent.WaitForOutput("ready> ");
  agent.Type(
      "/mnt/modal-agent run --log-level error --admin off --port 9000 -- "
      "/mnt/bin/listener </dev/null\n");
  agent.WaitForReport("listener listening");
  agent.Type(kControlZ);
  agent.WaitUntil("both to be stopped", [&] {
    return IsStopped(agent, kListener) && IsStopped(agent, "/mnt/modal-agent run");
  });
  AskShell(agent, "shell");
  agent.Type("fg\n");
  agent.WaitUntil("both to go on", [&] {
    return !IsStopped(agent, kListener) && !IsStopped(agent, "/mnt/modal-agent run");
  });
  TypeControlC(agent);
  agent.Type("echo status-$?\n");
  agent.WaitForOutput("status-0");
  agent.Type("exit 0\n");
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("^Z does nothing where no shell could continue what it stops") {
  AgentOptions options = OnTerminal({"--", "cat"});
  options.process_1 = false;
  AgentProcess agent(std::move(options));
  agent.WaitFor("workload.start");
  agent.Type("one\n");
  agent.WaitForOutput("one\r\none\r\n");
  agent.Type(kControlZ);
  agent.Type("two\n");
  agent.WaitForOutput("two\r\ntwo\r\n");
  agent.Type(kControlD);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("with a terminal the startup timeout only warns") {
  AgentProcess agent(OnTerminal({"--startup-timeout", "200ms", "--", "cat"}));
  agent.WaitFor("startup.slow");
  agent.Type("still here\n");
  agent.WaitForOutput("still here\r\nstill here\r\n");
  agent.Type(kControlD);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("SIGTERM ends what runs on the terminal") {
  AgentProcess agent(OnTerminal({"--", kListener}));
  agent.WaitFor("lifecycle.ready");
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.CountReports("listener exit 0") == 1);
}

TEST_CASE("the log on a terminal is made for people") {
  AgentOptions options = OnTerminal({"--", kListener});
  options.standard_error = Stream::kTerminal;
  AgentProcess agent(std::move(options));
  agent.WaitForOutput("lifecycle.ready");
  CHECK_FALSE(Contains(agent.output(), "{\"time\""));
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("without /proc the log still reaches the terminal" *
          doctest::skip(Settings().sanitized)) {
  AgentOptions options = OnTerminal({"--admin", "off", "--", "cat"});
  options.standard_error = Stream::kTerminal;
  options.missing = {"/proc"};
  AgentProcess agent(std::move(options));
  agent.WaitForOutput("workload.start");
  agent.Type(kControlD);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("--log-format json holds on a terminal, too") {
  AgentOptions options = OnTerminal({"--log-format", "json", "--", kListener});
  options.standard_error = Stream::kTerminal;
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
}

TEST_CASE("a terminal as output alone, without input") {
  AgentOptions options = With({kListener});
  options.standard_output = options.standard_error = Stream::kTerminal;
  AgentProcess agent(std::move(options));
  agent.WaitForOutput("lifecycle.ready");
  CHECK(agent.Get(8000, "/").status == 200);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("the terminal is closed: SIGHUP reaches the workload, and the agent can be stopped") {
  AgentProcess agent(OnTerminal({"--", kListener}));
  agent.WaitFor("lifecycle.ready");
  agent.CloseTerminal();
  agent.WaitForReport("listener signal HUP");
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

}  // namespace
}  // namespace modal::test

#include "agent/control_answers.h"

#include <doctest/doctest.h>

#include "agent/base/status_board.h"
#include "agent/base/strings.h"
#include "healthcheck/status_json.h"

namespace modal {
namespace {

bool Contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

health::AgentStatus Serving() {
  health::AgentStatus status = health::NewAgentStatus();
  SetBoardText(status.version, "1.2.3");
  status.agent_pid = 1;
  status.started_unix_ms = 1'000'000;
  health::EnterPhase(status, health::Phase::kStartupHooks, 0);
  health::EnterPhase(status, health::Phase::kLaunching, 1200);
  health::EnterPhase(status, health::Phase::kWaitingForPort, 1201);
  health::EnterPhase(status, health::Phase::kServing, 1500);
  status.ready = true;
  status.live = true;
  status.ready_ms = 1500;
  status.workload_pid = 7;
  SetBoardText(status.command, "./server --fast");
  status.port = 8000;
  SetBoardText(status.listening, "0.0.0.0:8000");
  return status;
}

std::string TableOf(const health::AgentStatus& status, int64_t now = 1'065'000) {
  const Result<std::string> table = StatusTable(health::StatusJson(status, nullptr), now);
  return table ? *table : "error " + table.error().message();
}

TEST_CASE("health is read from the agent's answer, with the reason if it is not well") {
  const Result<HealthAnswer> well =
      ReadHealthAnswer(R"({"healthy":true,"phase":"Serving","reason":""})");
  REQUIRE(well.ok());
  CHECK(well->healthy);
  CHECK(well->line == "healthy (Serving)");
  const Result<HealthAnswer> ill =
      ReadHealthAnswer(R"({"healthy":false,"phase":"WaitingForPort","reason":"nothing\nlistens"})");
  CHECK_FALSE(ill->healthy);
  CHECK(ill->line == "not healthy (WaitingForPort): nothing listens");
}

TEST_CASE("an answer without a verdict is not healthy") {
  CHECK_FALSE(ReadHealthAnswer("{}")->healthy);
  CHECK_FALSE(ReadHealthAnswer(R"({"healthy":"true"})")->healthy);
}

TEST_CASE("what is no JSON object is an error that shows it") {
  for (const std::string_view text : {"", "nonsense", "[1]", "{\"healthy\":tr", "\xff"}) {
    CAPTURE(text);
    CHECK_FALSE(ReadHealthAnswer(text).ok());
    CHECK_FALSE(ReadDrainAnswer(text).ok());
    CHECK_FALSE(ReadReloadAnswer(text).ok());
    CHECK_FALSE(StatusTable(text, 0).ok());
  }
}

TEST_CASE("a request that was refused says why in the agent's words") {
  CHECK(ReadReloadAnswer(R"({"ok":false,"error":"--port 0: not a port"})").error().message() ==
        "--port 0: not a port");
  CHECK_FALSE(ReadReloadAnswer("{}").ok());
  CHECK_FALSE(ReadDrainAnswer(R"({"ok":false})").ok());
}

TEST_CASE("a drain says how long it lasts") {
  const Result<std::string> lines = ReadDrainAnswer(R"({"ok":true})");
  REQUIRE(lines.ok());
  CHECK(Contains(*lines, "up until it is stopped (SIGTERM); nothing takes that back\n"));
}

TEST_CASE("a reload says what has changed and what waits for the next start") {
  CHECK(*ReadReloadAnswer(R"({"ok":true,"changed":["on-exit","log-level"],"waiting":["port"]})") ==
        "changed: on-exit, log-level\n"
        "waiting for the next start: port\n");
  CHECK(*ReadReloadAnswer(R"({"ok":true,"changed":["stop-timeout"],"waiting":[]})") ==
        "changed: stop-timeout\n");
  // Also the answer of an agent that does not tell.
  CHECK(*ReadReloadAnswer(R"({"ok":true})") == "nothing that is in force has changed\n");
}

TEST_CASE("the status of a serving agent reads at a glance") {
  CHECK(TableOf(Serving()) ==
        "phase         Serving\n"
        "ready         yes, for the first time after 1500 ms\n"
        "port          8000, listening on 0.0.0.0:8000\n"
        "server        ./server --fast (pid 7)\n"
        "health        not checked yet\n"
        "phases        at 0 ms  StartupHooks, for 1200 ms\n"
        "              at 1200 ms  Launching, for 1 ms\n"
        "              at 1201 ms  WaitingForPort, for 299 ms\n"
        "              at 1500 ms  Serving\n"
        "agent         modal-agent 1.2.3, pid 1, up 1 m 5 s\n");
}

TEST_CASE("after a restart each phase has the time of its last visit, and of those before") {
  health::AgentStatus status = Serving();
  health::EnterPhase(status, health::Phase::kLaunching, 9000);
  health::EnterPhase(status, health::Phase::kWaitingForPort, 9502);
  health::EnterPhase(status, health::Phase::kServing, 9600);
  CHECK(Contains(TableOf(status),
                 "phases        at 0 ms  StartupHooks, for 1200 ms\n"
                 "              at 9000 ms  Launching, for 502 ms, and 1 ms before\n"
                 "              at 9502 ms  WaitingForPort, for 98 ms, and 299 ms before\n"
                 "              at 9600 ms  Serving, and 7500 ms before\n"));
}

TEST_CASE("the status says what is wrong, and what a stop is about") {
  health::AgentStatus status = Serving();
  status.checks = 12;
  status.check_failures = 2;
  status.consecutive_failures = 2;
  status.failure_threshold = 3;
  SetBoardText(status.last_failure, "GET /up: 503");
  status.restarts = 1;
  status.hooks_run = 2;
  status.hooks_failed = 1;
  CHECK(Contains(TableOf(status),
                 "failing; checks: 12, failures: 2 (2 in a row, of 3); the last: GET /up: 503\n"));
  CHECK(Contains(TableOf(status), "./server --fast (pid 7), restarts: 1\n"));
  CHECK(Contains(TableOf(status), "hooks         2 run, 1 failed\n"));

  status.ready = false;
  status.drain_requested = true;
  CHECK(Contains(TableOf(status), "ready         no: a drain was asked for\n"));
  status.live = false;
  CHECK(Contains(TableOf(status), "unhealthy; checks: 12"));

  SetBoardText(status.stop_by, "SIGTERM from pid 12");
  SetBoardText(status.stop_reason, "asked to stop");
  status.stop_longest_ms = 35'000;
  status.exit_code = 121;
  CHECK(Contains(TableOf(status),
                 "stop          SIGTERM from pid 12: asked to stop (takes 35.0 s at most)\n"));
  CHECK(Contains(TableOf(status), "exit code     121\n"));
}

TEST_CASE("the status of a waiting agent says what was found instead") {
  health::AgentStatus status = health::NewAgentStatus();
  status.port = 8000;
  CHECK(Contains(TableOf(status), "port          8000, not listening\n"));
  SetBoardText(status.waiting_note, "nothing listens on port 8000");
  CHECK(Contains(TableOf(status), "port          8000, nothing listens on port 8000\n"));
  CHECK(Contains(TableOf(status), "server        none of ours\n"));
}

TEST_CASE("the status of a data plane is short") {
  health::AgentStatus status = Serving();
  SetBoardText(status.listen, "0.0.0.0:80");
  SetBoardText(status.upstream, "127.0.0.1:8000");
  health::GatewayStatus gateway{};
  const auto table = [&] { return *StatusTable(health::StatusJson(status, &gateway), 0); };
  CHECK(Contains(table(), "listen        0.0.0.0:80 -> 127.0.0.1:8000\n"));
  CHECK_FALSE(Contains(table(), "requests "));
  gateway.carries = 1;
  gateway.traffic.requests = 120;
  CHECK(Contains(table(), "requests      0 in flight, 120 so far\n"));
  gateway.traffic.in_flight = 4;
  gateway.traffic.queued = 1;
  gateway.traffic.websockets = 2;
  gateway.traffic.refused[static_cast<size_t>(policy::Refusal::kNotReady)] = 1;
  gateway.traffic.refused[static_cast<size_t>(policy::Refusal::kRateLimited)] = 2;
  CHECK(Contains(table(),
                 "requests      4 in flight (1 queued, 2 websockets), 120 so far; "
                 "refused: 3 (rate_limited 2, not_ready 1)\n"));
}

TEST_CASE("the timeline shows how the server came to be, and its steps") {
  health::AgentStatus status = Serving();
  SetBoardText(status.origin, "restore");
  SetBoardText(status.snapshot_key, "65f7aa5c00000000");
  status.restored_ms = 1400;
  status.timeline.Enter(BootStep::kRestore, 1'000);
  status.timeline.Add({BootStep::kRestoreMemory, 0, 2'000, 1'400'000}, 1'400'000);
  status.timeline.Enter(BootStep::kServing, 1'500'000);
  const auto shown = [&status] { return *TimelineText(health::StatusJson(status, nullptr), 60); };
  CHECK(shown() ==
        "start         restored from 65f7aa5c after 1400 ms\n"
        "ready         after 1500 ms\n"
        "\n"
        "                at      took  0                       1.50 s\n"
        "restore    1.00 ms    1.49 s  ##############################\n"
        "  memory   2.00 ms    1.39 s  ============================\n"
        "serving     1.50 s                                         >\n");
  status = health::NewAgentStatus();
  CHECK(shown() ==
        "start         cold\nready         not yet (StartupHooks)\n"
        "The agent says nothing of its steps.\n");
}

TEST_CASE("a timeline of another version, or of nobody we know, is shown as far as it goes") {
  CHECK_FALSE(TimelineText("[]", 80).ok());
  for (const std::string_view steps :
       {"7", "{}", "[7]", "[{}]", R"([{"step":5}])", R"([{"step":"a"}])",
        R"([{"step":"\u001b[31m","begin_ms":"x","ms":1e300,"failed":3}])",
        R"([{"step":"b.c","begin_ms":-1e300,"ms":-5}])"}) {
    CAPTURE(steps);
    const Result<std::string> text = TimelineText(Concat(R"({"timeline":)", steps, "}"), 80);
    REQUIRE(text.ok());
    CHECK_FALSE(Contains(*text, "\x1b"));
  }
}

TEST_CASE("a server at no port is said by its socket") {
  health::AgentStatus status = Serving();
  status.port = 0;
  SetBoardText(status.listening, "unix:/run/app.sock");
  CHECK(Contains(TableOf(status), "port          at unix:/run/app.sock\n"));
}

TEST_CASE("a command's name cannot write control sequences to the terminal") {
  health::AgentStatus status = Serving();
  SetBoardText(status.command, "./x\x1b]0;title\x07\n\x1b[2J");
  for (const char c : TableOf(status)) CHECK((static_cast<unsigned char>(c) >= 0x20 || c == '\n'));
}

TEST_CASE(
    "answers of another version, with keys missing or of other types, are shown as they can be") {
  CHECK(StatusTable("{}", 0).ok());
  CHECK(StatusTable(R"({"phase":3,"ready":"yes","entered_ms":[1],"spent_ms":{"x":"y"},"port":"a"})",
                    0)
            .ok());
  CHECK(Contains(TableOf(Serving(), 999'999), "modal-agent 1.2.3, pid 1\n"));
}

}  // namespace
}  // namespace modal

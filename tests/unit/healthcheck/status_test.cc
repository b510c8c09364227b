#include "healthcheck/status.h"

#include <doctest/doctest.h>

#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "agent/base/status_board.h"
#include "healthcheck/status_json.h"

namespace modal::health {
namespace {

using Json = nlohmann::ordered_json;

Json Parsed(const AgentStatus& status, const GatewayStatus* gateway = nullptr) {
  return Json::parse(StatusJson(status, gateway));
}

std::vector<std::string> Keys(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  return keys;
}

TEST_CASE("every phase has its name, and any other number is Unknown") {
  CHECK(PhaseName(Phase::kStartupHooks) == "StartupHooks");
  CHECK(PhaseName(Phase::kRestoring) == "Restoring");
  CHECK(PhaseName(Phase::kLaunching) == "Launching");
  CHECK(PhaseName(Phase::kWaitingForPort) == "WaitingForPort");
  CHECK(PhaseName(Phase::kServing) == "Serving");
  CHECK(PhaseName(Phase::kCheckpointing) == "Checkpointing");
  CHECK(PhaseName(Phase::kDraining) == "Draining");
  CHECK(PhaseName(Phase::kStopping) == "Stopping");
  CHECK(PhaseName(Phase::kStopped) == "Stopped");
  CHECK(PhaseName(static_cast<Phase>(kPhaseCount)) == "Unknown");
  CHECK(PhaseName(static_cast<Phase>(0xffffffff)) == "Unknown");
}

TEST_CASE("a phase lasts until the next one is entered, and its visits add up") {
  AgentStatus status = NewAgentStatus();
  EnterPhase(status, Phase::kLaunching, 10);
  EnterPhase(status, Phase::kServing, 15);
  EnterPhase(status, Phase::kLaunching, 115);  // a restart
  EnterPhase(status, Phase::kServing, 122);
  CHECK(status.phase == Phase::kServing);
  // The last visit: when it began, and how long it took.
  CHECK(status.entered_ms[static_cast<size_t>(Phase::kLaunching)] == 115);
  CHECK(status.spent_ms[static_cast<size_t>(Phase::kLaunching)] == 7);
  CHECK(status.total_ms[static_cast<size_t>(Phase::kLaunching)] == 12);
  // One that is not over.
  CHECK(status.entered_ms[static_cast<size_t>(Phase::kServing)] == 122);
  CHECK(status.spent_ms[static_cast<size_t>(Phase::kServing)] == 0);
  CHECK(status.total_ms[static_cast<size_t>(Phase::kServing)] == 100);
}

TEST_CASE("a phase that is entered while it is current goes on") {
  AgentStatus status = NewAgentStatus();
  EnterPhase(status, Phase::kServing, 10);
  EnterPhase(status, Phase::kServing, 30);
  EnterPhase(status, Phase::kDraining, 60);
  CHECK(status.total_ms[static_cast<size_t>(Phase::kServing)] == 50);
}

TEST_CASE("the status of an agent that has just started has nulls for what has not happened") {
  const Json json = Parsed(NewAgentStatus());
  CHECK(json["phase"] == "StartupHooks");
  CHECK(json["live"] == true);
  CHECK(json["ready"] == false);
  for (const std::string key :
       {"ready_ms", "last_check_ms", "stop_longest_ms", "exit_code", "gateway"}) {
    INFO(key);
    CHECK(json[key].is_null());
  }
  CHECK(json["entered_ms"].empty());
  CHECK(json["spent_ms"].empty());
}

TEST_CASE("the status names what each field holds") {
  AgentStatus status = NewAgentStatus();
  SetBoardText(status.version, "1.2.3");
  status.agent_pid = 1;
  status.started_unix_ms = 1'700'000'000'123;
  EnterPhase(status, Phase::kStartupHooks, 0);
  EnterPhase(status, Phase::kLaunching, 40);
  EnterPhase(status, Phase::kWaitingForPort, 42);
  EnterPhase(status, Phase::kServing, 90);
  status.ready_ms = 90;
  status.ready = status.startup_done = true;
  status.port = 8000;
  SetBoardText(status.listening, "0.0.0.0:8000");
  SetBoardText(status.command, "./server \"--name=\xc3\xa4\"");
  status.checks = 12;
  status.exit_code = 0;

  const Json json = Parsed(status);
  CHECK(json["version"] == "1.2.3");
  CHECK(json["agent_pid"] == 1);
  CHECK(json["started_unix_ms"] == 1'700'000'000'123);
  CHECK(json["phase"] == "Serving");
  CHECK(json["ready_ms"] == 90);
  CHECK(json["ready"] == true);
  CHECK(json["port"] == 8000);
  CHECK(json["listening"] == "0.0.0.0:8000");
  CHECK(json["command"] == "./server \"--name=\xc3\xa4\"");
  CHECK(json["checks"] == 12);
  CHECK(json["exit_code"] == 0);
  CHECK(json["entered_ms"] ==
        Json({{"StartupHooks", 0}, {"Launching", 40}, {"WaitingForPort", 42}, {"Serving", 90}}));
  CHECK(json["spent_ms"] ==
        Json({{"StartupHooks", 40}, {"Launching", 2}, {"WaitingForPort", 48}, {"Serving", 0}}));
  CHECK(json["total_ms"] == json["spent_ms"]);
}

TEST_CASE("the steps of the boot are listed with milliseconds, and null while one is under way") {
  AgentStatus status = NewAgentStatus();
  CHECK(Parsed(status)["timeline"] == Json::array());
  status.timeline.Enter(BootStep::kRestore, 250);
  status.timeline.Add({BootStep::kRestoreMemory, 1, 1'000, 3'500}, 9'000);
  status.timeline.Enter(BootStep::kPort, 9'000);
  CHECK(Parsed(status)["timeline"] ==
        Json({{{"step", "restore"}, {"begin_ms", 0.25}, {"ms", 8.75}, {"failed", true}},
              {{"step", "restore.memory"}, {"begin_ms", 1.0}, {"ms", 2.5}, {"failed", true}},
              {{"step", "port"}, {"begin_ms", 9.0}, {"ms", nullptr}, {"failed", false}}}));
}

TEST_CASE("the phases are in the order in which they were entered") {
  AgentStatus status = NewAgentStatus();
  EnterPhase(status, Phase::kLaunching, 10);
  EnterPhase(status, Phase::kServing, 20);
  EnterPhase(status, Phase::kLaunching, 500);
  CHECK(Keys(Parsed(status)["entered_ms"]) == std::vector<std::string>{"Serving", "Launching"});
}

TEST_CASE("the gateway's counters stand in an object of their own") {
  GatewayStatus gateway{};
  gateway.pid = 7;
  gateway.sealed = 1;
  gateway.connections_accepted = 5;
  gateway.connections_refused = 4;
  gateway.connections_timed_out = 3;
  gateway.connections_open = 2;
  gateway.requests = 9;
  gateway.bad_requests = 1;
  CHECK(Parsed(NewAgentStatus(), &gateway)["gateway"] == Json({{"pid", 7},
                                                               {"sealed", true},
                                                               {"connections_accepted", 5},
                                                               {"connections_refused", 4},
                                                               {"connections_timed_out", 3},
                                                               {"connections_open", 2},
                                                               {"requests", 9},
                                                               {"bad_requests", 1}}));
}

TEST_CASE("the data plane says where it stands, and what it has carried") {
  AgentStatus status = NewAgentStatus();
  CHECK(Parsed(status)["listen"] == "");
  SetBoardText(status.listen, "0.0.0.0:80");
  SetBoardText(status.upstream, "127.0.0.1:8000");
  status.max_concurrency = 50;
  status.target_concurrency = 40;
  GatewayStatus gateway{};
  gateway.carries = 1;
  gateway.threads = 2;
  policy::TrafficStatus& traffic = gateway.traffic;
  traffic.requests = 30;
  traffic.by_status[404 - 100] = 6;
  traffic.refused[static_cast<size_t>(policy::Refusal::kDraining)] = 5;
  traffic.latency.buckets[0] = 4;
  traffic.latency.buckets[16] = 3;
  traffic.latency.sum_us = 77;
  traffic.in_flight = 8;

  const Json json = Parsed(status, &gateway);
  CHECK(json["listen"] == "0.0.0.0:80");
  CHECK(json["upstream"] == "127.0.0.1:8000");
  CHECK(json["max_concurrency"] == 50);
  CHECK(json["target_concurrency"] == 40);
  const Json& seen = json["gateway"]["traffic"];
  CHECK(seen["threads"] == 2);
  CHECK(seen["requests"] == 30);
  CHECK(seen["by_status"] == Json({{"404", 6}}));
  CHECK(seen["refused"] == Json({{"draining", 5}}));
  CHECK(seen["latency"] == Json({{"count", 7}, {"sum_us", 77}}));
  CHECK(seen["upstream_latency"] == Json({{"count", 0}, {"sum_us", 0}}));
  CHECK(seen["in_flight"] == 8);
  CHECK(seen["queued"] == 0);
}

TEST_CASE("numbers of a gateway that lies are cut to what JSON readers take") {
  GatewayStatus gateway{};
  gateway.requests = std::numeric_limits<uint64_t>::max();
  const Json json = Parsed(NewAgentStatus(), &gateway);
  CHECK(json["gateway"]["requests"] == std::numeric_limits<int64_t>::max());
}

TEST_CASE("the status is JSON whatever bytes stand on the board") {
  AgentStatus status = NewAgentStatus();
  status.phase = static_cast<Phase>(77);
  std::memset(status.command, 0xff, sizeof status.command);  // no NUL anywhere
  std::memset(status.last_failure, '\n', sizeof status.last_failure);
  std::memset(status.stop_by, '"', sizeof status.stop_by);
  const Json json = Parsed(status);
  CHECK(json["phase"] == "Unknown");
  CHECK(json["stop_by"] == std::string(sizeof status.stop_by, '"'));
  CHECK(json["last_failure"] == std::string(sizeof status.last_failure, '\n'));
}

TEST_CASE("a character that was cut at the end of its field is left out") {
  AgentStatus status = NewAgentStatus();
  const size_t room = sizeof status.stop_by - 1;
  for (const std::string character : {"\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80"}) {
    for (size_t fits = 0; fits <= character.size(); ++fits) {
      const std::string before(room - fits, 'x');
      SetBoardText(status.stop_by, before + character + "more");
      INFO(character, " of which ", fits, " bytes fit");
      CHECK(Parsed(status)["stop_by"] == (fits == character.size() ? before + character : before));
    }
  }
}

}  // namespace
}  // namespace modal::health

#include "healthcheck/metrics.h"

#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <limits>
#include <map>
#include <set>

#include "agent/base/status_board.h"
#include "agent/base/strings.h"

namespace modal::health {
namespace {

AgentStatus ServingStatus() {
  AgentStatus status = NewAgentStatus();
  SetBoardText(status.version, "1.2.3");
  status.started_unix_ms = 1'700'000'000'250;
  EnterPhase(status, Phase::kStartupHooks, 0);
  EnterPhase(status, Phase::kLaunching, 1'500);
  EnterPhase(status, Phase::kWaitingForPort, 1'507);
  EnterPhase(status, Phase::kServing, 2'050);
  status.ready = status.startup_done = true;
  status.ready_ms = 2'050;
  status.workload_pid = 12;
  status.restarts = 3;
  status.checks = 40;
  status.check_failures = 6;
  status.consecutive_failures = 1;
  status.failure_threshold = 3;
  status.hooks_run = 2;
  status.hooks_failed = 1;
  status.orphans_reaped = 1'000;
  status.log_lines_lost = 8;
  status.gateway_restarts = 4;
  return status;
}

GatewayStatus BusyGateway() {
  GatewayStatus gateway{};
  gateway.sealed = 1;
  gateway.connections_accepted = 100;
  gateway.connections_refused = 5;
  gateway.connections_timed_out = 6;
  gateway.connections_open = 7;
  gateway.requests = 800;
  gateway.bad_requests = 9;
  return gateway;
}

// A gateway with a data plane that has seen everything.
GatewayStatus CarryingGateway() {
  GatewayStatus gateway = BusyGateway();
  gateway.carries = 1;
  gateway.threads = 2;
  policy::TrafficStatus& traffic = gateway.traffic;
  traffic.requests = 1'000;
  traffic.by_status[200 - 100] = 900;
  traffic.by_status[599 - 100] = 1;
  traffic.refused[static_cast<size_t>(policy::Refusal::kRateLimited)] = 40;
  traffic.client_gone = 2;
  traffic.upstream_retries = 3;
  traffic.websockets_opened = 4;
  traffic.bytes_received = 5'000'000'000;
  traffic.bytes_sent = 6'000'000'000;
  traffic.in_flight = 7;
  traffic.queued = 8;
  traffic.held = 9;
  traffic.websockets = 10;
  traffic.client_connections = 11;
  traffic.upstream_connections = 12;
  traffic.upstream_idle = 13;
  traffic.latency.buckets[0] = 5;
  traffic.latency.buckets[9] = 3;
  traffic.latency.buckets[policy::kLatencyBounds.size()] = 2;
  traffic.latency.sum_us = 123'004'567;
  traffic.upstream_latency.buckets[1] = 1;
  traffic.upstream_latency.sum_us = 999;
  return gateway;
}

std::vector<std::string> LinesOf(const std::string& text) {
  std::vector<std::string> lines = Split(text, '\n');
  REQUIRE(lines.back().empty());
  lines.pop_back();
  return lines;
}

// The samples: "name{labels}" and value.
std::map<std::string, std::string> Samples(const std::string& text) {
  std::map<std::string, std::string> samples;
  for (const std::string& line : LinesOf(text)) {
    if (line.starts_with("#")) continue;
    const size_t space = line.rfind(' ');
    REQUIRE(space != std::string::npos);
    const bool is_new = samples.emplace(line.substr(0, space), line.substr(space + 1)).second;
    INFO(line);
    CHECK(is_new);
  }
  return samples;
}

TEST_CASE("the steps of the start are gauges, with those that came by again added up") {
  AgentStatus status = ServingStatus();
  status.timeline.Enter(BootStep::kRestore, 1'000);
  status.timeline.Add({BootStep::kRestoreMemory, 1, 2'000, 6'500}, 10'000);
  status.timeline.Enter(BootStep::kPort, 11'000);
  status.timeline.Enter(BootStep::kPort, 13'000);
  status.timeline.Enter(BootStep::kServing, 18'000);
  auto samples = Samples(Metrics(status, nullptr, 0));
  CHECK(samples["modal_agent_boot_step_seconds{step=\"restore\"}"] == "0.010000");
  CHECK(samples["modal_agent_boot_step_seconds{step=\"restore.memory\"}"] == "0.004500");
  CHECK(samples["modal_agent_boot_step_seconds{step=\"port\"}"] == "0.007000");
  CHECK(samples.count("modal_agent_boot_step_seconds{step=\"serving\"}") == 0);
  CHECK(samples.count("modal_agent_snapshot_origin{origin=\"cold\"}") == 0);
}

TEST_CASE("with snapshots the metrics tell how the server came to be, and what that took") {
  AgentStatus status = ServingStatus();
  SetBoardText(status.origin, "restore");
  status.restored_ms = 30;
  auto samples = Samples(Metrics(status, nullptr, 0));
  CHECK(samples["modal_agent_snapshot_origin{origin=\"restore\"}"] == "1");
  CHECK(samples["modal_agent_snapshot_origin{origin=\"cold\"}"] == "0");
  CHECK(samples["modal_agent_snapshot_restored_seconds"] == "0.030");
  CHECK(samples.count("modal_agent_snapshot_dump_seconds") == 0);
  SetBoardText(status.origin, "cold");
  status.restored_ms = -1;
  status.dump_ms = 79;
  samples = Samples(Metrics(status, nullptr, 0));
  CHECK(samples["modal_agent_snapshot_origin{origin=\"cold\"}"] == "1");
  CHECK(samples["modal_agent_snapshot_dump_seconds"] == "0.079");
  CHECK(samples.count("modal_agent_snapshot_restored_seconds") == 0);
}

TEST_CASE("the metrics tell what the status tells, in seconds") {
  const GatewayStatus gateway = BusyGateway();
  auto samples = Samples(Metrics(ServingStatus(), &gateway, 1'700'000'060'300));
  CHECK(samples["modal_agent_build_info{version=\"1.2.3\"}"] == "1");
  CHECK(samples["modal_agent_start_time_seconds"] == "1700000000.250");
  CHECK(samples["modal_agent_uptime_seconds"] == "60.050");
  CHECK(samples["modal_agent_startup_done"] == "1");
  CHECK(samples["modal_agent_ready"] == "1");
  CHECK(samples["modal_agent_live"] == "1");
  CHECK(samples["modal_agent_time_to_ready_seconds"] == "2.050");
  CHECK(samples["modal_agent_phase_seconds_total{phase=\"StartupHooks\"}"] == "1.500");
  CHECK(samples["modal_agent_phase_seconds_total{phase=\"Launching\"}"] == "0.007");
  CHECK(samples["modal_agent_phase_seconds_total{phase=\"Stopped\"}"] == "0.000");
  CHECK(samples["modal_agent_workload_running"] == "1");
  CHECK(samples["modal_agent_workload_restarts_total"] == "3");
  CHECK(samples["modal_agent_health_checks_total"] == "40");
  CHECK(samples["modal_agent_health_check_failures_total"] == "6");
  CHECK(samples["modal_agent_health_check_consecutive_failures"] == "1");
  CHECK(samples["modal_agent_health_check_failure_threshold"] == "3");
  CHECK(samples["modal_agent_hooks_total"] == "2");
  CHECK(samples["modal_agent_hook_failures_total"] == "1");
  CHECK(samples["modal_agent_orphans_reaped_total"] == "1000");
  CHECK(samples["modal_agent_log_lines_lost_total"] == "8");
  CHECK(samples["modal_agent_gateway_restarts_total"] == "4");
  CHECK(samples["modal_agent_gateway_sealed"] == "1");
  CHECK(samples["modal_agent_gateway_connections_accepted_total"] == "100");
  CHECK(samples["modal_agent_gateway_connections_refused_total"] == "5");
  CHECK(samples["modal_agent_gateway_connections_timed_out_total"] == "6");
  CHECK(samples["modal_agent_gateway_connections_open"] == "7");
  CHECK(samples["modal_agent_gateway_requests_total"] == "800");
  CHECK(samples["modal_agent_gateway_bad_requests_total"] == "9");
}

TEST_CASE("exactly one phase is the current one") {
  AgentStatus status = NewAgentStatus();
  for (int current = 0; current < kPhaseCount; ++current) {
    status.phase = static_cast<Phase>(current);
    auto samples = Samples(Metrics(status, nullptr, 0));
    for (int phase = 0; phase < kPhaseCount; ++phase) {
      const std::string_view name = PhaseName(static_cast<Phase>(phase));
      INFO(name);
      CHECK(samples[Concat("modal_agent_phase{phase=\"", name, "\"}")] ==
            (phase == current ? "1" : "0"));
    }
  }
}

TEST_CASE("what is not known yet is left out, and so is a gateway that is not there") {
  const std::string text = Metrics(NewAgentStatus(), nullptr, 0);
  CHECK(text.find("time_to_ready") == std::string::npos);
  CHECK(text.find("gateway_requests") == std::string::npos);
  CHECK(text.find("gateway_restarts_total 0") != std::string::npos);
}

TEST_CASE("every metric has its help and its type, each once and before its samples") {
  const GatewayStatus gateway = BusyGateway();
  std::set<std::string> seen;
  std::string current;
  std::string type;
  for (const std::string& line : LinesOf(Metrics(ServingStatus(), &gateway, 0))) {
    INFO(line);
    const std::vector<std::string> words = Split(line, ' ');
    if (line.starts_with("# HELP ")) {
      current = words[2];
      type.clear();
      CHECK(seen.insert(current).second);
      CHECK(words.size() > 3);
    } else if (line.starts_with("# TYPE ")) {
      CHECK(words[2] == current);
      type = words[3];
      CHECK((type == "counter") == current.ends_with("_total"));
    } else {
      CHECK(line.substr(0, line.find_first_of("{ ")) == current);
      CHECK_FALSE(type.empty());
      CHECK(current.starts_with("modal_agent_"));
    }
  }
}

TEST_CASE("the data plane is counted by status and by reason, and told as gauges") {
  AgentStatus status = ServingStatus();
  status.max_concurrency = 50;
  status.target_concurrency = 40;
  const GatewayStatus gateway = CarryingGateway();
  auto samples = Samples(Metrics(status, &gateway, 1'700'000'060'300));
  CHECK(samples["modal_requests_total"] == "1000");
  CHECK(samples["modal_responses_total{code=\"200\"}"] == "900");
  CHECK(samples["modal_responses_total{code=\"599\"}"] == "1");
  CHECK(samples.count("modal_responses_total{code=\"404\"}") == 0);
  CHECK(samples["modal_requests_refused_total{reason=\"rate_limited\"}"] == "40");
  CHECK(samples["modal_requests_refused_total{reason=\"not_ready\"}"] == "0");
  CHECK(samples["modal_clients_gone_total"] == "2");
  CHECK(samples["modal_upstream_retries_total"] == "3");
  CHECK(samples["modal_websockets_opened_total"] == "4");
  CHECK(samples["modal_received_bytes_total"] == "5000000000");
  CHECK(samples["modal_sent_bytes_total"] == "6000000000");
  CHECK(samples["modal_requests_in_flight"] == "7");
  CHECK(samples["modal_requests_queued"] == "8");
  CHECK(samples["modal_requests_held"] == "9");
  CHECK(samples["modal_websockets"] == "10");
  CHECK(samples["modal_client_connections"] == "11");
  CHECK(samples["modal_upstream_connections"] == "12");
  CHECK(samples["modal_upstream_idle_connections"] == "13");
  CHECK(samples["modal_max_concurrency"] == "50");
  CHECK(samples["modal_target_concurrency"] == "40");
  CHECK(samples["modal_gateway_threads"] == "2");
}

TEST_CASE("the buckets of a histogram hold everything below their bound") {
  const GatewayStatus gateway = CarryingGateway();
  auto samples = Samples(Metrics(ServingStatus(), &gateway, 1'700'000'060'300));
  const auto bucket = [&samples](const std::string& bound) {
    return samples["modal_request_duration_seconds_bucket{le=\"" + bound + "\"}"];
  };
  CHECK(bucket("0.0005") == "5");
  CHECK(bucket("0.25") == "5");
  CHECK(bucket("0.5") == "8");
  CHECK(bucket("60") == "8");
  CHECK(bucket("+Inf") == "10");
  CHECK(samples["modal_request_duration_seconds_sum"] == "123.004567");
  CHECK(samples["modal_request_duration_seconds_count"] == "10");
  CHECK(samples["modal_upstream_duration_seconds_sum"] == "0.000999");
  CHECK(samples["modal_upstream_duration_seconds_count"] == "1");
}

TEST_CASE("without a data plane there is nothing about one") {
  const GatewayStatus gateway = BusyGateway();
  const std::string text = Metrics(ServingStatus(), &gateway, 1'700'000'060'300);
  CHECK(text.find("modal_requests_total") == std::string::npos);
  CHECK(text.find("duration_seconds") == std::string::npos);
}

TEST_CASE("nothing on a board can break out of its line") {
  AgentStatus status = ServingStatus();
  SetBoardText(status.version, "1\"} 7\nmodal_agent_ready 0\\\xff");
  status.phase = static_cast<Phase>(1'000);
  GatewayStatus gateway{};
  gateway.requests = std::numeric_limits<uint64_t>::max();
  auto samples = Samples(Metrics(status, &gateway, std::numeric_limits<int64_t>::min() / 2));
  CHECK(samples.count("modal_agent_build_info{version=\"1?} 7?modal_agent_ready 0??\"}") == 1);
  CHECK(samples["modal_agent_ready"] == "1");
  CHECK(samples["modal_agent_gateway_requests_total"] == "18446744073709551615");
  CHECK(samples["modal_agent_uptime_seconds"] == "0.000");
}

TEST_CASE("Prometheus' own checker finds nothing to say about the metrics") {
  if (std::system("command -v promtool >/dev/null 2>&1") != 0) {
    MESSAGE("skipped: promtool (of Debian's package prometheus) is not installed");
    return;
  }
  const GatewayStatus gateway = BusyGateway();
  const GatewayStatus carrying = CarryingGateway();
  for (const AgentStatus& status : {NewAgentStatus(), ServingStatus()}) {
    for (const GatewayStatus* seen :
         {static_cast<const GatewayStatus*>(nullptr), &gateway, &carrying}) {
      const std::string text = Metrics(status, seen, 1'700'000'060'300);
      FILE* promtool = ::popen("promtool check metrics", "w");
      REQUIRE(promtool != nullptr);
      std::fwrite(text.data(), 1, text.size(), promtool);
      CHECK(::pclose(promtool) == 0);
    }
  }
}

}  // namespace
}  // namespace modal::health

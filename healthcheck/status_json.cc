#include "healthcheck/status_json.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/json_writer.h"
#include "agent/base/status_board.h"

namespace modal::health {
namespace {

// Without the first bytes of a character at its end, the rest of which did not fit on the board.
std::string_view WithoutCutCharacter(std::string_view text) {
  const size_t back = std::min<size_t>(text.size(), 4);
  for (size_t tail = 1; tail <= back; ++tail) {
    const auto byte = static_cast<unsigned char>(text[text.size() - tail]);
    if ((byte & 0xc0) == 0x80) continue;  // inside of a character
    const size_t length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return length > tail ? text.substr(0, text.size() - tail) : text;
  }
  return text;
}

template <size_t kSize>
std::string_view Text(const char (&from)[kSize]) {
  const std::string_view text = BoardText(from);
  return text.size() + 1 < kSize ? text : WithoutCutCharacter(text);
}

void Count(JsonWriter& json, std::string_view key, uint64_t value) {
  constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
  json.Key(key).Number(static_cast<int64_t>(std::min(value, kMost)));
}

// A number that is negative until it is known.
void Known(JsonWriter& json, std::string_view key, int64_t value) {
  json.Key(key);
  value < 0 ? json.Null() : json.Number(value);
}

std::vector<size_t> PhasesInOrderOfEntry(const AgentStatus& status) {
  std::vector<size_t> phases;
  for (size_t phase = 0; phase < kPhaseCount; ++phase) {
    if (status.entered_ms[phase] >= 0) phases.push_back(phase);
  }
  std::stable_sort(phases.begin(), phases.end(), [&status](size_t a, size_t b) {
    return status.entered_ms[a] < status.entered_ms[b];
  });
  return phases;
}

void Phases(JsonWriter& json, const AgentStatus& status) {
  const std::vector<size_t> phases = PhasesInOrderOfEntry(status);
  for (const auto& [key, times] :
       {std::pair("entered_ms", status.entered_ms), std::pair("spent_ms", status.spent_ms),
        std::pair("total_ms", status.total_ms)}) {
    json.Key(key).BeginObject();
    for (const size_t phase : phases) {
      json.Key(PhaseName(static_cast<Phase>(phase))).Number(times[phase]);
    }
    json.EndObject();
  }
}

// [{"step":"restore.memory","begin_ms":12.345,"ms":3.210,"failed":false},...]; `ms` is null while
// it is under way.
void Timeline(JsonWriter& json, const BootTimeline& timeline) {
  json.Key("timeline").BeginArray();
  for (const BootSpan& span : timeline.spans()) {
    json.BeginObject().Key("step").String(BootStepName(span.step));
    json.Key("begin_ms").Thousandths(span.begin_us);
    json.Key("ms");
    span.end_us < 0 ? json.Null()
                    : json.Thousandths(span.end_us - std::max<int64_t>(span.begin_us, 0));
    json.Key("failed").Bool(span.failed != 0).EndObject();
  }
  json.EndArray();
}

void Latency(JsonWriter& json, std::string_view key,
             const policy::BasicHistogram<uint64_t>& histogram) {
  json.Key(key).BeginObject();
  Count(json, "count",
        std::accumulate(std::begin(histogram.buckets), std::end(histogram.buckets), uint64_t{0}));
  Count(json, "sum_us", histogram.sum_us);
  json.EndObject();
}

// Reasons and statuses that have not occurred are left out.
void Traffic(JsonWriter& json, const GatewayStatus& gateway) {
  const policy::TrafficStatus& traffic = gateway.traffic;
  json.BeginObject();
  Count(json, "threads", gateway.threads);
  Count(json, "requests", traffic.requests);
  json.Key("by_status").BeginObject();
  for (size_t i = 0; i < std::size(traffic.by_status); ++i) {
    if (traffic.by_status[i] != 0) Count(json, std::to_string(i + 100), traffic.by_status[i]);
  }
  json.EndObject();
  json.Key("refused").BeginObject();
  for (size_t i = 0; i < policy::kRefusalCount; ++i) {
    const std::string_view reason = policy::RefusalName(static_cast<policy::Refusal>(i));
    if (traffic.refused[i] != 0) Count(json, reason, traffic.refused[i]);
  }
  json.EndObject();
  Latency(json, "latency", traffic.latency);
  Latency(json, "upstream_latency", traffic.upstream_latency);
  Count(json, "client_gone", traffic.client_gone);
  Count(json, "upstream_retries", traffic.upstream_retries);
  Count(json, "websockets_opened", traffic.websockets_opened);
  Count(json, "bytes_received", traffic.bytes_received);
  Count(json, "bytes_sent", traffic.bytes_sent);
  Count(json, "in_flight", traffic.in_flight);
  Count(json, "queued", traffic.queued);
  Count(json, "held", traffic.held);
  Count(json, "websockets", traffic.websockets);
  Count(json, "client_connections", traffic.client_connections);
  Count(json, "upstream_connections", traffic.upstream_connections);
  Count(json, "upstream_idle", traffic.upstream_idle);
  json.EndObject();
}

void Gateway(JsonWriter& json, const GatewayStatus* gateway) {
  json.Key("gateway");
  if (!gateway) {
    json.Null();
    return;
  }
  json.BeginObject();
  json.Key("pid").Number(gateway->pid);
  json.Key("sealed").Bool(gateway->sealed != 0);
  Count(json, "connections_accepted", gateway->connections_accepted);
  Count(json, "connections_refused", gateway->connections_refused);
  Count(json, "connections_timed_out", gateway->connections_timed_out);
  Count(json, "connections_open", gateway->connections_open);
  Count(json, "requests", gateway->requests);
  Count(json, "bad_requests", gateway->bad_requests);
  if (gateway->carries) Traffic(json.Key("traffic"), *gateway);
  json.EndObject();
}

// Null without --snapshot-dir.
void Snapshot(JsonWriter& json, const AgentStatus& status) {
  json.Key("snapshot");
  if (status.origin[0] == '\0') {
    json.Null();
    return;
  }
  json.BeginObject();
  json.Key("origin").String(Text(status.origin));
  json.Key("key").String(Text(status.snapshot_key));
  json.Key("note").String(Text(status.snapshot_note));
  Known(json, "restored_ms", status.restored_ms);
  if (status.snapshot_pages[0] != '\0') {
    json.Key("pages").String(Text(status.snapshot_pages));
    Known(json, "pages_in_ms", status.pages_in_ms);
  }
  Known(json, "dump_ms", status.dump_ms);
  json.EndObject();
}

}  // namespace

std::string StatusJson(const AgentStatus& status, const GatewayStatus* gateway) {
  JsonWriter json;
  json.BeginObject();
  json.Key("version").String(Text(status.version));
  json.Key("agent_pid").Number(status.agent_pid);
  json.Key("started_unix_ms").Number(status.started_unix_ms);
  json.Key("updated_ms").Number(status.updated_ms);

  json.Key("phase").String(PhaseName(status.phase));
  Phases(json, status);
  Known(json, "ready_ms", status.ready_ms);
  Timeline(json, status.timeline);
  json.Key("startup_done").Bool(status.startup_done);
  json.Key("ready").Bool(status.ready);
  json.Key("live").Bool(status.live);
  json.Key("drain_requested").Bool(status.drain_requested);

  Snapshot(json, status);
  json.Key("workload_pid").Number(status.workload_pid);
  Count(json, "restarts", status.restarts);
  json.Key("command").String(Text(status.command));

  json.Key("port").Number(status.port);
  json.Key("listening").String(Text(status.listening));
  json.Key("waiting_note").String(Text(status.waiting_note));
  json.Key("listen").String(Text(status.listen));
  json.Key("upstream").String(Text(status.upstream));
  Count(json, "max_concurrency", status.max_concurrency);
  Count(json, "target_concurrency", status.target_concurrency);

  Count(json, "checks", status.checks);
  Count(json, "check_failures", status.check_failures);
  Count(json, "consecutive_failures", status.consecutive_failures);
  Count(json, "failure_threshold", status.failure_threshold);
  Known(json, "last_check_ms", status.last_check_ms);
  json.Key("last_failure").String(Text(status.last_failure));

  Count(json, "hooks_run", status.hooks_run);
  Count(json, "hooks_failed", status.hooks_failed);
  Count(json, "orphans_reaped", status.orphans_reaped);
  Count(json, "log_lines_lost", status.log_lines_lost);
  Count(json, "gateway_restarts", status.gateway_restarts);
  Count(json, "connections_draining", status.connections_draining);

  json.Key("stop_by").String(Text(status.stop_by));
  json.Key("stop_reason").String(Text(status.stop_reason));
  Known(json, "stop_longest_ms", status.stop_longest_ms);
  Known(json, "exit_code", status.exit_code);
  Gateway(json, gateway);
  json.EndObject();
  return json.Take();
}

}  // namespace modal::health

#include "healthcheck/metrics.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>

#include "agent/base/status_board.h"
#include "agent/base/strings.h"

namespace modal::health {
namespace {

// 12345 is "12.345".
std::string Seconds(int64_t milliseconds) {
  const int64_t whole = std::max<int64_t>(milliseconds, 0);
  std::string thousandths = std::to_string(whole % 1000);
  thousandths.insert(0, 3 - thousandths.size(), '0');
  return Concat(whole / 1000, '.', thousandths);
}

constexpr int64_t kMostUs = int64_t{1} << 52;

// A label's value may be any UTF-8 text; what we put there never needs more than this.
std::string LabelValue(std::string_view text) {
  std::string value;
  for (const char c : text) {
    const bool plain = c >= ' ' && c <= '~' && c != '"' && c != '\\';
    value += plain ? c : '?';
  }
  return value;
}

// 1234567 is "1.234567".
std::string SecondsOfMicroseconds(uint64_t microseconds) {
  std::string millionths = std::to_string(microseconds % 1'000'000);
  millionths.insert(0, 6 - millionths.size(), '0');
  return Concat(microseconds / 1'000'000, '.', millionths);
}

class Exposition {
 public:
  // `prefix` stands in front of each name.
  explicit Exposition(std::string_view prefix) : prefix_(prefix) {}

  void Counter(std::string_view name, std::string_view help, uint64_t value) {
    Begin(name, help, "counter");
    Sample(name, "", std::to_string(value));
  }
  void Gauge(std::string_view name, std::string_view help, uint64_t value) {
    Begin(name, help, "gauge");
    Sample(name, "", std::to_string(value));
  }
  void GaugeSeconds(std::string_view name, std::string_view help, int64_t milliseconds) {
    Begin(name, help, "gauge");
    Sample(name, "", Seconds(milliseconds));
  }
  void Histogram(std::string_view name, std::string_view help,
                 const policy::BasicHistogram<uint64_t>& histogram) {
    Begin(name, help, "histogram");
    const std::string bucket = Concat(name, "_bucket");
    uint64_t so_far = 0;
    for (size_t i = 0; i < policy::kLatencyBounds.size(); ++i) {
      so_far += histogram.buckets[i];
      Sample(bucket, Concat("le=\"", Bound(policy::kLatencyBounds[i]), '"'),
             std::to_string(so_far));
    }
    so_far += histogram.buckets[policy::kLatencyBounds.size()];
    Sample(bucket, "le=\"+Inf\"", std::to_string(so_far));
    Sample(Concat(name, "_sum"), "", SecondsOfMicroseconds(histogram.sum_us));
    Sample(Concat(name, "_count"), "", std::to_string(so_far));
  }

  void Begin(std::string_view name, std::string_view help, std::string_view type) {
    text_ += Concat("# HELP ", prefix_, name, ' ', help, '\n');
    text_ += Concat("# TYPE ", prefix_, name, ' ', type, '\n');
  }
  // `labels` is empty, or `name="value"`.
  void Sample(std::string_view name, std::string_view labels, std::string_view value) {
    text_ += Concat(prefix_, name);
    if (!labels.empty()) text_ += Concat('{', labels, '}');
    text_ += Concat(' ', value, '\n');
  }

  std::string Take() { return std::move(text_); }

 private:
  // Without the zeros at the end: "0.0005", "0.25", "60".
  static std::string Bound(uint64_t microseconds) {
    std::string bound = SecondsOfMicroseconds(microseconds);
    bound.erase(bound.find_last_not_of('0') + 1);
    if (bound.ends_with('.')) bound.pop_back();
    return bound;
  }

  std::string_view prefix_;
  std::string text_;
};

std::string PhaseLabel(int phase) {
  return Concat("phase=\"", PhaseName(static_cast<Phase>(phase)), '"');
}

void WriteBuild(Exposition& out, const AgentStatus& status, int64_t now_unix_ms) {
  out.Begin("build_info", "Version of the agent; the value is always 1.", "gauge");
  out.Sample("build_info", Concat("version=\"", LabelValue(BoardText(status.version)), '"'), "1");
  out.GaugeSeconds("start_time_seconds", "When the agent started, in seconds since 1970.",
                   status.started_unix_ms);
  out.GaugeSeconds("uptime_seconds", "How long the agent has been running.",
                   now_unix_ms - status.started_unix_ms);
}

void WritePhases(Exposition& out, const AgentStatus& status) {
  out.Begin("phase", "The phase of the container's life: 1 for the current one.", "gauge");
  for (int phase = 0; phase < kPhaseCount; ++phase) {
    out.Sample("phase", PhaseLabel(phase), static_cast<int>(status.phase) == phase ? "1" : "0");
  }
  out.Begin("phase_seconds_total", "Time spent in each phase, the current visit not included.",
            "counter");
  for (int phase = 0; phase < kPhaseCount; ++phase) {
    out.Sample("phase_seconds_total", PhaseLabel(phase), Seconds(status.total_ms[phase]));
  }
}

void WriteReadiness(Exposition& out, const AgentStatus& status) {
  out.Gauge("startup_done", "1 once the workload has been serving.", status.startup_done);
  out.Gauge("ready", "1 while requests are welcome.", status.ready);
  out.Gauge("live", "0 once the workload was found unhealthy.", status.live);
  if (status.ready_ms >= 0) {
    out.GaugeSeconds("time_to_ready_seconds",
                     "From the agent's start until it was ready for the first time.",
                     status.ready_ms);
  }
}

// Of each step so many seconds; one that came by again has all of them.
void WriteBoot(Exposition& out, const AgentStatus& status) {
  out.Begin("boot_step_seconds", "How long each step of the start took; parts have a dot.",
            "gauge");
  std::array<std::optional<int64_t>, kBootStepCount> took_us;
  for (const BootSpan& span : status.timeline.spans()) {
    const auto step = static_cast<size_t>(span.step);
    if (step >= took_us.size() || span.step == BootStep::kServing || span.end_us < 0) continue;
    const int64_t us = span.end_us - std::clamp<int64_t>(span.begin_us, 0, span.end_us);
    took_us[step] = took_us[step].value_or(0) + std::min(us, kMostUs);
  }
  for (size_t step = 0; step < took_us.size(); ++step) {
    if (!took_us[step]) continue;
    const std::string_view name = BootStepName(static_cast<BootStep>(step));
    out.Sample("boot_step_seconds", Concat("step=\"", name, '"'),
               SecondsOfMicroseconds(static_cast<uint64_t>(*took_us[step])));
  }
}

// Nothing without --snapshot-dir.
void WriteSnapshot(Exposition& out, const AgentStatus& status) {
  const std::string_view origin = BoardText(status.origin);
  if (origin.empty()) return;
  out.Begin("snapshot_origin", "How the server came to be: 1 for what holds.", "gauge");
  for (const std::string_view one : {"cold", "restore"}) {
    out.Sample("snapshot_origin", Concat("origin=\"", one, '"'), origin == one ? "1" : "0");
  }
  if (status.restored_ms >= 0) {
    out.GaugeSeconds("snapshot_restored_seconds",
                     "From the agent's start until the restored server ran.", status.restored_ms);
  }
  if (status.dump_ms >= 0) {
    out.GaugeSeconds("snapshot_dump_seconds", "How long the server was disturbed by a dump.",
                     status.dump_ms);
  }
}

void WriteWorkload(Exposition& out, const AgentStatus& status) {
  out.Gauge("workload_running", "1 while the workload's process runs.", status.workload_pid > 0);
  out.Counter("workload_restarts_total", "Times that the workload was started again.",
              status.restarts);
  out.Counter("health_checks_total", "Health checks made.", status.checks);
  out.Counter("health_check_failures_total", "Health checks that failed.", status.check_failures);
  out.Gauge("health_check_consecutive_failures", "Health checks that failed in a row, up to now.",
            status.consecutive_failures);
  out.Gauge("health_check_failure_threshold", "Failures in a row that make the workload unhealthy.",
            status.failure_threshold);
  out.Gauge("draining_connections", "Connections that the drain waits for.",
            status.connections_draining);
}

void WriteAgent(Exposition& out, const AgentStatus& status) {
  out.Counter("hooks_total", "Hooks run.", status.hooks_run);
  out.Counter("hook_failures_total", "Hooks that failed or ran out of time.", status.hooks_failed);
  out.Counter("orphans_reaped_total", "Orphaned processes reaped.", status.orphans_reaped);
  out.Counter("log_lines_lost_total", "Log lines that could not be written.",
              status.log_lines_lost);
  out.Counter("gateway_restarts_total", "Times that the gateway was replaced.",
              status.gateway_restarts);
}

void WriteGateway(Exposition& out, const GatewayStatus& gateway) {
  out.Gauge("gateway_sealed", "1 if the gateway's seccomp filter is installed.",
            gateway.sealed != 0);
  out.Counter("gateway_connections_accepted_total", "Connections accepted by this gateway.",
              gateway.connections_accepted);
  out.Counter("gateway_connections_refused_total",
              "Connections closed for want of room: at the limit, or out of descriptors.",
              gateway.connections_refused);
  out.Counter("gateway_connections_timed_out_total", "Connections closed for being too slow.",
              gateway.connections_timed_out);
  out.Gauge("gateway_connections_open", "Connections open now.", gateway.connections_open);
  out.Counter("gateway_requests_total", "Requests that were well-formed.", gateway.requests);
  out.Counter("gateway_bad_requests_total",
              "Requests that were refused: not valid HTTP, too large, or too slow.",
              gateway.bad_requests);
}

void WriteOutcomes(Exposition& out, const policy::TrafficStatus& traffic) {
  out.Counter("requests_total", "Requests that were well-formed.", traffic.requests);
  out.Begin("responses_total", "Requests that were answered, by status.", "counter");
  for (size_t i = 0; i < std::size(traffic.by_status); ++i) {
    if (traffic.by_status[i] == 0) continue;
    out.Sample("responses_total", Concat("code=\"", i + 100, '"'),
               std::to_string(traffic.by_status[i]));
  }
  out.Begin("requests_refused_total",
            "Requests that were not carried, or whose answer is not the server's, by reason.",
            "counter");
  for (size_t i = 0; i < policy::kRefusalCount; ++i) {
    const std::string_view reason = policy::RefusalName(static_cast<policy::Refusal>(i));
    out.Sample("requests_refused_total", Concat("reason=\"", reason, '"'),
               std::to_string(traffic.refused[i]));
  }
  out.Counter("clients_gone_total", "Clients that left before they had their answer.",
              traffic.client_gone);
  out.Counter("upstream_retries_total",
              "Requests sent again because an idle connection to the server had closed.",
              traffic.upstream_retries);
  out.Counter("websockets_opened_total", "WebSockets opened.", traffic.websockets_opened);
  out.Counter("received_bytes_total", "Bytes received from clients.", traffic.bytes_received);
  out.Counter("sent_bytes_total", "Bytes sent to clients.", traffic.bytes_sent);
}

void WriteLoad(Exposition& out, const AgentStatus& status, const GatewayStatus& gateway) {
  const policy::TrafficStatus& traffic = gateway.traffic;
  out.Gauge("requests_in_flight", "Requests that are with the server, WebSockets included.",
            traffic.in_flight);
  out.Gauge("requests_queued", "Requests that wait for a place (--max-concurrency).",
            traffic.queued);
  out.Gauge("requests_held", "Requests that wait for the server to be ready (--hold-requests).",
            traffic.held);
  out.Gauge("websockets", "WebSockets that are open.", traffic.websockets);
  out.Gauge("client_connections", "Connections of clients.", traffic.client_connections);
  out.Gauge("upstream_connections", "Connections to the server.", traffic.upstream_connections);
  out.Gauge("upstream_idle_connections", "Connections to the server that carry nothing now.",
            traffic.upstream_idle);
  out.Gauge("max_concurrency", "Requests that may be with the server at a time; 0: any number.",
            status.max_concurrency);
  out.Gauge("target_concurrency", "Requests in flight that autoscalers are to aim at; 0: not set.",
            status.target_concurrency);
  out.Gauge("gateway_threads", "Threads that carry requests.", gateway.threads);
}

std::string TrafficMetrics(const AgentStatus& status, const GatewayStatus& gateway) {
  Exposition out("modal_");
  WriteOutcomes(out, gateway.traffic);
  WriteLoad(out, status, gateway);
  out.Histogram("request_duration_seconds",
                "From the first byte of a request to the last of its answer.",
                gateway.traffic.latency);
  out.Histogram("upstream_duration_seconds",
                "From the sending of a request to the first byte of the server's answer.",
                gateway.traffic.upstream_latency);
  return out.Take();
}

}  // namespace

std::string Metrics(const AgentStatus& status, const GatewayStatus* gateway, int64_t now_unix_ms) {
  Exposition out("modal_agent_");
  WriteBuild(out, status, now_unix_ms);
  WritePhases(out, status);
  WriteReadiness(out, status);
  WriteBoot(out, status);
  WriteSnapshot(out, status);
  WriteWorkload(out, status);
  WriteAgent(out, status);
  if (gateway) WriteGateway(out, *gateway);
  std::string text = out.Take();
  if (gateway && gateway->carries) text += TrafficMetrics(status, *gateway);
  return text;
}

}  // namespace modal::health

#include "healthcheck/metrics.h"

#include <algorithm>

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

// A label's value may be any UTF-8 text; what we put there never needs more than this.
std::string LabelValue(std::string_view text) {
  std::string value;
  for (const char c : text) {
    const bool plain = c >= ' ' && c <= '~' && c != '"' && c != '\\';
    value += plain ? c : '?';
  }
  return value;
}

class Exposition {
 public:
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

  void Begin(std::string_view name, std::string_view help, std::string_view type) {
    text_ += Concat("# HELP modal_agent_", name, ' ', help, '\n');
    text_ += Concat("# TYPE modal_agent_", name, ' ', type, '\n');
  }
  // `labels` is empty, or `name="value"`.
  void Sample(std::string_view name, std::string_view labels, std::string_view value) {
    text_ += Concat("modal_agent_", name);
    if (!labels.empty()) text_ += Concat('{', labels, '}');
    text_ += Concat(' ', value, '\n');
  }

  std::string Take() { return std::move(text_); }

 private:
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

}  // namespace

std::string Metrics(const AgentStatus& status, const GatewayStatus* gateway, int64_t now_unix_ms) {
  Exposition out;
  WriteBuild(out, status, now_unix_ms);
  WritePhases(out, status);
  WriteReadiness(out, status);
  WriteWorkload(out, status);
  WriteAgent(out, status);
  if (gateway) WriteGateway(out, *gateway);
  return out.Take();
}

}  // namespace modal::health
